"""Niches and tissue: batches do not matter, hidden cells cannot be seen, cost is linear in niches."""

from typing import Any

import pytest
import torch

from spatia.corpus.corpus import Corpus
from spatia.data.loader import tissue_loader


def encode(setup: Any, batch: Any, **options: Any) -> Any:
    model = setup.model
    cell = model.encode_cells(batch.cells).cell
    niches = model.encode_niches(batch.niches, cell, **options)
    tissues = model.encode_tissues(batch, niches.niche)
    return cell, niches, tissues, model.context_of_cells(batch, niches, tissues)


def test_windows_alone_are_as_windows_together(setup: Any) -> None:
    model = setup.model
    found = {}
    with torch.inference_mode():
        for size in (1, 3):
            loader = tissue_loader([setup.corpus], max_windows=size, shuffle=False, vocabulary=model.vocabulary)
            for batch in loader:
                cell, _, _, context = encode(setup, batch)
                fused = model.fuse(cell[context.cell], context.niche, context.tissue)
                for at, values in zip(context.cell.tolist(), fused, strict=True):
                    key = (int(batch.cells.section[at]), int(batch.cells.row[at]))
                    if size == 1:
                        found[key] = values
                    else:
                        torch.testing.assert_close(values, found[key], rtol=0, atol=1e-5)
    assert len(found) == setup.corpus.n_cells


def test_every_cell_of_a_window_gets_its_surroundings_once(setup: Any) -> None:
    for batch in setup.windows():
        _, _, _, context = encode(setup, batch)
        assert len(context.cell.unique()) == len(context.cell)


def test_a_hidden_cell_cannot_be_seen_from_its_niche(setup: Any) -> None:
    batch = setup.windows()[0]
    cell = setup.model.encode_cells(batch.cells).cell
    shown = torch.ones(len(cell), dtype=torch.bool)
    shown[3] = False
    other = cell.clone()
    other[3] = 50.0
    one, two = (setup.model.encode_niches(batch.niches, values, cell_shown=shown).niche for values in (cell, other))
    assert torch.equal(one, two)
    assert not torch.allclose(one, setup.model.encode_niches(batch.niches, cell).niche)


def test_a_hidden_niche_cannot_be_seen_from_its_window(setup: Any) -> None:
    batch = setup.windows()[0]
    _, niches, _, _ = encode(setup, batch)
    shown = torch.ones(len(niches.niche), dtype=torch.bool)
    shown[2] = False
    other = niches.niche.clone()
    other[2] = 50.0
    one, two = (setup.model.encode_tissues(batch, values, niche_shown=shown).niche for values in (niches.niche, other))
    assert torch.equal(one, two)


@pytest.mark.parametrize("apart_um", [0.0, 30.0, 200.0, 420.0])
def test_around_a_niche_lies_the_mean_of_what_is_shown_however_far(setup: Any, apart_um: float) -> None:
    transformer = setup.model.tissue_transformer
    niche = torch.full((1, 2, 5), 3.0)
    offset_um = torch.tensor([[[-apart_um / 2, -apart_um / 2], [apart_um / 2, apart_um / 2]]])
    around = transformer._mean_around(niche, offset_um, torch.tensor([[False, True]]))
    torch.testing.assert_close(around, niche)
    nothing = transformer._mean_around(niche, offset_um, torch.zeros(1, 2, dtype=torch.bool))
    assert not nothing.any()


def test_moving_a_whole_section_changes_nothing(setup: Any) -> None:
    batch = setup.windows()[0]
    _, _, _, here = encode(setup, batch)
    for part in (batch, batch.niches, batch.cells):
        object.__setattr__(part, "position_um", part.position_um + 512.0)
    _, _, _, there = encode(setup, batch)
    torch.testing.assert_close(here.niche, there.niche, rtol=0, atol=1e-4)


def test_an_image_of_the_niche_is_left_out_where_images_are_not_used(setup: Any) -> None:
    batch = setup.windows()[0]
    cell = setup.model.encode_cells(batch.cells).cell
    with_image = setup.model.encode_niches(batch.niches, cell, use=("image", "genes")).niche
    without = setup.model.encode_niches(batch.niches, cell, use=("genes",)).niche
    assert not torch.allclose(with_image, without)


def test_each_cell_has_one_context_among_niches_of_both_kinds(
    setup: Any, tiny_corpus: Any, tiny_knn_corpus: Any
) -> None:
    """A corpus of squares and one with a niche around each cell, in one batch: each cell has what it has without the other."""
    both = [Corpus.open(one.path) for one in (tiny_corpus, tiny_knn_corpus)]
    n_sections = len(both[0].sections)
    options: Any = {"max_windows": 1000, "max_cells": 10_000, "shuffle": False, "vocabulary": setup.model.vocabulary}
    with torch.inference_mode():
        (batch,) = tissue_loader(both, **options)
        *_, found = encode(setup, batch)
        places = list(zip(batch.cells.section[found.cell].tolist(), batch.cells.row[found.cell].tolist(), strict=True))
        assert len(set(places)) == len(places) == sum(corpus.n_cells for corpus in both)
        at = {place: number for number, place in enumerate(places)}
        for first, corpus in ((0, both[0]), (n_sections, both[1])):
            (alone,) = tissue_loader([corpus], **options)
            *_, expected = encode(setup, alone)
            section = alone.cells.section[expected.cell] + first
            own = [at[place] for place in zip(section.tolist(), alone.cells.row[expected.cell].tolist(), strict=True)]
            torch.testing.assert_close(found.niche[own], expected.niche, rtol=0, atol=1e-4)
            torch.testing.assert_close(found.tissue[own], expected.tissue, rtol=0, atol=1e-4)
