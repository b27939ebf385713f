"""Patches and padded lists invert; positions tell places apart."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from spatia.nn.patches import patchify, unpatchify
from spatia.nn.positions import fourier_um, grid_sincos
from spatia.nn.ragged import columns_in_use, mean_of_used, pad


@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from([(8, 2), (8, 4), (16, 8)]))
def test_patches_invert(rows: int, channels: int, size: tuple[int, int]) -> None:
    px, patch = size
    images = torch.arange(rows * channels * px * px, dtype=torch.float32).view(rows, channels, px, px)
    assert torch.equal(unpatchify(patchify(images, patch)), images)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_padding_keeps_every_member_once(lengths: list[int]) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    padded = pad(offsets)
    assert padded.index[padded.used].tolist() == list(range(sum(lengths)))
    assert padded.used.sum(dim=1).tolist() == lengths


def test_the_mean_leaves_out_what_is_not_in_use() -> None:
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [7.0], [9.0]]])
    used = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_of_used(values, used).tolist() == [[2.0], [0.0]]


def test_columns_in_use_are_those_and_no_others() -> None:
    used = torch.tensor([[False, True, True], [False, False, False], [True, False, False]])
    found = columns_in_use(used)
    assert [row[mask].tolist() for row, mask in zip(found.index, found.used, strict=True)] == [[1, 2], [], [0]]


def test_no_two_patches_have_the_same_position() -> None:
    positions = grid_sincos(8, 32)
    apart = torch.cdist(positions, positions) + torch.eye(64) * 10
    assert apart.min() > 0.1


def test_offsets_of_a_cell_apart_are_told_apart_and_zero_is_zero() -> None:
    offsets = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [-8.0, 0.0]])
    features = fourier_um(offsets, 8, 120.0)
    apart = torch.cdist(features, features) + torch.eye(4) * 10
    assert apart.min() > 0.5
    assert features[0, :16].abs().max() == 0
