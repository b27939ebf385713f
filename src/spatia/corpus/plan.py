"""Decide where everything goes: the order of cells on disk, niches, tissue windows. Arrays over cells stay on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatia.corpus.canvas import Canvas, CanvasPlan
from spatia.corpus.expression import normalised, read_counts
from spatia.corpus.niches import NEIGHBOURHOODS, TissueCells, partition_of
from spatia.corpus.order import Windows, grid_windows, hilbert_within, ranges_of
from spatia.corpus.settings import BuildSettings, Nuclei
from spatia.corpus.spill import Spill, bucket_bounds
from spatia.io.source import Source


@dataclass(frozen=True)
class SectionPlan:
    """What every task of a section's build needs; small and picklable.

    Attributes
    ----------
    store
        Folder in which the section's stores grow.
    scratch
        Folder of intermediate files, removed at the end.
    canvas
        How the image is decoded; None without an image.
    outlines
        Where cell outlines come from: "vertices", "labels", or None.
    nuclei
        Where those of nuclei come from: the slide, its nuclear stain, or None.
    """

    source: Source
    settings: BuildSettings
    store: Path
    scratch: Path
    channels: tuple[str, ...]
    rgb: bool
    anchor_um: tuple[float, float]
    canvas: CanvasPlan | None
    outlines: str | None
    nuclei: Nuclei | None
    n_cells: int
    n_genes: int

    @property
    def has_nucleus(self) -> bool:
        """Whether nuclei are masked and measured."""
        return self.nuclei is not None

    @property
    def canvas_folder(self) -> Path:
        """Folder of the decoded tiles."""
        return self.scratch / "canvas"

    def open_canvas(self) -> Canvas:
        """Return the decoded image."""
        if self.canvas is None:
            raise RuntimeError(f"{self.source.sample}: there is no image to read windows from")
        return Canvas(self.canvas, self.canvas_folder)

    @property
    def niches_around_cells(self) -> bool:
        """Whether there is a niche around every cell (else niches partition the cells)."""
        return self.settings.niches.definition in NEIGHBOURHOODS

    def array(self, name: str) -> NDArray[Any]:
        """Map an array that planning saved (names: see :func:`save_layout`)."""
        return np.load(self.scratch / f"{name}.npy", mmap_mode="r")

    def spill(self, name: str) -> Spill:
        """Open the buckets of ``counts``, ``cell_outlines`` or ``nucleus_outlines``."""
        return Spill(self.scratch / name, np.load(self.scratch / "bucket_bounds.npy"))


@dataclass(frozen=True)
class Layout:
    """The order on disk.

    Attributes
    ----------
    order
        (n_cells,) the vendor's row of each row on disk.
    tissue, niche
        (n_cells,) tissue window and partition niche of each row on disk, ascending.
    niche_tissue
        (n_niches,) tissue window of each niche.
    niche_centre_um, tissue_centre_um
        Centres of the windows cut for them.
    """

    order: NDArray[np.int64]
    tissue: NDArray[np.int64]
    niche: NDArray[np.int64]
    niche_tissue: NDArray[np.int64]
    niche_centre_um: NDArray[np.float64]
    tissue_centre_um: NDArray[np.float64]


def sort_by_tissue(
    position_um: NDArray[np.float64], settings: BuildSettings, anchor_um: tuple[float, float]
) -> tuple[Windows, NDArray[np.int64], NDArray[np.int64]]:
    """Return tissue windows, each cell's row when sorted by window alone, and the bounds of the buckets of rows.

    Buckets never split a window: niches and tissue windows can be pooled a bucket at a time.
    """
    tissues = grid_windows(position_um, settings.tissue.size_um, anchor_um)
    order = np.argsort(tissues.of_cell, kind="stable")
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    start, _ = ranges_of(tissues.of_cell[order], len(tissues.grid))
    return tissues, row, bucket_bounds(start, len(order), settings.spill_cells)


def lay_out(
    position_um: NDArray[np.float64],
    tissues: Windows,
    tissue_row: NDArray[np.int64],
    counts: Spill,
    n_genes: int,
    depth: float,
    settings: BuildSettings,
) -> Layout:
    """Assign niches and fix the order on disk.

    Parameters
    ----------
    position_um
        (n_cells, 2) in the vendor's order, like ``tissue_row``, the cell's row when sorted by tissue window.
    counts
        Spilled counts by ``tissue_row``; read only where the definition asks for expression.
    depth
        Molecules a cell is scaled to in normalised expression.
    """
    label = _assign_niches(position_um, tissues, tissue_row, counts, n_genes, depth, settings)
    key = tissues.of_cell * (int(label.max()) + 1) + label
    niches, niche = np.unique(key, return_inverse=True)
    size = np.bincount(niche)
    centre = np.stack([np.bincount(niche, position_um[:, axis]) / size for axis in (0, 1)], axis=1)
    niche_tissue = niches // (int(label.max()) + 1)
    corner = tissues.centre_um - tissues.size_um / 2
    rank = np.lexsort(
        (np.arange(len(niches)), hilbert_within(centre, corner[niche_tissue], tissues.size_um), niche_tissue)
    )
    new_number = np.empty_like(rank)
    new_number[rank] = np.arange(len(rank))
    along = hilbert_within(position_um, corner[tissues.of_cell], tissues.size_um)
    order = np.lexsort((np.arange(len(position_um)), along, new_number[niche]))
    if partition_of(settings).in_squares:  # the window of a square is the square itself, wherever its cells lie in it
        centre = _square_centres(centre, corner[niche_tissue], settings.niche.size_um)
    return Layout(
        order=order,
        tissue=tissues.of_cell[order],
        niche=new_number[niche][order],
        niche_tissue=niche_tissue[rank],
        niche_centre_um=centre[rank],
        tissue_centre_um=tissues.centre_um,
    )


def _square_centres(centre: NDArray[np.float64], corner: NDArray[np.float64], size_um: float) -> NDArray[np.float64]:
    return corner + (np.floor((centre - corner) / size_um + 1e-9) + 0.5) * size_um


def _assign_niches(
    position_um: NDArray[np.float64],
    tissues: Windows,
    tissue_row: NDArray[np.int64],
    counts: Spill,
    n_genes: int,
    depth: float,
    settings: BuildSettings,
) -> NDArray[np.int64]:
    partition = partition_of(settings)
    by_row = np.argsort(tissue_row)
    start, stop = ranges_of(tissues.of_cell[by_row], len(tissues.grid))
    corner = tissues.centre_um - tissues.size_um / 2
    label = np.empty(len(position_um), np.int64)
    for bucket in range(len(counts)):
        expression = None
        if partition.needs_expression:
            expression = normalised(read_counts(counts, bucket, n_genes)[1], depth)
        first = int(counts.bounds[bucket])
        for tissue in np.flatnonzero((start >= first) & (stop <= counts.bounds[bucket + 1])):
            a, b = int(start[tissue]), int(stop[tissue])
            members = by_row[a:b]
            cells = TissueCells(
                position_um[members], corner[tissue], None if expression is None else expression[a - first : b - first]
            )
            label[members] = partition.assign(cells, settings)
    return label


def save_layout(
    folder: Path,
    layout: Layout,
    position_um: NDArray[np.float64],
    tissue_row: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> None:
    """Save the arrays that tasks map, all in disk order, and ``final_row``: row on disk by row sorted by tissue window."""
    final_row = np.empty_like(tissue_row)
    final_row[tissue_row[layout.order]] = np.arange(len(tissue_row))
    arrays = {
        "final_row": final_row,
        "order": layout.order,
        "position_um": position_um[layout.order],
        "tissue": layout.tissue,
        "niche": layout.niche,
        "niche_tissue": layout.niche_tissue,
        "niche_centre_um": layout.niche_centre_um,
        "tissue_centre_um": layout.tissue_centre_um,
        "bucket_bounds": bounds,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
