"""The folder of a run with made-up results: everything a report can show, without building or training anything."""

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from PIL import Image

from spatia.plotting import paper
from spatia.report.contents import write_result
from spatia.report.schema import (
    AnnotationResult,
    BenchmarkResult,
    BenchmarkTask,
    CheckFinding,
    Collapse,
    DrawnResult,
    EmbeddingResult,
    ExpressionResult,
    ExpressionTask,
    GroupsResult,
    ReconstructionResult,
    Resolution,
    RunFacts,
    SectionCheck,
    SectionFacts,
    SlideResult,
    SplitFacts,
    StepRecord,
    TrainingResult,
)

HOSTILE = "<script>alert(1)</script>"  # a gene of this name stands in every table
N_CELLS, N_CLUSTERS = 900, 7
GENES = ["KRT8", "CD3E", "PECAM1", HOSTILE, "$x_1$", "LUM"]
STEPS = {
    "check": 3.2, "build": 11.4, "split": 0.1, "draw": 2.0, "train": 312.0, "embed": 9.1, "cluster": 14.2, "domains": 2.2,
    "umap": 8.8, "annotate": 1.0, "expression": 21.0, "reconstruct": 3.0, "generate": 110.0, "benchmark": 44.0,
}  # fmt: skip


def write_run(out: Path, *, n_cells: int = N_CELLS) -> Path:
    """Write the folder of a finished run."""
    rng = np.random.default_rng(0)
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results"
    cells = _write_cells(out / "cells.h5ad", rng, n_cells)
    _write_run_file(out)
    _write_slide(out, n_cells)
    _write_pictures(out, rng)
    write_result(
        results / "training.json",
        TrainingResult(
            trained=True, model_id="0123456789abcdef" * 4, n_parameters=2_345_678, preset="tiny", n_train_cells=n_cells // 2,
            seconds=312, epochs={"cells": 12, "context": 6}, cells_per_second=70.0,
            loss_weights={"genes": 1.0, "image": 1.0, "contrastive": 0.1}, settings={"learning_rate": 1e-3, "batch": 128},
            collapse=Collapse(collapsed=False, effective_rank=41.2, most=192, message="the embedding uses about 41 directions of at most 192."),
        ),
    )  # fmt: skip
    write_result(
        results / "embedding.json",
        EmbeddingResult(
            n_cells=n_cells, width=256, use=("image", "genes"), gene_coverage={"breast": 1.0}, seconds=9.1, unusual_above=2.4,
            unusual_share=0.013, unusual_meaning="Distance of a cell to the training cells, in units in which these have mean 1.",
        ),
    )  # fmt: skip
    tried = tuple(
        Resolution(resolution=r, n_clusters=int(4 + 4 * r), stability=0.9 - 0.2 * abs(r - 0.8)) for r in (0.4, 0.8, 1.2)
    )
    for name, kind in (("clusters", "fused embedding"), ("domains", "niche embedding")):
        write_result(
            results / f"{name}.json",
            GroupsResult(method="Leiden", embedding=kind, n_groups=N_CLUSTERS, resolution=0.8, tried=tried),
        )
    _write_markers(results / "markers.parquet", rng)
    _write_expression(results, rng, cells)
    _write_reconstructions(results, rng)
    _write_drawn(results, rng)
    _write_benchmark(results, rng)
    write_result(results / "annotation.json", _annotation(rng))
    return out


def _write_cells(path: Path, rng: np.random.Generator, n: int) -> ad.AnnData:
    position = rng.uniform(0, (900, 640), (n, 2))
    domain = (np.hypot(position[:, 0] - 300, position[:, 1] - 300) // 130).astype(int).clip(0, 3)
    cluster = (domain + rng.integers(0, N_CLUSTERS - 3, n)).clip(0, N_CLUSTERS - 1)
    angle = cluster * 2 * np.pi / N_CLUSTERS
    umap = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 6 + rng.normal(size=(n, 2))
    names = np.array(["T cell", "tumour", "stroma", "endothelium", "B & plasma cell", HOSTILE, "other"])
    obs = pd.DataFrame(
        {
            "sample": pd.Categorical(np.full(n, "breast")),
            "n_counts": rng.poisson(160, n),
            "spatia_cluster": pd.Categorical(cluster.astype(str)),
            "spatia_domain": pd.Categorical(np.array(["core", "rim", "2", "3"])[domain]),
            "spatia_label": pd.Categorical(names[cluster]),
            "spatia_label_probability": rng.uniform(0.4, 1, n),
            "spatia_ood": rng.gamma(9, 1 / 9, n),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    counts = sp.csr_matrix(rng.poisson(0.6, (n, len(GENES))).astype(np.int32))
    cells = ad.AnnData(
        counts, obs, pd.DataFrame(index=GENES), obsm={"spatial": position, "X_umap": umap.astype(np.float32)}
    )
    cells.write_h5ad(path)
    return cells


def _write_run_file(out: Path) -> None:
    warnings = {"split": ("The slide is smaller than two windows: blocks are 116 µm and parts 54 µm apart.",)}
    run = RunFacts(
        command="spatia run outs -o OUT", started="2025-03-01T09:00:00+00:00", seed=0,
        versions={"spatia": "0.1.0", "torch": "2.13.0"}, machine={"processor": "x86_64", "cores": "2"},
        settings={"preset": "tiny", "labels_key": None}, peak_memory_bytes=2_400_000_000,
        steps=tuple(StepRecord(name=name, status="done", seconds=s, warnings=warnings.get(name, ())) for name, s in STEPS.items()),
    )  # fmt: skip
    write_result(out / "run.json", run)


def _write_slide(out: Path, n: int) -> None:
    findings = (
        CheckFinding(code="pixel-size", severity="ok", what="pixel size", found="0.85 µm", expected="0.05–3 µm"),
        CheckFinding(code="raw-counts", severity="ok", what="counts are raw", found="integers", expected="integers"),
        CheckFinding(
            code="gene-ids", severity="warning", what="gene identifiers", found=f"symbols only; first {HOSTILE}",
            expected="Ensembl ids", remedy="Genes are matched by symbol; give features.tsv.gz with ids to be sure.",
        ),
    )  # fmt: skip
    write_result(out / "check.json", (SectionCheck(sample="breast", refused=False, findings=findings),))
    section = SectionFacts(
        sample="breast", platform="xenium", n_cells=n, n_niches=80, n_windows=4, n_genes=313, channels=("DAPI",),
        median_counts=157, extent_um=(900, 640), um_per_px=0.85, organism="human",
    )  # fmt: skip
    split = SplitFacts(
        margin_um=54.4,
        rule="Spatial blocks of 116 µm, parts at least 54 µm apart.",
        n_cells={"train": n // 2, "validation": n // 9, "test": n // 6, "margin": n // 5},
    )
    write_result(out / "results" / "slide.json", SlideResult(sections=(section,), split=split))


def _write_pictures(out: Path, rng: np.random.Generator) -> None:
    (out / "figures").mkdir()
    (out / "model").mkdir()
    for name in ("qc.png", "figures/crops.png", "model/curves.png"):
        Image.fromarray(rng.integers(0, 255, (120, 400, 3), dtype=np.uint8)).save(out / name)


def _write_markers(path: Path, rng: np.random.Generator) -> None:
    rows = [
        (str(cluster), rank, GENES[(cluster + rank) % len(GENES)], 30.0 - 3 * rank, 2.5 - 0.2 * rank, 0.9, 0.2)
        for cluster in range(N_CLUSTERS)
        for rank in range(6)
    ]
    columns = ["cluster", "rank", "gene", "score", "log2_fold", "share_in", "share_out"]
    pd.DataFrame(rows, columns=columns).to_parquet(path)


def _write_expression(results: Path, rng: np.random.Generator, cells: ad.AnnData) -> None:
    genes = [f"GENE{i}" for i in range(40)] + [HOSTILE]
    task = ["image"] * 20 + ["imputation"] * 21
    pearson = np.clip(rng.normal(0.25, 0.12, 41), -0.05, 0.8)
    baseline = np.r_[pearson[:20] - rng.normal(0.03, 0.04, 20), pearson[20:] + rng.normal(0.02, 0.03, 21)]
    frame = pd.DataFrame(
        {"task": task, "gene": genes, "pearson": pearson, "baseline_pearson": baseline, "coverage": 0.9}
    )
    frame.to_parquet(results / "expression_genes.parquet")
    x = cells.obsm["spatial"][:, 0]
    parts = []
    for number, gene in enumerate(GENES):
        rate = 0.5 + np.sin(x / 120 + number) ** 2
        measured = np.log1p(rng.poisson(rate))
        predicted = np.log1p(rate) * 0.7 + rng.normal(0, 0.08, len(x))
        parts.append(
            pd.DataFrame(
                {
                    "cell_id": cells.obs_names, "sample": "breast", "gene": gene, "task": "image" if number < 4 else "imputation",
                    "measured": measured, "predicted": predicted, "lower": 0.0, "upper": 2.0, "held_out": x > 640,
                }
            )
        )  # fmt: skip
    pd.concat(parts).to_parquet(results / "predicted_genes.parquet")
    tasks = (
        ExpressionTask(
            name="image", n_cells=150, n_genes=20, mean_pearson=float(pearson[:20].mean()), baseline="ridge on image PCA",
            baseline_mean_pearson=float(baseline[:20].mean()), interval=0.9, coverage=0.93,
        ),
        ExpressionTask(
            name="imputation", n_cells=150, n_genes=21, mean_pearson=float(pearson[20:].mean()), baseline="ridge on PCA of the genes",
            baseline_mean_pearson=float(baseline[20:].mean()), interval=0.9, coverage=0.88,
        ),
    )  # fmt: skip
    because = "the best four and two in the middle of the ranking."
    write_result(
        results / "expression.json", ExpressionResult(tasks=tasks, shown_genes=tuple(GENES), shown_because=because)
    )


def _write_reconstructions(results: Path, rng: np.random.Generator) -> None:
    y, x = np.mgrid[:64, :64]
    radius = rng.uniform(8, 18, 12)[:, None, None]
    blob = 220 * np.exp(-((((x - 32) ** 2 + (y - 32) ** 2) / radius**2) ** 2))
    real = np.clip(blob + rng.normal(0, 20, blob.shape), 0, 255)[:, None].astype(np.uint8)
    smooth = blob[:, None].astype(np.uint8)
    np.savez(results / "reconstructions.npz", real=real, image=smooth, genes=(0.7 * smooth).astype(np.uint8))
    error = {"image": 16.2, "genes": 30.1, "mean": 34.0}
    write_result(
        results / "reconstructions.json", ReconstructionResult(n_cells=12, channels=("DAPI",), rgb=False, error=error)
    )


def _write_drawn(results: Path, rng: np.random.Generator) -> None:
    names = ("generated", "real", "nearest", "from_real", "began")
    images = {name: rng.integers(0, 256, (12, 1, 16, 16), dtype=np.uint8) for name in names}
    np.savez(results / "drawn.npz", **images)
    facts = DrawnResult(
        n_cells=12, channels=("DAPI",), rgb=False, n_images=12_000, seconds=95.0, evaluations=20, n_real=1_300
    )
    write_result(results / "drawn.json", facts)


def _write_benchmark(results: Path, rng: np.random.Generator) -> None:
    tasks = (
        BenchmarkTask(name="image_to_genes", title="Genes from the image", metric="pearson", measure="Pearson r"),
        BenchmarkTask(name="imputation", title="Hidden genes", metric="pearson", measure="Pearson r"),
        BenchmarkTask(name="retrieval", title="Image ↔ genes", metric="recall@10", measure="recall@10"),
    )
    means = {
        "spatia fused": (0.31, 0.40, 0.22), "spatia genes": (np.nan, 0.41, np.nan), "PCA": (np.nan, 0.44, np.nan),
        "PCA of crops": (0.24, np.nan, 0.21), "morphology": (0.28, 0.2, 0.12),
    }  # fmt: skip
    rows = [
        (task.name, "breast", method, task.metric, mean + rng.normal(0, 0.012), seed, "ok", "")
        for method, values in means.items()
        for task, mean in zip(tasks, values, strict=True)
        for seed in range(3)
        if np.isfinite(mean)
    ]
    rows.append(("imputation", "breast", "scVI", "", np.nan, 0, "skipped", "scvi-tools is not installed"))
    columns = ["task", "data", "method", "metric", "value", "seed", "status", "message"]
    (results / "benchmark").mkdir()
    pd.DataFrame(rows, columns=columns).to_parquet(results / "benchmark" / "rows.parquet")
    protocol = "The same held-out cells and the same simple predictor (ridge) for every method."
    write_result(results / "benchmark.json", BenchmarkResult(tasks=tasks, n_seeds=3, protocol=protocol))


def _annotation(rng: np.random.Generator) -> AnnotationResult:
    labels = ("T cell", "tumour", "stroma", "endothelium", "B & plasma cell", HOSTILE)
    confusion = rng.integers(0, 4, (6, 6)) + np.diag(rng.integers(15, 60, 6))
    return AnnotationResult(
        source="column 'cell_type'", labels=labels, n_labelled=700, judged="Each was held out once, with the block of tissue around it.", accuracy=0.81, macro_f1=0.77,
        abstained_share=0.06, abstain_below=0.5, calibration_error=0.031, confusion=tuple(map(tuple, confusion.tolist())),
        reliability=((0.55, 0.51, 40), (0.75, 0.78, 70), (0.95, 0.94, 110)),
    )  # fmt: skip


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with everything in it; tests that change it copy it first."""
    return write_run(tmp_path_factory.mktemp("run") / "out", n_cells=200)


@pytest.fixture(scope="module", autouse=True)
def coarse_figures() -> Iterator[None]:
    """Draw with few pixels: what is tested here is the page, and drawing it finely takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "DPI", 40)
        yield
