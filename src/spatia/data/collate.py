"""Make batches from the rows of a pool: gather, index, wrap in tensors."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from spatia.data.batch import CellBatch, NicheBatch, TissueBatch
from spatia.data.dataset import CellRows, NicheRows, Rows, TissueRows, from_keys
from spatia.data.samplers import Draw


@dataclass(frozen=True)
class Collator:
    """What all batches of a loader share.

    Attributes
    ----------
    panel_measured
        (sections, genes) which genes of the vocabulary each section measures.
    um_per_px
        Pixel size of each level.
    """

    panel_measured: torch.Tensor
    um_per_px: dict[str, float]

    def __call__(self, rows: Rows, draw: Draw) -> CellBatch | NicheBatch | TissueBatch:
        """Make the batch of the drawn rows, in the order of the draw."""
        if isinstance(rows, TissueRows):
            return self.tissues(rows, draw)
        if isinstance(rows, NicheRows):
            return self.niches(rows, draw)
        return self.cells(cast(CellRows, rows), draw)

    def cells(self, rows: CellRows, draw: Draw) -> CellBatch:
        """Gather cells."""
        at = rows.find(draw)
        counts = None if rows.counts is None else torch.from_numpy(rows.counts[at].toarray())
        return CellBatch(
            **_shared(rows, draw, at),
            um_per_px=self.um_per_px["cell"],
            image_share=torch.from_numpy(rows.image_share[at]),
            masks=_gather(rows.masks, at),
            mask_present=torch.from_numpy(rows.mask_present[at]),
            counts=counts,
            panel_measured=self.panel_measured,
            morphology=_gather(rows.morphology, at),
            morphology_measured=_gather(rows.morphology_measured, at),
        )

    def niches(self, rows: NicheRows, draw: Draw) -> NicheBatch:
        """Gather niches, and each of their cells once."""
        at = rows.find(draw)
        offsets, member = _gather_ragged(rows.offsets, rows.member, at)
        centre = rows.centre[at]
        cell = np.unique(member)
        return NicheBatch(
            **_shared(rows, draw, at),
            um_per_px=self.um_per_px["niche"],
            cells=self.cells(rows.cells, from_keys(cell)),
            offsets=torch.from_numpy(offsets),
            member_cell=torch.from_numpy(np.searchsorted(cell, member)),
            centre_cell=torch.from_numpy(_find_or_none(cell, centre)),
        )

    def tissues(self, rows: TissueRows, draw: Draw) -> TissueBatch:
        """Gather windows, their niches and each of their cells once."""
        at = rows.find(draw)
        offsets, niche = _gather_ragged(rows.offsets, rows.niche, at)
        return TissueBatch(
            **_shared(rows, draw, at),
            um_per_px=self.um_per_px["tissue"],
            niches=self.niches(rows.niches, from_keys(niche)),
            offsets=torch.from_numpy(offsets),
        )


def _shared(rows: Rows, draw: Draw, at: NDArray[np.int64]) -> dict[str, Any]:
    return {
        "section": torch.from_numpy(draw.section.copy()),
        "row": torch.from_numpy(draw.row.copy()),
        "position_um": torch.from_numpy(rows.position_um[at]),
        "images": _gather(rows.images, at),
        "channels_present": torch.from_numpy(rows.channels_present[at]),
    }


def _gather(values: NDArray[Any] | None, at: NDArray[np.int64]) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values.take(at, axis=0))


def _gather_ragged(
    offsets: NDArray[np.int64], values: NDArray[np.int64], at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gather lists ``values[offsets[i]:offsets[i + 1]]`` for i in ``at``; returns their offsets and values."""
    length = offsets[at + 1] - offsets[at]
    gathered = np.concatenate([[0], np.cumsum(length)])
    index = np.arange(gathered[-1]) + np.repeat(offsets[at] - gathered[:-1], length)
    return gathered, values[index]


def _find_or_none(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each value; -1 for -1 (a niche without a centre cell)."""
    return np.where(values < 0, -1, np.searchsorted(ascending, values))
