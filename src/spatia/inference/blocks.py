"""Embeddings of a section as block files: written whole or not at all, by any rank, in any order.

Two passes. First every cell by itself, in blocks of `BLOCK_CELLS` rows; then, window by window, what surrounds it, read from the
first pass. A block is one ``.npy`` file, so a killed run goes on with the blocks that are missing, ranks share the blocks
between them, and memory holds one block whatever the number of cells.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.corpus.files import whole_file
from spatia.data.batch import CellBatch, TissueBatch
from spatia.data.loader import RowReader
from spatia.io.memory import give_back
from spatia.log import progress
from spatia.models.spatia import Spatia
from spatia.nn.distributed import world

BLOCK_CELLS: Final = 4096
ENCODED_AT_ONCE: Final = 256
OUTPUTS: Final = ("cell", "niche", "tissue", "fused")
GENES: Final = "genes"  # the cell from its genes alone, where its image is seen too


@dataclass(frozen=True)
class Span:
    """Rows [start, stop) of the cells of a section."""

    start: int
    stop: int


class BlockFiles:
    """The block files of one pass over one section.

    Parameters
    ----------
    folder
        Made if it is not there.
    name
        Of the pass.
    spans
        Rows of each block, ascending, without gaps.
    width
        Columns.
    """

    def __init__(self, folder: Path, name: str, spans: Sequence[Span], width: int) -> None:
        self.folder, self.name, self.spans, self.width = folder, name, list(spans), width
        folder.mkdir(parents=True, exist_ok=True)
        self._stops = np.array([span.stop for span in spans], np.int64)

    def missing(self) -> list[int]:
        """Return the blocks that are not there yet."""
        return [block for block in range(len(self.spans)) if not self._path(block).is_file()]

    def holding(self, rows: NDArray[np.int64] | None) -> set[int]:
        """Return the blocks that some rows are in; None: all blocks."""
        if rows is None:
            return set(range(len(self.spans)))
        return set(np.searchsorted(self._stops, rows, side="right").tolist())

    def write(self, block: int, values: NDArray[np.float32]) -> None:
        """Write a block aside and rename it."""
        with whole_file(self._path(block)) as aside, aside.open("wb") as file:
            np.save(file, values)
        # threads that read in turn keep what each has freed: without this, 200,000 cells took 100 to 250 MB more than 20,000
        give_back()

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows of any blocks, in the order given."""
        out = np.empty((len(rows), self.width), np.float32)
        home = np.searchsorted(self._stops, rows, side="right")
        for block in np.unique(home).tolist():
            at = np.flatnonzero(home == block)
            mapped = np.load(self._path(block), mmap_mode="r", allow_pickle=False)
            out[at] = mapped[rows[at] - self.spans[block].start]
        return out

    def _path(self, block: int) -> Path:
        return self.folder / f"{self.name}-{block:06d}.npy"


@dataclass(frozen=True)
class Request:
    """What to embed, and how.

    Attributes
    ----------
    use
        Which modalities to see.
    visible_genes
        (genes,) which genes of the model may be seen; None: all.
    genes_alone
        Whether each cell is embedded from its genes alone, too.
    """

    use: tuple[str, ...]
    visible_genes: Tensor | None
    genes_alone: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the embeddings of each cell."""
        return (*OUTPUTS, GENES) if self.genes_alone else OUTPUTS


class SectionEmbedder:
    """Embeds one section.

    Parameters
    ----------
    model
        In evaluation mode, on the device to use.
    cells, tissues
        Readers of the section's cells, and of its windows (which need nothing of the cells but their place).
    section
        Its index in both.
    folder
        For the block files.
    request
        What to see.
    rows
        Cells that will be read; None: every one. Only blocks that these need are embedded.
    """

    def __init__(
        self,
        model: Spatia,
        cells: RowReader,
        tissues: RowReader,
        section: int,
        folder: Path,
        request: Request,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.model, self._cells, self._tissues, self._section = model, cells, tissues, section
        self._request = request
        source = cells.sources[section]
        self.sample, self.n_cells = source.section.sample, source.section.entry.n_cells
        width = model.config.cell_width
        starts = range(0, self.n_cells, BLOCK_CELLS)
        spans = [Span(start, min(start + BLOCK_CELLS, self.n_cells)) for start in starts]
        # the cell (and it from its genes alone), and the out-of-distribution score
        self.cells = BlockFiles(folder, "cells", spans, (2 if request.genes_alone else 1) * width + 1)
        self._windows = _window_groups(source)
        windows = [Span(int(group.first_cell), int(group.last_cell)) for group in self._windows]
        self.context = BlockFiles(folder, "context", windows, model.config.niche_width + model.config.tissue_width)
        self._needed = {"context": self.context.holding(rows), "cells": set(range(len(spans)))}
        if source.partitioned:  # what surrounds a cell lies in its window; a niche around a cell reaches beyond it
            needed = [windows[group] for group in self._needed["context"]]
            self._needed["cells"] = {
                block for span in needed for block in range(span.start // BLOCK_CELLS, -(-span.stop // BLOCK_CELLS))
            }

    @torch.inference_mode()
    def embed_cells(self) -> None:
        """Do the first pass: the blocks that are missing, and of these the ones of this rank."""
        for block in self._mine(self.cells, "cells"):
            span = self.cells.spans[block]
            parts = []
            for start in range(span.start, span.stop, ENCODED_AT_ONCE):
                rows = np.arange(start, min(start + ENCODED_AT_ONCE, span.stop))
                parts.append(self._encode(self._cells(self._section, rows)))
            self.cells.write(block, np.concatenate(parts))

    @torch.inference_mode()
    def embed_context(self) -> None:
        """Do the second pass; the first must be complete, on all ranks."""
        for block in self._mine(self.context, "surroundings"):
            group, span = self._windows[block], self.context.spans[block]
            out = np.zeros((span.stop - span.start, self.context.width), np.float32)
            for window in range(group.first, group.last):
                rows, values = self._surroundings(self._tissues(self._section, np.array([window])))
                out[rows - span.start] = values
            self.context.write(block, out)

    @torch.inference_mode()
    def read(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """Return the finished embeddings of some cells: each of the request's outputs, and ``"ood"`` (rows,)."""
        cells, width, device = self.cells.read(rows), self.model.config.cell_width, self.model.device
        levels = self._levels(cells, rows)
        fused = self.model.fuse(*(torch.from_numpy(levels[name]).to(device) for name in ("cell", "niche", "tissue")))
        alone = {GENES: cells[:, width : 2 * width]} if self._request.genes_alone else {}
        return {**levels, "fused": _host(fused), **alone, "ood": cells[:, -1]}

    def levels(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """Return ``"cell"``, ``"niche"`` and ``"tissue"`` of some cells, (rows, width) each: no network is asked."""
        return self._levels(self.cells.read(rows), rows)

    def _levels(self, cells: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        context, split = self.context.read(rows), self.model.config.niche_width
        return {
            "cell": cells[:, : self.model.config.cell_width],
            "niche": context[:, :split],
            "tissue": context[:, split:],
        }

    def width_of(self, output: str) -> int:
        """Return the width of the embedding of a level."""
        return int(getattr(self.model.config, f"{output}_width"))

    def _encode(self, batch: CellBatch) -> NDArray[np.float32]:
        request, batch = self._request, batch.to(self.model.device)
        alone: list[Tensor] = []
        if request.genes_alone:
            encoding, genes = self.model.encode_cells_and_genes(batch, visible_genes=request.visible_genes)
            alone = [genes.cell]
        else:
            encoding = self.model.encode_cells(batch, use=request.use, visible_genes=request.visible_genes)
        score = self.model.reference.score(request.use, encoding.cell)
        seen = encoding.image_used | encoding.genes_used
        score = torch.where(seen, score, torch.nan)  # of a cell of which nothing is seen there is nothing to say
        return _host(torch.cat([encoding.cell, *alone, score[:, None]], dim=1))

    def _surroundings(self, batch: TissueBatch) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows = batch.cells.row.numpy()
        cell = torch.from_numpy(self.cells.read(rows)[:, : self.model.config.cell_width]).to(self.model.device)
        batch = batch.to(self.model.device)
        niches = self.model.encode_niches(batch.niches, cell, use=self._request.use)
        tissues = self.model.encode_tissues(batch, niches.niche)
        context = self.model.context_of_cells(batch, niches, tissues)
        values = torch.cat([context.niche, context.tissue], dim=1)
        return rows[_host_index(context.cell)], _host(values)

    def _mine(self, files: BlockFiles, what: str) -> Iterator[int]:
        rank, world_size = world()
        needed = self._needed[files.name]
        blocks = [block for block in files.missing() if block % world_size == rank and block in needed]
        n_cells = sum(files.spans[block].stop - files.spans[block].start for block in blocks)
        with progress(f"{self.sample}: embedding {what}", n_cells, "cells") as advance:
            for block in blocks:
                yield block
                advance(files.spans[block].stop - files.spans[block].start)


@dataclass(frozen=True)
class _WindowGroup:
    """Windows [first, last), and their cells [first_cell, last_cell)."""

    first: int
    last: int
    first_cell: int
    last_cell: int


def _window_groups(source: Any) -> list[_WindowGroup]:
    """Group consecutive windows to about `BLOCK_CELLS` cells; windows are contiguous ranges of cells, in order."""
    n_windows = source.section.n_rows("tissue")
    start, stop = source.cell_spans("tissue", 0, n_windows)
    groups, first = [], 0
    for window in range(n_windows):
        if stop[window] - start[first] >= BLOCK_CELLS or window == n_windows - 1:
            groups.append(_WindowGroup(first, window + 1, int(start[first]), int(stop[window])))
            first = window + 1
    return groups


def _host(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.float().cpu().numpy()
    return values


def _host_index(tensor: Tensor) -> NDArray[np.int64]:
    values: NDArray[np.int64] = tensor.cpu().numpy()
    return values


def hidden_genes_mask(model: Spatia, hide_genes: Collection[str]) -> Tensor | None:
    """Return which genes of the model may be seen, (genes,); None where none is hidden."""
    if not hide_genes:
        return None
    hidden = set(hide_genes)
    return torch.tensor([gene not in hidden for gene in model.vocabulary.genes], device=model.device)
