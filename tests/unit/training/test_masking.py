"""Masks: a cell's own whatever its company, of the share asked for, and never both modalities hidden at once."""

from typing import Any

import pytest
import torch

from spatia import Corpus
from spatia.data.loader import RowReader
from spatia.data.vocabulary import Vocabulary
from spatia.training.masking import hide_cells, mask_cells
from spatia.training.settings import MaskSettings

PATCHES = 16


@pytest.fixture(scope="module")
def read(tiny_knn_corpus: Any) -> RowReader:
    corpus = Corpus.open(tiny_knn_corpus.path)
    return RowReader([corpus], "cell", vocabulary=Vocabulary.of([corpus]))


def test_a_mask_does_not_depend_on_the_batch(read: RowReader) -> None:
    settings = MaskSettings()
    together = mask_cells(read(0, range(12)), PATCHES, settings, 3, 0)
    alone = mask_cells(read(0, [7]), PATCHES, settings, 3, 0)
    for name in ("patches", "hidden_patches", "genes", "hidden_genes", "image_shown", "genes_shown"):
        assert torch.equal(getattr(together, name)[7:8], getattr(alone, name)), name


def test_epochs_and_seeds_mask_differently(read: RowReader) -> None:
    batch, settings = read(0, range(40)), MaskSettings(image=(0.5,))
    first = mask_cells(batch, PATCHES, settings, 0, 0)
    for seed, epoch in ((0, 1), (1, 0)):
        other = mask_cells(batch, PATCHES, settings, seed, epoch)
        assert not torch.equal(first.patches, other.patches)
        assert not torch.equal(first.hidden_genes, other.hidden_genes)


def test_a_hidden_gene_is_measured_and_not_shown(read: RowReader) -> None:
    batch = read(1, range(30))
    mask = mask_cells(batch, PATCHES, MaskSettings(), 0, 0)
    assert not (mask.genes & ~batch.measured).any()
    assert not (mask.hidden_genes & ~batch.measured).any()
    shown = mask.genes & mask.genes_shown[:, None]
    assert torch.equal(shown | mask.hidden_genes, batch.measured)
    assert not (shown & mask.hidden_genes).any()


def test_patches_are_shown_in_the_share_of_the_epoch(read: RowReader) -> None:
    settings = MaskSettings(image=(0.75, 0.0), all_image=0, all_genes=0)
    batch = read(0, range(5))
    quarter, whole = (mask_cells(batch, PATCHES, settings, 0, epoch) for epoch in (0, 1))
    assert quarter.patches.shape == (5, PATCHES // 4)
    assert (quarter.hidden_patches[batch.image_present].sum(dim=1) == PATCHES * 3 // 4).all()
    assert whole.patches is None
    assert not whole.hidden_patches[batch.image_present].any()


def test_a_cell_always_shows_something(read: RowReader) -> None:
    settings = MaskSettings(all_image=0.5, all_genes=0.5)
    for section in range(3):
        batch = read(section, range(20))
        mask = mask_cells(batch, PATCHES, settings, 0, 0)
        counted = (batch.counts > 0).any(dim=1)
        assert ((mask.image_shown | mask.genes_shown) == (batch.image_present | counted)).all()


def test_cells_are_hidden_from_their_niche_in_the_share_asked_for(read: RowReader) -> None:
    batch = read(0, range(60))
    hidden = torch.cat([~hide_cells(batch, 0.3, seed, 0) for seed in range(30)]).float().mean()
    assert abs(hidden - 0.3) < 0.04
