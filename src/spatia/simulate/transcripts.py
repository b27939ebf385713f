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
from spatia.simulate.tables import CONTROLS, Features

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

    def add(self, number: int, block: slice, counts: csr_matrix) -> None:
        """Write the transcripts of a block of cells whose observed counts are ``counts`` (cells, features)."""
        rng = generator(self.settings.seed, Stream.LOCATIONS, self.section.number, number)
        coo = counts.tocoo()
        cell, feature = np.repeat(coo.row, coo.data), np.repeat(coo.col, coo.data)
        outlines = self.section.cells.outlines
        offset = points_inside(rng, outlines.cell[block], cell)
        position = self.section.cells.centre_um[block][cell] + offset
        beyond = beyond_nucleus_um(outlines.nucleus[block], cell, offset)
        self._write(rng, self.ids[block][cell], feature, position, beyond)

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


def beyond_nucleus_um(
    radii_um: NDArray[np.float32], cell: NDArray[np.int64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far points lie outside the nucleus along the ray from the centre (negative inside), (n,)."""
    turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi / N_VERTICES)
    low = np.floor(turn).astype(np.int64)
    share = turn - low
    edge = (1 - share) * radii_um[cell, low % N_VERTICES] + share * radii_um[cell, (low + 1) % N_VERTICES]
    return np.hypot(offset[:, 0], offset[:, 1]) - edge
