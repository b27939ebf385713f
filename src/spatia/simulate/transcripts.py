"""``transcripts.parquet``: a position for every count, and transcripts outside all cells."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spatia.simulate.outlines import ANGLES, N_VERTICES
from spatia.simulate.randomness import Stream, generator
from spatia.simulate.section import Section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.tables import CONTROLS, Features, Spilled

CATEGORY = dict(
    zip(
        ("Gene Expression", *CONTROLS),
        ("predesigned_gene", "negative_control_probe", "negative_control_codeword", "unassigned_codeword"),
        strict=True,
    )
)
SCHEMA = pa.schema(
    [
        ("transcript_id", pa.uint64()),
        ("cell_id", pa.string()),
        ("overlaps_nucleus", pa.uint8()),
        ("feature_name", pa.string()),
        ("x_location", pa.float32()),
        ("y_location", pa.float32()),
        ("z_location", pa.float32()),
        ("qv", pa.float32()),
        ("fov_name", pa.string()),
        ("nucleus_distance", pa.float32()),
        ("codeword_index", pa.int32()),
        ("codeword_category", pa.string()),
        ("is_gene", pa.bool_()),
    ]
)


class TranscriptWriter:
    """Write the transcripts of one block of cells after another; each block is a row group."""

    def __init__(
        self, folder: Path, settings: SimulationSettings, section: Section, features: Features, ids: NDArray[np.str_]
    ) -> None:
        self.settings, self.section, self.features, self.ids = settings, section, features, ids
        self.names = np.array(features.names, object)
        self.categories = np.array([CATEGORY[kind] for kind in features.kinds], object)
        self.writer = pq.ParquetWriter(folder / "transcripts.parquet", SCHEMA, compression="zstd")
        self.n_written = self.n_unassigned = 0

    @property
    def share_unassigned(self) -> float:
        """Share of all transcripts that lie in no cell."""
        return self.n_unassigned / max(self.n_written, 1)

    def add(self, number: int, block: slice, counts: csr_matrix, spilled: Spilled) -> None:
        """Write the transcripts of a block of cells whose observed counts are ``counts`` (cells, features)."""
        rng = generator(self.settings.seed, Stream.LOCATIONS, self.section.number, number)
        coo = counts.sorted_indices().tocoo()
        cell, feature = np.repeat(coo.row, coo.data).astype(np.int64), np.repeat(coo.col, coo.data).astype(np.int64)
        cells = self.section.cells
        radii = cells.outlines.cell[block]
        offset = points_inside(rng, radii, cell)
        stray, source = self._stray(block, cell, feature, spilled)
        towards = cells.centre_um[source] - cells.centre_um[block][cell[stray]]
        offset[stray] = points_at_edge(rng, radii, cell[stray], towards)
        position = cells.centre_um[block][cell] + offset
        beyond = beyond_nucleus_um(cells.outlines.nucleus[block], cell, offset)
        self._write(rng, self.ids[block][cell], feature, position, beyond)
        self._add_unassigned(rng, block, feature)

    def _stray(
        self, block: slice, cell: NDArray[np.int64], feature: NDArray[np.int64], spilled: Spilled
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return which of the transcripts (sorted by cell, then feature) came from a neighbour, and from which."""
        rows = spilled.received(block)
        column = np.full(int(self.features.gene.max()) + 1, -1)
        column[self.features.gene] = np.arange(len(self.features.gene))
        gene = spilled.gene[rows]
        measured = gene < len(column)
        measured[measured] = column[gene[measured]] >= 0
        width = len(self.names)
        key = (spilled.target[rows][measured] - block.start).astype(np.int64) * width + column[gene[measured]]
        order = np.argsort(key, kind="stable")
        key, source = key[order], spilled.source[rows][measured][order]
        rank = np.arange(len(key)) - np.searchsorted(key, key)
        return np.searchsorted(cell * width + feature, key) + rank, source

    def _add_unassigned(self, rng: np.random.Generator, block: slice, feature: NDArray[np.int64]) -> None:
        """Write transcripts outside all cells: between an outline and the lines to its neighbours."""
        outlines, centre = self.section.cells.outlines, self.section.cells.centre_um[block]
        n = rng.poisson(self.settings.unassigned_share * len(feature)) if len(feature) else 0
        outer = np.minimum(0.99 * outlines.limit[block], outlines.cell[block] + 5.0)
        room = np.maximum(outer**2 - outlines.cell[block] ** 2, 0).sum(1).cumsum()
        if not n or room[-1] <= 0:
            return
        cell = np.searchsorted(room, rng.random(n) * room[-1], side="right").clip(max=len(room) - 1)
        offset = points_between(rng, outlines.cell[block], outer, cell)
        beyond = np.maximum(beyond_nucleus_um(outlines.nucleus[block], cell, offset), 0.1)
        self._write(rng, np.full(n, "UNASSIGNED"), rng.choice(feature, n), centre[cell] + offset, beyond)
        self.n_unassigned += n

    def _write(
        self,
        rng: np.random.Generator,
        ids: NDArray[np.str_],
        feature: NDArray[np.int64],
        position: NDArray[np.float64],
        beyond: NDArray[np.float64],
    ) -> None:
        n = len(feature)
        columns = [
            np.arange(n, dtype=np.uint64) + np.uint64(281474976710656 + self.n_written),
            pa.array(ids),
            (beyond <= 0).astype(np.uint8),
            pa.array(self.names[feature], pa.string()),
            position[:, 0].astype(np.float32),
            position[:, 1].astype(np.float32),
            rng.normal(12, 3, n).clip(1, 25).astype(np.float32),
            np.where(rng.random(n) < 0.8, 40.0, rng.uniform(20, 40, n)).astype(np.float32),
            pa.array(np.full(n, "A1")),
            np.maximum(beyond, 0).astype(np.float32),
            feature.astype(np.int32),
            pa.array(self.categories[feature], pa.string()),
            feature < len(self.features.gene),
        ]
        self.writer.write_table(pa.table(columns, schema=SCHEMA))
        self.n_written += n

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


def points_inside(
    rng: np.random.Generator, radii_um: NDArray[np.float32], cell: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Draw points evenly inside outlines; returns offsets from the centres of cells ``cell``, (n, 2) µm."""
    following = np.roll(radii_um, -1, 1)
    ladder = np.cumsum(radii_um.astype(np.float64) * following, 1)
    ladder /= ladder[:, -1:]
    wedge = (rng.random(len(cell))[:, None] > ladder[cell]).sum(1).clip(max=N_VERTICES - 1)
    a, b = rng.random((2, len(cell)))
    flip = a + b > 1
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    first, second = ANGLES[wedge], ANGLES[(wedge + 1) % N_VERTICES]
    near, far = a * radii_um[cell, wedge], b * following[cell, wedge]
    return np.stack([near * np.cos(first) + far * np.cos(second), near * np.sin(first) + far * np.sin(second)], 1)


def points_at_edge(
    rng: np.random.Generator, radii_um: NDArray[np.float32], cell: NDArray[np.int64], towards: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw points inside cells near the outline, in the direction ``towards`` (n, 2); returns offsets (n, 2) µm."""
    angle = np.arctan2(towards[:, 1], towards[:, 0]) + rng.normal(0, 0.35, len(cell))
    wedge = np.floor(angle / (2 * np.pi / N_VERTICES)).astype(np.int64) % N_VERTICES
    return rng.uniform(0.72, 0.99, len(cell))[:, None] * _on_edge(rng, radii_um, cell, wedge)


def points_between(
    rng: np.random.Generator, inner_um: NDArray[np.float32], outer_um: NDArray[np.float32], cell: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Draw points between two outlines around the same centres; returns offsets (n, 2) µm."""
    ladder = np.cumsum(np.maximum(outer_um.astype(np.float64) ** 2 - inner_um**2, 0) + 1e-9, 1)
    ladder /= ladder[:, -1:]
    pick = rng.random(len(cell))
    wedge = (pick[:, None] > ladder[cell]).sum(1).clip(max=N_VERTICES - 1)
    share, place = rng.uniform(0.02, 1, len(cell))[:, None], rng.random(len(cell))
    first, second = _edge(inner_um, cell, wedge, place), _edge(outer_um, cell, wedge, place)
    return first + share * (second - first)


def _on_edge(
    rng: np.random.Generator, radii_um: NDArray[np.float32], cell: NDArray[np.int64], wedge: NDArray[np.int64]
) -> NDArray[np.float64]:
    return _edge(radii_um, cell, wedge, rng.random(len(cell)))


def _edge(
    radii_um: NDArray[np.float32], cell: NDArray[np.int64], wedge: NDArray[np.int64], place: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the point at the share ``place`` of side ``wedge`` of each outline, (n, 2)."""
    following = (wedge + 1) % N_VERTICES
    near, far = (1 - place) * radii_um[cell, wedge], place * radii_um[cell, following]
    first, second = ANGLES[wedge], ANGLES[following]
    return np.stack([near * np.cos(first) + far * np.cos(second), near * np.sin(first) + far * np.sin(second)], 1)


def beyond_nucleus_um(
    radii_um: NDArray[np.float32], cell: NDArray[np.int64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far points lie outside the nucleus along the ray from the centre (negative inside), (n,)."""
    turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi / N_VERTICES)
    low = np.floor(turn).astype(np.int64)
    share = turn - low
    edge = (1 - share) * radii_um[cell, low % N_VERTICES] + share * radii_um[cell, (low + 1) % N_VERTICES]
    return np.hypot(offset[:, 0], offset[:, 1]) - edge
