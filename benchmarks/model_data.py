"""Make the data sets of benchmarks/model.py in a cache folder: corpora, labels by cell id, one JSON file each."""

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import tifffile
from PIL import Image

from spatia.bench.dataset import DataSet, write_dataset
from spatia.bench.suites import simulated_corpus, truth_labels
from spatia.corpus.build import build
from spatia.corpus.settings import BuildSettings, NicheSettings, Nuclei
from spatia.errors import SpatiaError
from spatia.io.source import Source
from spatia.simulate.celltypes import STATES
from spatia.tasks.leiden import leiden, neighbour_graph

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
STARMAP_UM_PER_PX = 0.1  # the published field, 1.4 mm, over 13,800 px; the table gives no unit
MERSCOPE_UM_PER_PX, MERSCOPE_ORIGIN_UM = 0.1086266, (6400.029, 4699.967)
OSMFISH_UM_PER_PX = 0.065  # size_um2 over size_pix of the loom file


def breast(work: Path) -> list[Path]:
    """Xenium breast: 2,189 cells, DAPI, 16 expression clusters."""
    corpus = built(work / "breast", [Source("xenium_breast", REAL / "xenium_breast" / "outs")])
    data = DataSet(
        name="xenium breast", corpus=corpus, labels=REAL / "xenium_breast" / "clusters.csv", cell_type="cluster"
    )
    return [write_dataset(data, work / "breast.json")]


def breast_nuclei(work: Path) -> list[Path]:
    """The same slide with nuclei found by its stain: the bundle has outlines of cells alone."""
    source = Source("xenium_breast", REAL / "xenium_breast" / "outs")
    corpus = built(work / "breast_nuclei", [source], nuclei="stain")
    labels = REAL / "xenium_breast" / "clusters.csv"
    data = DataSet(name="xenium breast, nuclei by stain", corpus=corpus, labels=labels, cell_type="cluster")
    return [write_dataset(data, work / "breast_nuclei.json")]


def melc(work: Path) -> list[Path]:
    """MELC: 529 cells, 42 protein intensities, DAPI and CD45, 9 named types."""
    folder = REAL / "melc_protein"
    source = Source(
        "melc",
        counts=folder / "melc.h5ad",
        image=folder / "dapi_cd45.tif",
        um_per_px=0.45,
        channels=("DAPI", "CD45"),
        measure="intensity",
    )
    corpus = built(work / "melc", [source])
    data = DataSet(name="melc protein", corpus=corpus, cell_type="Clusters", block_um=150, test=0.3)
    return [write_dataset(data, work / "melc.json")]


def merscope(work: Path) -> list[Path]:
    """MERSCOPE mouse brain: 505 cells, 559 genes, DAPI and polyT in one file, outlines; types are Leiden groups of expression."""
    folder, image, outlines = REAL / "merscope_brain", work / "merscope.tif", work / "merscope_outlines.parquet"
    cells = ad.read_h5ad(folder / "cells_derived.h5ad")
    if not image.exists():
        stains = [Image.open(folder / "images" / f"mini_dataset_{name}_z0.jpg") for name in ("dapi", "polyT")]
        tifffile.imwrite(image, np.stack([np.asarray(one.convert("L")) for one in stains]), photometric="minisblack")
    if not outlines.exists():
        table = pd.read_csv(folder / "cell_boundaries" / "z0_polygons.gz", dtype={"poly_ID": str})
        table = table.rename(columns={"poly_ID": "cell_id"}).assign(y=-table["y"])  # the file's y is negative
        table[table["cell_id"].isin(cells.obs_names)].to_parquet(outlines, index=False)
    source = Source(
        "merscope_brain",
        counts=folder / "cells_derived.h5ad",
        image=image,
        outlines=outlines,
        um_per_px=MERSCOPE_UM_PER_PX,
        image_origin_um=MERSCOPE_ORIGIN_UM,
        channels=("DAPI", "PolyT"),
    )
    corpus = built(work / "merscope", [source])
    labels = work / "merscope_labels.parquet"
    if not labels.exists():
        cells = cells[np.asarray(cells.X.sum(axis=1)).ravel() >= DataSet.model_fields["least_counts"].default].copy()
        sc.pp.normalize_total(cells)
        sc.pp.log1p(cells)
        sc.pp.pca(cells, n_comps=20, random_state=0)
        groups = leiden(neighbour_graph(cells.obsm["X_pca"]), [1.0])[0]
        pd.DataFrame({"cell_id": cells.obs_names, "group": groups}).to_parquet(labels, index=False)
    data = DataSet(name="merscope brain", corpus=corpus, labels=labels, cell_type="group", block_um=100, test=0.3)
    return [write_dataset(data, work / "merscope.json")]


def starmap(work: Path) -> list[Path]:
    """STARmap cortex: 1,549 cells, 1,020 genes, 16 types, 7 layers for 1,207 cells; no image."""
    folder = REAL / "tables" / "starmap_by3"
    table = work / "starmap.h5ad"
    if not table.exists():
        cells = ad.read_h5ad(folder / "starmap_BY3_1k.h5ad")
        cells.obsm["spatial"] = cells.obs[["x", "y"]].to_numpy(np.float64) * STARMAP_UM_PER_PX
        cells.obs = cells.obs.drop(columns=["x", "y"])
        cells.write_h5ad(table)
    corpus = built(work / "starmap", [Source("starmap", counts=table)])
    layers = pd.read_csv(folder / "Starmap_BY3_1k_meta_annotated_18oct22.csv", index_col=0)
    cells = ad.read_h5ad(table, backed="r").obs
    labels = pd.DataFrame(
        {"cell_id": cells.index.astype(str), "cell_type": cells["cluster_name"].astype(str).to_numpy()}
    )
    labels["layer"] = layers["smoothed_manual"].reindex(cells.index.astype(int)).to_numpy()
    labels.to_parquet(work / "starmap_labels.parquet")
    data = DataSet(
        name="starmap cortex",
        corpus=corpus,
        labels=work / "starmap_labels.parquet",
        cell_type="cell_type",
        domain="layer",
        block_um=150,
    )
    return [write_dataset(data, work / "starmap.json")]


def osmfish(work: Path) -> list[Path]:
    """osmFISH cortex: 5,328 cells, 33 genes, 32 types, 12 regions; no image."""
    folder = REAL / "tables" / "osmfish_sscortex"
    table = work / "osmfish.h5ad"
    if not table.exists():
        expression = pd.read_csv(folder / "osmFISH_prep_expression.txt", sep="\t", index_col=0).T
        place = pd.read_csv(folder / "osmFISH_prep_cell_coordinates.txt", sep="\t", index_col="ID")
        counts = ad.AnnData(expression.astype(np.float32))
        counts.obsm["spatial"] = place.loc[counts.obs_names, ["X", "Y"]].to_numpy(np.float64) * OSMFISH_UM_PER_PX
        counts.write_h5ad(table)
    corpus = built(work / "osmfish", [Source("osmfish", counts=table)])
    labels = pd.read_csv(folder / "osmFISH_prep_cell_metadata.txt", sep="\t").rename(columns={"CellID": "cell_id"})
    labels.to_parquet(work / "osmfish_labels.parquet")
    data = DataSet(
        name="osmfish cortex",
        corpus=corpus,
        labels=work / "osmfish_labels.parquet",
        cell_type="ClusterName",
        domain="Region",
        block_um=300,
    )
    return [write_dataset(data, work / "osmfish.json")]


def mouse_brain(work: Path) -> list[Path]:
    """Xenium mouse brain: 36,602 cells, 248 genes; no image, no labels."""
    corpus = built(work / "mouse_brain", [Source("mouse_brain", REAL / "tables" / "xenium_mouse_brain_36k")])
    return [write_dataset(DataSet(name="xenium mouse brain", corpus=corpus, block_um=435.2), work / "mouse_brain.json")]


def cosmx_lung(work: Path) -> list[Path]:
    """CosMx lung: 9,233 cells, 960 genes; no image, no labels."""
    corpus = built(work / "cosmx_lung", [Source("cosmx_lung", REAL / "tables" / "cosmx_lung9_p9s1", um_per_px=0.18)])
    return [write_dataset(DataSet(name="cosmx lung", corpus=corpus, block_um=200), work / "cosmx_lung.json")]


def simulated(work: Path, n_cells: int, seeds: int) -> list[Path]:
    """Slides of two donors, one pair a seed: split by donor, and by blocks within both."""
    paths = []
    for seed in range(seeds):
        name = f"simulated_{n_cells}_{seed}"
        slides, labels = work / f"{name}_slides", work / f"{name}_labels.parquet"
        corpus = work / name
        if not corpus.exists():
            simulated_corpus(work, name, n_cells=n_cells, n_sections=2, n_donors=2, seed=seed)
        if not labels.exists():
            truth_labels(slides).to_parquet(labels)
        for split in ("donor", "block"):
            data = DataSet(
                name=f"simulated {2 * n_cells:,} cells, {'other donor' if split == 'donor' else 'blocks'}",
                corpus=corpus,
                labels=labels,
                cell_type="type",
                domain="domain",
                states=tuple(f"state_{state}" for state in STATES),
                split=split,
                test=0.5 if split == "donor" else 0.2,
                validation=0.0 if split == "donor" else 0.1,
                only_seed=seed,
            )
            paths.append(write_dataset(data, work / f"{name}_{split}.json"))
    return paths


def built(corpus: Path, sources: list[Source], nuclei: Nuclei = "outlines") -> Path:
    """Build a corpus as `spatia run` does, unless it is there."""
    if (corpus / "corpus.json").exists():
        return corpus
    if not REAL.exists() and any(str(REAL) in source.where for source in sources):
        raise SpatiaError(f"{REAL}: no such folder. The real slides are not part of the project; give other corpora.")
    print(f"building {corpus}", file=sys.stderr)
    settings = BuildSettings(niches=NicheSettings(definition="knn"), nuclei=nuclei)  # niches as `spatia run` has them
    result = build(sources, corpus, settings)
    if result.exit_code:
        raise SpatiaError("; ".join(section.message for section in result.sections if section.message))
    return corpus
