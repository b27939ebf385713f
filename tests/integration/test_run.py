"""`spatia run` from a slide to a report: resumed after a kill, redone where a setting changed, refused in one sentence."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.integration.small_runs import BUDGET, ENVIRONMENT

from spatia.corpus.lock import only_writer_of
from spatia.report.contents import RunFolder
from spatia.report.page import make_page
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate

pytestmark = pytest.mark.slow


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "spatia.cli.main", "-q", "run", *map(str, arguments)]


def spatia_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, env=ENVIRONMENT)


def steps(out: Path) -> dict[str, Any]:
    return {step["name"]: step for step in json.loads((out / "run.json").read_text())["steps"]}


@pytest.fixture(scope="module")
def small_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 300 cells; one gene of its panel has a hostile name."""
    out = tmp_path_factory.mktemp("slide") / "tissue"
    settings = SimulationSettings(n_cells=300, n_genes=60, seed=3, um_per_px=0.425, transcripts=False)
    simulate(out, settings)
    return out


@pytest.fixture(scope="module")
def labelled(small_slide: Path) -> Path:
    """A table with the types of half of the cells."""
    truth = pd.read_parquet(small_slide / "truth" / "cells.parquet")[["cell_id", "type"]]
    path = small_slide.parent / "labels.csv"
    truth.iloc[::2].rename(columns={"type": "label"}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def finished(small_slide: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("run") / "out"
    done = spatia_run(small_slide, "-o", out, "--annotations", labelled, *BUDGET)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_every_step_is_told_with_its_time(finished: tuple[Path, str]) -> None:
    out, told = finished
    lines = [line.split() for line in told.splitlines()]
    assert [line[0] for line in lines[:-1]] == list(steps(out))
    assert all(line[2] == "s" for line in lines[:-1])
    assert lines[-1] == ["report:", str(out / "report.html")]
    assert {step["status"] for step in steps(out).values()} == {"done"}


def test_the_cells_have_embeddings_and_groups_beside_their_own_columns(finished: tuple[Path, str]) -> None:
    cells = ad.read_h5ad(finished[0] / "cells.h5ad")
    assert cells.n_obs == 300
    for name in ("X_spatia", "X_spatia_cell", "X_spatia_niche", "X_spatia_tissue", "X_umap"):
        assert np.isfinite(cells.obsm[name]).all(), name
    assert {"spatia_cluster", "spatia_domain", "spatia_label", "spatia_label_probability", "spatia_ood"} <= set(
        cells.obs
    )
    assert cells.obs["spatia_cluster"].dtype == "category"
    assert {"sample", "n_counts", "has_image"} <= set(cells.obs)


def test_niches_and_windows_are_tables_of_their_own(finished: tuple[Path, str]) -> None:
    niches, windows = (ad.read_h5ad(finished[0] / name) for name in ("niches.h5ad", "tissues.h5ad"))
    assert niches.n_obs == 300
    np.testing.assert_allclose(niches.obsm["spatia_domain_share"].sum(axis=1), 1)
    assert np.isfinite(windows.obsm["X_spatia_tissue"]).all()
    counts = [ad.read_h5ad(finished[0] / "cells.h5ad").X.sum(), windows.X.sum()]
    assert counts[0] == counts[1]


def test_the_report_shows_every_section(finished: tuple[Path, str]) -> None:
    page = make_page(RunFolder(finished[0]))
    assert [section.anchor for section in page.sections if section.absent] == []
    assert page.verdict == "complete"
    assert len(page.sentences) >= 7


def test_held_out_cells_share_no_crop_with_training(finished: tuple[Path, str]) -> None:
    split = json.loads((finished[0] / "corpus" / "splits" / "held-out.json").read_text())
    assert split["proof"]["least_distance_um"] >= 27.2
    assert min(split["proof"]["n_cells"][part] for part in ("train", "validation", "test")) > 0


def test_a_second_run_does_nothing_again(finished: tuple[Path, str], small_slide: Path, labelled: Path) -> None:
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "model" / "model.safetensors", out / "cells.h5ad")}
    again = spatia_run(small_slide, "-o", out, "--annotations", labelled, *BUDGET)
    assert again.returncode == 0, again.stderr
    assert all("(there)" in line for line in again.stdout.splitlines()[:-1])
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_changed_setting_redoes_what_reads_it_and_nothing_else(
    finished: tuple[Path, str], small_slide: Path, labelled: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "out"))
    again = spatia_run(small_slide, "-o", out, *BUDGET, "--no-benchmark")
    assert again.returncode == 0, again.stderr
    redone = {line.split()[0] for line in again.stdout.splitlines()[:-1] if "(there)" not in line}
    assert redone == {"annotate", "benchmark", "collect", "levels"}
    assert "spatia_label" not in ad.read_h5ad(out / "cells.h5ad", backed="r").obs
    absent = {section.anchor: section.absent for section in make_page(RunFolder(out)).sections if section.absent}
    assert set(absent) == {"annotation", "benchmark"}
    assert "--annotations" in absent["annotation"]


def test_a_run_that_is_killed_again_and_again_goes_on_where_it_stopped(
    finished: tuple[Path, str], small_slide: Path, labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (small_slide, "-o", out, "--annotations", labelled, "--no-benchmark", *BUDGET)
    for killed_in in ("build", "train", "cluster"):
        kill_in(killed_in, out, arguments)
        assert steps(out)[killed_in]["status"] == "running"
    again = spatia_run(*arguments)
    assert again.returncode == 0, again.stderr
    told = {line.split()[0]: line for line in again.stdout.splitlines()}
    earlier = list(steps(out))[: list(steps(out)).index("cluster")]
    assert all("(there)" in told[name] for name in earlier)
    assert "(there)" not in told["cluster"]
    unbroken, killed = (ad.read_h5ad(folder / "cells.h5ad") for folder in (finished[0], out))
    np.testing.assert_array_equal(unbroken.obsm["X_spatia"], killed.obsm["X_spatia"])
    assert (unbroken.obs["spatia_cluster"] == killed.obs["spatia_cluster"]).all()


def kill_in(step: str, out: Path, arguments: tuple[object, ...]) -> None:
    """Start a run and kill it, with all its processes, as soon as it is in a step."""
    process = subprocess.Popen(
        command(*arguments),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None:
        if (out / "run.json").is_file() and steps(out).get(step, {}).get("status") == "running":
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    assert process.wait() == -signal.SIGKILL, f"the run ended before step {step!r} was seen"


def test_a_model_that_is_given_is_not_trained(finished: tuple[Path, str], small_slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = spatia_run(small_slide, "-o", out, "--model", finished[0] / "model", "--no-benchmark")
    assert done.returncode == 0, done.stderr
    assert not (out / "model").exists()
    trained, given = (ad.read_h5ad(folder / "cells.h5ad").obsm["X_spatia"] for folder in (finished[0], out))
    np.testing.assert_array_equal(trained, given)
    assert "No model was trained" in (out / "report.html").read_text()


def test_a_refused_slide_ends_in_one_sentence(small_slide: Path, tmp_path: Path) -> None:
    slide, out = Path(shutil.copytree(small_slide, tmp_path / "slide")), tmp_path / "out"
    cells = pd.read_parquet(slide / "cells.parquet")
    cells["cell_id"] = cells["cell_id"].iloc[0]
    cells.to_parquet(slide / "cells.parquet")
    refused = spatia_run(slide, "-o", out)
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].startswith("spatia: error: ")
    assert "Traceback" not in refused.stderr
    assert not (out / "corpus").exists()
    page = make_page(RunFolder(out))
    assert page.verdict == "stopped"
    assert "refused" in page.sentences[0]


@pytest.fixture(scope="module")
def without_image(small_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a bare table of counts, one gene of which has a hostile name."""
    folder = tmp_path_factory.mktemp("table")
    truth = pd.read_parquet(small_slide / "truth" / "cells.parquet")
    counts = np.random.default_rng(0).poisson(2, (len(truth), 40)).astype(np.float32)
    counts[: len(truth) // 2, 0] += 20  # so that it is a marker of a cluster
    table = ad.AnnData(counts)
    table.obs_names = truth["cell_id"].astype(str)
    table.var_names = ["<script>alert(1)</script>", *(f"GENE{i}" for i in range(39))]
    table.obsm["spatial"] = truth[["x_true_um", "y_true_um"]].to_numpy()
    table.write_h5ad(folder / "counts.h5ad")
    options = ("--no-image", "--no-benchmark", *BUDGET)
    done = spatia_run("--counts", folder / "counts.h5ad", "-o", folder / "out", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def test_a_slide_without_an_image_goes_all_the_way(without_image: Path) -> None:
    absent = {
        section.anchor: section.absent for section in make_page(RunFolder(without_image)).sections if section.absent
    }
    assert set(absent) == {"crops", "reconstructions", "drawn", "annotation", "benchmark"}
    assert "no image" in absent["crops"]
    assert {task.name for task in RunFolder(without_image).expression.tasks} == {"imputation"}


def test_a_hostile_gene_name_is_shown_and_not_run(without_image: Path) -> None:
    html = (without_image / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--set", "learning_rat=1"), "unknown setting 'learning_rat'"),
        (("--labels-key", "a", "--annotations", "b.csv"), "not both"),
        (("--annotations", "nowhere.csv"), "nowhere.csv: no such file"),
    ],
)
def test_wrong_use_is_said_at_once(
    small_slide: Path, tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    refused = spatia_run(small_slide, "-o", tmp_path / "out", *arguments)
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_write_one_folder(small_slide: Path, tmp_path: Path) -> None:
    with only_writer_of(tmp_path, "run"):
        refused = spatia_run(small_slide, "-o", tmp_path)
    assert refused.returncode == 2
    assert "another run is writing this folder" in refused.stderr


def test_a_folder_with_other_things_is_left_alone(small_slide: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    refused = spatia_run(small_slide, "-o", tmp_path)
    assert refused.returncode == 2
    assert "is not empty, and not the folder of a run" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
