"""Losses are sums with counts: halves of a batch add up to the whole; the likelihood is the one of scipy."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom

from spatia.models.losses import contrastive_term, masked_term, negative_binomial_nll
from spatia.nn.gradient_reversal import reverse_gradient


@given(st.integers(0, 300), st.floats(0.01, 200), st.floats(0.1, 30))
def test_the_likelihood_is_that_of_scipy(count: int, mean: float, theta: float) -> None:
    tensors = [torch.tensor([value], dtype=torch.float64) for value in (count, np.log(mean), theta)]
    found = negative_binomial_nll(*tensors) + torch.lgamma(tensors[0] + 1)
    expected = -nbinom.logpmf(count, theta, theta / (theta + mean))
    np.testing.assert_allclose(found.item(), expected, rtol=1e-8, atol=1e-8)


def test_means_far_out_do_not_overflow() -> None:
    extreme = torch.tensor([-60.0, 60.0], requires_grad=True)
    loss = negative_binomial_nll(torch.tensor([3.0, 0.0]), extreme, torch.tensor([2.0, 2.0])).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(extreme.grad).all()


def test_a_term_counts_only_what_is_masked() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    term = masked_term(values, torch.tensor([[True, False], [False, True]]))
    assert (term.total.item(), term.count.item()) == (5.0, 2.0)


def test_contrast_prefers_the_right_partner_and_ignores_cells_that_lack_a_side() -> None:
    image = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    both = torch.ones(6, dtype=torch.bool)
    right = contrastive_term(image, image, both, torch.tensor(10.0))
    wrong = contrastive_term(image, image.roll(1, dims=0), both, torch.tensor(10.0))
    assert right.total < wrong.total
    some = both.clone()
    some[4:] = False
    alone = contrastive_term(image[:4], image[:4], both[:4], torch.tensor(10.0))
    masked = contrastive_term(image, image, some, torch.tensor(10.0))
    torch.testing.assert_close(masked.total, alone.total)
    assert masked.count == 4


def test_contrast_of_a_batch_in_which_no_cell_has_both_sides_is_zero_with_a_gradient() -> None:
    image, genes = (torch.randn(3, 8, requires_grad=True) for _ in range(2))
    neither = contrastive_term(image, genes, torch.zeros(3, dtype=torch.bool), torch.tensor(10.0))
    assert neither.total == 0
    assert neither.count == 0
    neither.total.backward()
    torch.testing.assert_close(image.grad, torch.zeros(3, 8))


def test_reversal_turns_the_gradient_and_not_the_value() -> None:
    values = torch.tensor([2.0], requires_grad=True)
    turned = reverse_gradient(values)
    (3 * turned).backward()
    assert turned.item() == 2.0
    assert values.grad.item() == -3.0
