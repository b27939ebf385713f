"""Counts of any cells over the genes of the model, and the model's embedding of them from genes alone."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.data.loader import RowReader
from spatia.models.inputs import GeneInput
from spatia.models.spatia import Spatia
from spatia.screening.cells import ChosenCells
from spatia.screening.perturbation import Counts

_AT_ONCE: Final = 256


class CountReader:
    """Reads counts of rows of :attr:`ChosenCells.obs`."""

    def __init__(self, chosen: ChosenCells, model: Spatia) -> None:
        self._chosen, self._names = chosen, list(chosen.corpus.sections)
        self._n_genes = len(model.vocabulary.genes)
        self._read = RowReader([chosen.corpus], "cell", vocabulary=model.vocabulary, read=("counts",))
        self._measured = self._read(0, np.array([0])).panel_measured.numpy()

    def __call__(self, rows: NDArray[np.int64]) -> Counts:
        """Return (cells, genes); rows ascending."""
        parts = [
            self._read(self._names.index(name), mine).counts.numpy()
            for name, mine in self._chosen.rows_by_section(rows).items()
        ]
        return np.concatenate([np.zeros((0, self._n_genes), np.float32), *parts])

    def visible(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which genes were measured in each cell, (cells, genes)."""
        sections = [
            np.full(len(mine), self._names.index(name)) for name, mine in self._chosen.rows_by_section(rows).items()
        ]
        seen: NDArray[np.bool_] = self._measured[np.concatenate(sections)]
        return seen


@torch.inference_mode()
def embed_counts(model: Spatia, counts: Counts, visible: NDArray[np.bool_]) -> Tensor:
    """Return the embedding of cells from their genes alone, (cells, width)."""
    parts = []
    for start in range(0, len(counts), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        seen = torch.from_numpy(visible[block]).to(model.device)
        genes = GeneInput(counts=torch.from_numpy(counts[block]).to(model.device), visible=seen)
        parts.append(model.encode(None, genes, rows=len(seen)).cell.cpu())
    return torch.cat(parts)
