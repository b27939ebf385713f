"""A tiny corpus in the format of ``docs/corpus-format.md``, written without ``spatia build``.

Every value says where it belongs: the pixels and counts of a cell are functions of its section and row, so that a test
can tell a misplaced row from a right one.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from numpy.typing import NDArray

PX = {"cell": 8, "niche": 8, "tissue": 16}
SIZE_UM = {"cell": 27.2, "niche": 54.4, "tissue": 435.2}
CHUNK_ROWS, SHARD_ROWS = 4, 16


@dataclass(frozen=True)
class TinySection:
    """What to write for one section."""

    sample: str
    number: int  # enters every value
    genes: tuple[str, ...]
    channels: tuple[str, ...] = ("DAPI",)
    outlines: bool = True
    n_windows: int = 4
    features: tuple[str, ...] = ()  # measured of the cells that have an outline
    cell_type: Sequence[str] = field(default=("tumour", "tumour", "tumour", "immune"))


def cell_counts(section: TinySection, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of cells over the section's own panel."""
    return (rows[:, None] + 3 * np.arange(len(section.genes)) + section.number) % 4


def pixel(section: TinySection, rows: NDArray[np.int64], channel: int) -> NDArray[np.int64]:
    """The one intensity of a crop."""
    return 1 + (7 * rows + 31 * section.number + 101 * channel) % 255


def crops(section: TinySection, rows: NDArray[np.int64], px: int) -> NDArray[np.uint8]:
    """Crops of constant intensity, (n, C, px, px)."""
    values = np.stack([pixel(section, rows, c) for c in range(len(section.channels))], axis=1)
    return np.broadcast_to(values[:, :, None, None], (*values.shape, px, px)).astype(np.uint8)


def window_sizes(section: TinySection) -> list[list[int]]:
    """Cells of every niche of every window."""
    rng = np.random.default_rng(section.number)
    return [rng.integers(1, 8, rng.integers(2, 5)).tolist() for _ in range(section.n_windows)]


def write_corpus(
    path: Path, sections: Sequence[TinySection], definition: str = "grid", px: dict[str, int] = PX
) -> Path:
    """Write a corpus with a split ``block`` (first windows train, one margin, the rest test)."""
    entries, parts = {}, {part: {} for part in ("train", "margin", "test")}
    genes = list(dict.fromkeys(gene for section in sections for gene in section.genes))
    for section in sections:
        ends = _write_section(path / "sections" / section.sample, section, definition, px)
        entries[section.sample] = _entry(path / "sections" / section.sample, section, ends, definition)
        half = len(ends) // 2
        for part, (a, b) in {"train": (0, half), "margin": (half, half + 1), "test": (half + 1, len(ends))}.items():
            bounds = [0, *ends]
            if bounds[a] < bounds[b]:  # windows without a cell
                parts[part][section.sample] = [[bounds[a], bounds[b]]]
    frame = pd.DataFrame({"gene_id": genes, "symbol": genes, "organism": "human"})
    frame.to_parquet(path / "genes.parquet")
    digest = hashlib.sha256((path / "genes.parquet").read_bytes()).hexdigest()
    content = {
        "format": "spatia-corpus",
        "format_version": 1,
        "spatia_version": "0",
        "levels": {level: {"size_um": SIZE_UM[level], "px": px[level]} for level in px},
        "niches": {"definition": definition},
        "channels": list(dict.fromkeys(c for section in sections for c in section.channels)),
        "n_genes": len(genes),
        "genes_sha256": digest,
        "sections": entries,
    }
    (path / "corpus.json").write_text(json.dumps(content))
    (path / "splits").mkdir()
    split = {"name": "block", "by": "block", "seed": 0, "settings": {}, "parts": parts}
    (path / "splits" / "block.json").write_text(json.dumps(split))
    return path


def _write_section(path: Path, section: TinySection, definition: str, px: dict[str, int]) -> list[int]:
    """Write the three stores and the small files; return the row at which each window's cells end."""
    path.mkdir(parents=True)
    sizes = window_sizes(section)
    niche_size = np.array([n for window in sizes for n in window])
    niche_end, n = np.cumsum(niche_size), int(niche_size.sum())
    window_niches = np.array([len(window) for window in sizes])
    window_end = np.cumsum([sum(window) for window in sizes])
    rows = np.arange(n)
    grid = definition == "grid"

    def columns(prefix: str, end: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        return {f"{prefix}_start": np.concatenate([[0], end[:-1]]), f"{prefix}_stop": end}

    obs = pd.DataFrame(index=[f"{section.sample}-{row}" for row in rows])
    obs["cell_type"] = pd.Categorical([section.cell_type[row % len(section.cell_type)] for row in rows])
    obs["tissue"] = np.searchsorted(window_end, rows, side="right")
    if grid:
        obs["niche"] = np.searchsorted(niche_end, rows, side="right")
    obs["has_outline"] = section.outlines & (rows % 5 != 0)
    obs["has_image"] = bool(section.channels) & (rows % 7 != 0)
    obs["image_share"] = np.where(obs["has_image"], 1.0, 0.0).astype(np.float32)
    masks = np.where(obs["has_outline"], 3, 0)[:, None, None] * np.ones((px["cell"],) * 2)
    large = {"single_cell_mask": masks if section.outlines else None}
    measured = (rows[:, None] % 11 + 2.0 * np.arange(len(section.features))) + 1
    measured = np.where(obs["has_outline"].to_numpy()[:, None], measured, np.nan).astype(np.float32)
    frames = {"morphology": pd.DataFrame(measured, columns=list(section.features))} if section.features else {}
    if section.channels:
        seen = obs["has_image"].to_numpy()[:, None, None, None]
        large["single_cell_images"] = crops(section, rows, px["cell"]) * seen
    _write_store(path / "cells.zarr", section, cell_counts(section, rows), obs, large, frames=frames)

    if grid:
        niche_cells = [rows[a:b] for a, b in zip(niche_end - niche_size, niche_end, strict=True)]
        niche_obs = pd.DataFrame({"n_cells": niche_size, **columns("cell", niche_end)})
        tissue_niches = columns("niche", np.cumsum(window_niches))
    else:  # the two cells before and after in the same section
        niche_cells = [rows[max(0, row - 2) : row + 3] for row in rows]
        niche_obs = pd.DataFrame({"n_cells": [len(cells) for cells in niche_cells], "tissue": obs["tissue"].to_numpy()})
        tissue_niches = {}
    indptr = np.cumsum([0, *(len(cells) for cells in niche_cells)])
    members = sp.csr_matrix((np.ones(indptr[-1], bool), np.concatenate(niche_cells), indptr), (len(niche_cells), n))
    pooled = members.astype(int) @ cell_counts(section, rows)
    number = np.arange(len(niche_cells))
    large = {"images": crops(section, number, px["niche"]) if section.channels else None}
    _write_store(path / "niches.zarr", section, pooled, niche_obs, large, members)

    tissue_obs = pd.DataFrame({"n_cells": np.diff([0, *window_end]), **columns("cell", window_end), **tissue_niches})
    pooled = np.add.reduceat(cell_counts(section, rows), np.concatenate([[0], window_end[:-1]]))
    large = {"images": crops(section, np.arange(len(sizes)), px["tissue"]) if section.channels else None}
    _write_store(path / "tissues.zarr", section, pooled, tissue_obs, large)
    (path / "section.json").write_text(json.dumps({"sample": section.sample, "channels": list(section.channels)}))
    write_manifest(path)
    return window_end.tolist()


def _write_store(path, section, counts, obs, large, members=None, frames=None) -> None:
    obs.index = obs.index.astype(str)
    n = len(obs)
    table = ad.AnnData(sp.csr_matrix(counts.astype(np.uint16)), obs=obs, var=pd.DataFrame(index=list(section.genes)))
    table.var.index.name = "gene_id"
    table.obsm["spatial"] = np.stack([np.arange(n) * 10.0, np.full(n, 5.0 + section.number)], axis=1)
    for name, frame in (frames or {}).items():
        table.obsm[name] = frame.set_index(table.obs_names)
    if members is not None:
        table.obsm["members"] = members
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata and zarr announce future defaults
        with ad.settings.override(zarr_write_format=3):
            table.write_zarr(path)
        group = zarr.open_group(path, mode="a")["obsm"]
        for name, values in large.items():
            if values is None:
                continue
            array = group.create_array(
                name,
                shape=values.shape,
                dtype="u1",
                chunks=(CHUNK_ROWS, *values.shape[1:]),
                shards=(SHARD_ROWS, *values.shape[1:]),
                attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
            )
            array[:] = values.astype(np.uint8)
        zarr.consolidate_metadata(path)


def write_manifest(section: Path) -> None:
    """Write ``manifest.json`` for the files that are there."""
    files = sorted(p for p in section.rglob("*") if p.is_file() and p.name != "manifest.json")
    records = {
        p.relative_to(section).as_posix(): {
            "bytes": p.stat().st_size,
            "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
        }
        for p in files
    }
    (section / "manifest.json").write_text(json.dumps({"files": records}))


def _entry(path: Path, section: TinySection, ends: list[int], definition: str) -> dict[str, object]:
    sizes = window_sizes(section)
    return {
        "n_cells": ends[-1],
        "n_niches": sum(map(len, sizes)) if definition == "grid" else ends[-1],
        "n_tissues": len(sizes),
        "n_genes": len(section.genes),
        "channels": list(section.channels),
        "donor": None,
        "platform": "xenium",
        "manifest_sha256": hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest(),
    }


SECTIONS = (
    TinySection("left", 1, ("EPCAM", "CD3E", "ACTB"), ("DAPI", "boundary"), n_windows=7),
    TinySection("right", 2, ("ACTB", "VIM"), ("RNA", "DAPI"), outlines=False, n_windows=4),
    TinySection("bare", 3, ("CD3E", "MS4A1", "VIM", "EPCAM"), (), n_windows=5, cell_type=("stroma", "immune")),
)


@dataclass(frozen=True)
class Tiny:
    """A tiny corpus on disk and what is in it."""

    path: Path
    sections: tuple[TinySection, ...]
    cell_counts: ClassVar[Callable] = staticmethod(cell_counts)
    pixel: ClassVar[Callable] = staticmethod(pixel)
    write: ClassVar[Callable] = staticmethod(write_corpus)
    write_manifest: ClassVar[Callable] = staticmethod(write_manifest)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Three sections: other panels, other channels, one without outlines, one without image. Do not change it."""
    return Tiny(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", SECTIONS), SECTIONS)


@pytest.fixture(scope="session")
def tiny_knn_corpus(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The same with a niche around every cell."""
    return Tiny(write_corpus(tmp_path_factory.mktemp("knn") / "corpus", SECTIONS, "knn"), SECTIONS)


@pytest.fixture
def damaged_corpus(tmp_path: Path) -> Tiny:
    """One section of its own for a test to damage."""
    return Tiny(write_corpus(tmp_path / "corpus", SECTIONS[:1]), SECTIONS[:1])
