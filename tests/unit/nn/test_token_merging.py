"""Merging tokens: nothing at ratio 0, the right sizes, equal tokens are one, and attention that counts them."""

import pytest
import torch
from torch.nn import functional as F

from spatia.nn.token_merging import MOST, Merging, grid_partition, match, merged_attention


def test_ratio_zero_merges_nothing() -> None:
    assert match(torch.randn(2, 16, 4), 0.0) is None


@pytest.mark.parametrize("ratio", [0.25, 0.5, MOST])
def test_sizes_and_shapes(ratio: float) -> None:
    tokens = torch.randn(3, 64, 8, generator=torch.Generator().manual_seed(0))
    merging = match(tokens, ratio)
    assert merging is not None
    assert merging.size.shape == (3, 64 - int(64 * ratio))
    assert merging.size.sum(dim=1).tolist() == [64.0] * 3
    merged = merging.merge(tokens)
    assert merged.shape == (3, merging.size.shape[1], 8)
    assert merging.unmerge(merged).shape == tokens.shape


def test_merging_keeps_the_mean_of_each_row() -> None:
    tokens = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(1))
    merging = match(tokens, 0.5)
    assert merging is not None
    mean = (merging.merge(tokens) * merging.size[:, :, None]).sum(dim=1) / 16
    assert torch.allclose(mean, tokens.mean(dim=1), atol=1e-6)


def test_equal_tokens_come_back_unchanged() -> None:
    """Where squares of 2×2 tokens are equal, merging three of four loses nothing."""
    corners = torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(2))
    tokens = corners.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2).flatten(1, 2)
    merging = match(tokens, MOST)
    assert merging is not None
    assert torch.allclose(merging.unmerge(merging.merge(tokens)), tokens, atol=1e-6)


def test_attention_with_sizes_is_attention_to_copies() -> None:
    """A key that stands for three tokens is read as three keys would be."""
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(1, 2, n, 4, generator=generator) for n in (5, 3, 3))
    size = torch.tensor([[1.0, 3.0, 2.0]])
    times = torch.tensor([0, 1, 1, 1, 2, 2])
    expected = F.scaled_dot_product_attention(query, key[:, :, times], value[:, :, times])
    assert torch.allclose(merged_attention(query, key, value, size), expected, atol=1e-5)


def test_without_sizes_it_is_plain_attention() -> None:
    query = torch.randn(1, 2, 5, 4, generator=torch.Generator().manual_seed(4))
    assert torch.equal(merged_attention(query, query, query, None), F.scaled_dot_product_attention(query, query, query))


def test_gradients_reach_every_token() -> None:
    tokens = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    merging = match(tokens, 0.5)
    assert merging is not None
    merging.unmerge(merging.merge(tokens)).square().sum().backward()
    assert tokens.grad is not None
    assert bool((tokens.grad.abs().sum(dim=2) > 0).all())


def test_sources_and_destinations_share_the_grid() -> None:
    source, destination = grid_partition(64)
    assert sorted([*source.tolist(), *destination.tolist()]) == list(range(64))
    assert len(destination) == 16


def test_the_most_similar_are_merged_first() -> None:
    tokens = torch.eye(16)[None].clone()
    tokens[0, 1] = tokens[0, 0]  # token 1 equals the destination beside it
    merging = match(tokens, 1 / 16)
    assert isinstance(merging, Merging)
    assert merging.home[0, 1] == merging.home[0, 0]
    assert merging.size.max() == 2
