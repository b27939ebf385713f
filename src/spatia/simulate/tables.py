"""The tables of the bundle: cells, outlines, matrix, transcripts, in the vendor's columns, written block by block."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from spatia.simulate.expression import SPILL_NEIGHBOURS, draw_counts
from spatia.simulate.outlines import N_VERTICES, area_and_centroid, vertices_um
from spatia.simulate.randomness import Stream, blocks, generator
from spatia.simulate.section import Cells, Section

CONTROLS = {
    "Negative Control Probe": ("NegControlProbe", 20, 0.0015),
    "Negative Control Codeword": ("NegControlCodeword", 20, 0.0006),
    "Unassigned Codeword": ("UnassignedCodeword", 40, 0.0004),
}


@dataclass(frozen=True)
class Features:
    """The rows of the matrix: the genes that the section measures, then the controls.

    ``gene`` is the column of each measured gene in the panel.
    """

    gene: NDArray[np.int64]
    ids: list[str]
    names: list[str]
    kinds: list[str]

    @property
    def control_rate(self) -> NDArray[np.float64]:
        """Counts per cell of each control."""
        return np.concatenate([np.full(number, rate) for _, number, rate in CONTROLS.values()])


def section_features(section: Section) -> Features:
    """List what the section's panel measures."""
    panel = section.expression.panel
    gene = np.flatnonzero(section.expression.effect > 0)
    controls = [(f"{stem}_{i:05d}", kind) for kind, (stem, number, _) in CONTROLS.items() for i in range(1, number + 1)]
    return Features(
        gene,
        [panel.gene_ids[g] for g in gene] + [name for name, _ in controls],
        [panel.symbols[g] for g in gene] + [name for name, _ in controls],
        ["Gene Expression"] * len(gene) + [kind for _, kind in controls],
    )


def cell_ids(seed: int, section: int, n_cells: int) -> NDArray[np.str_]:
    """Return ids in the vendor's form, eight letters from a to p and ``-1``, (n,); all differ."""
    start, odd = generator(seed, Stream.IDENTITY, section, 0).integers(0, 2**31, 2, dtype=np.uint64)
    number = (np.arange(n_cells, dtype=np.uint64) * (2 * odd + np.uint64(1)) + start) % np.uint64(2**32)
    nibbles = (number[:, None] >> np.arange(28, -1, -4, dtype=np.uint64)) & np.uint64(15)
    letters = (nibbles.astype(np.uint32) + ord("a")).astype("<u4")
    text = np.ascontiguousarray(letters).view("<U8").ravel()
    return np.char.add(text, "-1")


def write_outlines(path: Path, cells: Cells, radii: NDArray[np.float32], ids: NDArray[np.str_]) -> None:
    """Write closed rings, 25 vertices per cell, one row group per block of cells."""
    schema = pa.schema(
        [("cell_id", pa.string()), ("vertex_x", pa.float32()), ("vertex_y", pa.float32()), ("label_id", pa.int64())]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for block in blocks(len(cells)):
            ring = vertices_um(cells.centre_um[block], radii[block]).astype(np.float32)
            ring = np.concatenate([ring, ring[:, :1]], 1)
            label = np.arange(block.start, block.stop) + 1
            columns = [
                pa.array(np.repeat(ids[block], N_VERTICES + 1)),
                ring[..., 0].ravel(),
                ring[..., 1].ravel(),
                np.repeat(label, N_VERTICES + 1),
            ]
            writer.write_table(pa.table(columns, schema=schema))


@dataclass(frozen=True)
class Spilled:
    """Transcripts that were assigned to a neighbour, sorted by the cell that received them."""

    target: NDArray[np.int32]
    source: NDArray[np.int32]
    gene: NDArray[np.int32]

    def received(self, block: slice) -> slice:
        """Return the rows whose target lies in a block of cells."""
        return slice(*np.searchsorted(self.target, [block.start, block.stop]).tolist())


def spill(section: Section, tree: cKDTree) -> Spilled:
    """Decide for every misassigned transcript which neighbour received it."""
    cells, expression = section.cells, section.expression
    parts = []
    for number, block in enumerate(blocks(len(cells))):
        counts = draw_counts(expression, number, cells.kind[block], cells.states[block], cells.library[block])
        cell, gene = counts.moved.nonzero()
        times = counts.moved[cell, gene]
        cell, gene = np.repeat(cell, times), np.repeat(gene, times)
        rng = generator(expression.seed, Stream.SPILL, expression.section, number)
        _, near = tree.query(cells.centre_um[block], k=min(SPILL_NEIGHBOURS, len(cells) - 1) + 1)
        target = near[cell, rng.integers(1, near.shape[1], len(cell))]
        parts.append(np.stack([target, cell + block.start, gene]).astype(np.int32))
    target, source, gene = np.concatenate(parts, 1)
    order = np.lexsort((gene, source, target))
    return Spilled(target[order], source[order], gene[order])


def observed_block(section: Section, spilled: Spilled, number: int, block: slice, features: Features) -> csr_matrix:
    """Return the counts of a block as the segmentation sees them, (cells, features), controls included."""
    cells, expression = section.cells, section.expression
    counts = draw_counts(expression, number, cells.kind[block], cells.states[block], cells.library[block])
    kept = counts.kept
    rows = spilled.received(block)
    np.add.at(kept, (spilled.target[rows] - block.start, spilled.gene[rows]), 1)
    rng = generator(expression.seed, Stream.COUNTS, expression.section, number, 2)
    controls = rng.poisson(features.control_rate, (len(kept), len(features.control_rate)))
    return csr_matrix(np.concatenate([kept[:, features.gene], controls], 1).astype(np.int32))


class MatrixWriter:
    """Write ``cell_feature_matrix.h5`` (10x layout: features × cells, CSC) one block of cells after another."""

    def __init__(self, path: Path, features: Features, ids: NDArray[np.str_]) -> None:
        self.file = h5py.File(path, "w", track_order=False)
        self.file.attrs["filetype"] = "matrix"
        self.file.attrs["version"] = 2
        matrix = self.file.create_group("matrix")
        matrix["barcodes"] = ids.astype("S10")
        matrix["shape"] = np.array([len(features.ids), len(ids)], np.int32)
        group = matrix.create_group("features")
        group["_all_tag_keys"] = np.array([b"genome"])
        for name, values in (("id", features.ids), ("name", features.names), ("feature_type", features.kinds)):
            group[name] = np.array([value.encode() for value in values])
        group["genome"] = np.array([b"Unknown"] * len(features.ids))
        options = {"maxshape": (None,), "chunks": (65536,), "compression": "gzip", "compression_opts": 1}
        self.data = matrix.create_dataset("data", (0,), np.int32, **options)
        self.indices = matrix.create_dataset("indices", (0,), np.int64, **options)
        self.indptr = [np.zeros(1, np.int64)]
        self.matrix = matrix

    def add(self, counts: csr_matrix) -> None:
        """Append cells × features."""
        start, stop = len(self.data), len(self.data) + counts.nnz
        for dataset, values in ((self.data, counts.data), (self.indices, counts.indices)):
            dataset.resize((stop,))
            dataset[start:stop] = values
        self.indptr.append(counts.indptr[1:].astype(np.int64) + start)

    def close(self) -> None:
        """Write the column pointers and close the file."""
        self.matrix["indptr"] = np.concatenate(self.indptr)
        self.file.close()


def cell_table(section: Section, ids: NDArray[np.str_], sums: pd.DataFrame) -> pd.DataFrame:
    """Return ``cells.parquet``; ``sums`` has the counts per cell and feature type."""
    outlines, centre = section.cells.outlines, section.cells.centre_um
    area, centroid = area_and_centroid(vertices_um(centre, outlines.cell))
    nucleus_area, _ = area_and_centroid(vertices_um(centre, outlines.nucleus))
    n = len(ids)
    return pd.DataFrame(
        {
            "cell_id": ids.astype(object),
            "x_centroid": centroid[:, 0],
            "y_centroid": centroid[:, 1],
            "transcript_counts": sums["Gene Expression"],
            "control_probe_counts": sums["Negative Control Probe"],
            "genomic_control_counts": np.zeros(n, np.int64),
            "control_codeword_counts": sums["Negative Control Codeword"],
            "unassigned_codeword_counts": sums["Unassigned Codeword"],
            "deprecated_codeword_counts": np.zeros(n, np.int64),
            "total_counts": sums.sum(axis=1),
            "cell_area": area,
            "nucleus_area": nucleus_area,
            "nucleus_count": np.ones(n, np.int64),
            "segmentation_method": ["Segmented by boundary stain (ATP1A1+CD45+E-Cadherin)"] * n,
        }
    )
