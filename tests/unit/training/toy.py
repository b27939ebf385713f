"""A small stage for tests of the loop: it learns the counts and the brightness of the tiny corpus's cells."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spatia.corpus.corpus import Corpus
from spatia.data.batch import CellBatch
from spatia.data.loader import Loader, cell_loader

WIDTH = 8


@dataclass(frozen=True)
class ToyTerm:
    total: Tensor
    count: Tensor


class ToyModel(nn.Module):
    """Counts of a random half of the genes to an embedding."""

    def __init__(self, n_genes: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(n_genes, WIDTH)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(dropout)) for _ in range(2))
        self.gate = nn.Parameter(torch.ones(()))  # a scalar, which FSDP cannot shard
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, counts: Tensor) -> Tensor:
        hidden = self.first(counts)
        for block in self.blocks:
            hidden = hidden + self.gate * torch.tanh(block(hidden))
        return self.norm(hidden)


class ToyModule(nn.Module):
    """Two terms: counts of the hidden genes, and brightness of the cells with an image."""

    def __init__(self, n_genes: int, dropout: float = 0.0, poison_at: int | None = None) -> None:
        super().__init__()
        self.model = ToyModel(n_genes, dropout)
        self.genes = nn.Linear(WIDTH, n_genes)
        self.brightness = nn.Linear(WIDTH, 1)
        self.poison_at, self.calls = poison_at, 0

    def forward(self, batch: CellBatch, epoch: int) -> dict[str, ToyTerm]:
        assert batch.counts is not None
        assert batch.images is not None
        self.calls += self.training
        # a function of the cell, the gene and the epoch
        number = 31 * batch.row[:, None] + 17 * batch.section[:, None] + 13 * torch.arange(batch.counts.shape[1])
        hidden = batch.measured & ((number + 7 * epoch) * 7919 % 101 < 50)
        embedding = self.model(batch.counts.masked_fill(hidden, 0.0))
        error = (self.genes(embedding) - batch.counts).square()
        terms = {"genes": ToyTerm((error * hidden).sum(), hidden.sum())}
        seen = batch.image_present
        if bool(seen.any()):  # a batch without images leaves the term out and this layer unused
            wanted = batch.images[seen].float().mean(dim=(1, 2, 3))[:, None] / 255
            difference = (self.brightness(embedding[seen]) - wanted).square().sum()
            if self.poison_at == self.calls:
                difference = difference * float("nan")
            terms["image"] = ToyTerm(difference, seen.sum())
        return terms

    def embedding(self, batch: CellBatch) -> Tensor:
        result: Tensor = self.model(batch.counts)
        return result


class Stage:
    """Cells of the tiny corpus in batches of 8."""

    def __init__(
        self,
        corpora: list[Corpus],
        *,
        name: str = "cells",
        epochs: int = 2,
        module: nn.Module | None = None,
        validate: bool = True,
        batch_cells: int = 8,
        concatenate_ranks: int = 1,
        **toy: Any,
    ) -> None:
        self.name, self.epochs = name, epochs
        self.weights = {"genes": 1.0, "image": 0.5}
        self._corpora, self._validate = corpora, validate
        self._batch_cells, self._concatenate = batch_cells, concatenate_ranks
        n_genes = len(self.loader(0, 1).vocabulary.genes)
        torch.manual_seed(3)
        self.module = module or ToyModule(n_genes, **toy)

    def loader(self, rank: int, world_size: int) -> Loader[CellBatch]:
        if self._concatenate > 1:
            return Concatenated([self._open(rank, self._concatenate) for rank in range(self._concatenate)])  # type: ignore[return-value]
        return self._open(rank, world_size)

    def validation(self, rank: int, world_size: int) -> Loader[CellBatch] | None:
        if not self._validate:
            return None
        return cell_loader(
            self._corpora, batch_size=5, shuffle=False, split="block", part="test", rank=rank, world_size=world_size
        )

    def _open(self, rank: int, world_size: int) -> Loader[CellBatch]:
        return cell_loader(
            self._corpora, batch_size=self._batch_cells, block_rows=4, seed=1, rank=rank, world_size=world_size
        )


class Concatenated:
    """The batches that several ranks see in a step, as one."""

    def __init__(self, loaders: list[Loader[CellBatch]]) -> None:
        self.loaders = loaders
        self.vocabulary, self.sources = loaders[0].vocabulary, loaders[0].sources

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[CellBatch]:
        for parts in zip(*self.loaders, strict=True):
            values: dict[str, Any] = {}
            for field in fields(CellBatch):
                first = getattr(parts[0], field.name)
                joined = isinstance(first, Tensor) and field.name != "panel_measured"
                values[field.name] = torch.cat([getattr(part, field.name) for part in parts]) if joined else first
            yield CellBatch(**values)

    def set_epoch(self, epoch: int) -> None:
        for loader in self.loaders:
            loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.loaders[0].state_dict()


def open_tiny(path: Path) -> list[Corpus]:
    return [Corpus.open(path)]
