"""Batches refuse what breaks their contract, and move between devices whole."""

from dataclasses import fields, replace
from typing import get_type_hints

import pytest
import torch
from jaxtyping import jaxtyped

from spatia.data.batch import BatchError, CellBatch, NicheBatch, TissueBatch


def cell_batch(**changes) -> CellBatch:
    """Three cells of two sections, four genes, two channels; the third cell has no image and no mask."""
    images = torch.full((3, 2, 8, 8), 9, dtype=torch.uint8)
    images[0, 1] = images[2] = 0
    masks = torch.full((3, 8, 8), 3, dtype=torch.uint8)
    masks[2] = 0
    values = {
        "section": torch.tensor([0, 0, 1]),
        "row": torch.tensor([4, 5, 0]),
        "position_um": torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]),
        "um_per_px": 0.425,
        "images": images,
        "channels_present": torch.tensor([[True, False], [True, True], [False, False]]),
        "image_share": torch.tensor([1.0, 0.5, 0.0]),
        "masks": masks,
        "mask_present": torch.tensor([True, True, False]),
        "counts": torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0]]),
        "panel_measured": torch.tensor([[True, True, False, False], [False, True, True, True]]),
    }
    return CellBatch(**(values | changes))


def niche_batch(**changes) -> NicheBatch:
    """Two niches: the first of two cells, the second of one."""
    values = {
        "section": torch.tensor([0, 1]),
        "row": torch.tensor([7, 1]),
        "position_um": torch.zeros(2, 2),
        "um_per_px": 0.85,
        "images": torch.zeros(2, 2, 8, 8, dtype=torch.uint8),
        "channels_present": torch.zeros(2, 2, dtype=torch.bool),
        "cells": cell_batch(),
        "offsets": torch.tensor([0, 2, 3]),
        "member_cell": torch.tensor([0, 1, 2]),
        "centre_cell": torch.tensor([-1, -1]),
    }
    return NicheBatch(**(values | changes))


def tissue_batch(**changes) -> TissueBatch:
    """Two windows of one niche each."""
    values = {
        "section": torch.tensor([0, 1]),
        "row": torch.tensor([0, 0]),
        "position_um": torch.zeros(2, 2),
        "um_per_px": 1.7,
        "images": None,
        "channels_present": torch.zeros(2, 2, dtype=torch.bool),
        "niches": niche_batch(),
        "offsets": torch.tensor([0, 1, 2]),
    }
    return TissueBatch(**(values | changes))


def test_derived_fields():
    batch = cell_batch()
    assert batch.image_present.tolist() == [True, True, False]
    assert batch.measured[2].tolist() == [False, True, True, True]
    assert niche_batch().n_members.tolist() == [2, 1]
    assert niche_batch().member_niche.tolist() == [0, 0, 1]
    assert tissue_batch().niche_window.tolist() == [0, 1]
    assert tissue_batch().cells.row.tolist() == [4, 5, 0]
    assert "counts (3, 4)" in repr(batch)


@pytest.mark.parametrize("batch", [cell_batch(), niche_batch(), tissue_batch()], ids=lambda b: type(b).__name__)
def test_fields_have_the_shapes_they_are_annotated_with(batch):
    hints = get_type_hints(type(batch))
    with jaxtyped("context"):
        for field in fields(batch):
            assert isinstance(getattr(batch, field.name), hints[field.name]), field.name


COUNTS = cell_batch().counts


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"counts": COUNTS.double()}, r"counts: found torch.float64 \(3, 4\), expected torch.float32 \(3, 4\)"),
        ({"counts": COUNTS[:2]}, r"counts: found torch.float32 \(2, 4\)"),
        ({"counts": COUNTS.numpy()}, "counts: found ndarray, expected a tensor"),
        ({"counts": COUNTS * float("nan")}, "counts: NaN, negative or infinite"),
        ({"counts": COUNTS - 1}, "counts: NaN, negative or infinite"),
        ({"counts": COUNTS / 0.0}, "counts: NaN, negative or infinite"),
        ({"counts": torch.ones(3, 4)}, "counts: a count in a gene that the section's panel does not measure"),
        ({"position_um": torch.full((3, 2), float("nan"))}, "position_um: a position is NaN"),
        ({"section": torch.tensor([0, 0, 2])}, "section: an index beyond 2 sections"),
        ({"section": torch.tensor([0, 0, -1])}, "section: a negative index"),
        ({"images": torch.ones(3, 2, 8, 8, dtype=torch.uint8)}, "images: intensities in a channel that is not present"),
        ({"images": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)}, r"images: found torch.uint8 \(3, 1, 8, 8\)"),
        ({"masks": torch.ones(3, 8, 8, dtype=torch.uint8)}, "masks: a mask where none is present"),
        ({"image_share": torch.tensor([1.0, 2.0, 0.0])}, r"image_share: outside \[0, 1\]"),
        ({"um_per_px": 0.0}, "um_per_px: 0.0 is not positive"),
    ],
)
def test_a_wrong_cell_batch_is_refused(changes, message):
    with pytest.raises(BatchError, match="CellBatch." + message):
        cell_batch(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"offsets": torch.tensor([0, 2, 4])}, "offsets: not ascending from 0 to 3"),
        ({"offsets": torch.tensor([0, 4, 3])}, "offsets: not ascending"),
        ({"member_cell": torch.tensor([0, 1, 3])}, r"member_cell: an index outside \[0, 3\)"),
        ({"centre_cell": torch.tensor([-2, 0])}, r"centre_cell: an index outside \[-1, 3\)"),
        ({"member_cell": torch.tensor([0, 2, 1])}, "member_cell: a cell of another section"),
    ],
)
def test_a_wrong_niche_batch_is_refused(changes, message):
    with pytest.raises(BatchError, match="NicheBatch." + message):
        niche_batch(**changes)


def test_a_wrong_tissue_batch_is_refused():
    with pytest.raises(BatchError, match=r"TissueBatch.niches: a niche of another section"):
        tissue_batch(section=torch.tensor([1, 0]))
    with pytest.raises(BatchError, match=r"TissueBatch.offsets"):
        tissue_batch(offsets=torch.tensor([0, 2]))


def test_what_is_not_asked_for_is_none_and_an_empty_batch_is_legal():
    batch = cell_batch(images=None, masks=None, counts=None)
    assert batch.images is None
    assert len(batch.to("cpu")) == 3
    rows = {"section", "row", "position_um", "images", "channels_present", "image_share", "masks", "mask_present"}
    empty = replace(batch, **{name: getattr(cell_batch(), name)[:0] for name in rows | {"counts"}})
    assert len(empty) == 0


def test_to_moves_every_tensor_of_every_level():
    moved = tissue_batch().to("meta")
    assert moved.device.type == "meta"
    assert moved.niches.cells.counts.device.type == "meta"
    assert moved.niches.um_per_px == 0.85
    assert tissue_batch().cells.counts.device.type == "cpu"
