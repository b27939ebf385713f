"""Losses as sum and count, so that batches and ranks of any size average exactly."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from spatia.nn.distributed import gather_rows, world


@dataclass(frozen=True)
class Term:
    """One term of a loss.

    Attributes
    ----------
    total
        Sum over what is counted.
    count
        Of how many.
    """

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]


def masked_term(values: Float[Tensor, "*shape"], counted: Tensor) -> Term:
    """Sum the values where ``counted`` (bool, or weights of at least 0)."""
    weight = counted.to(values.dtype)
    return Term((values * weight).sum(), weight.sum())


def negative_binomial_nll(
    counts: Float[Tensor, "*shape"], log_mean: Float[Tensor, "*shape"], dispersion: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    r"""Return :math:`-\log \mathrm{NB}(n \mid \mu, \theta)` without the term that depends on counts alone (n!).

    Variance :math:`\mu + \mu^2/\theta`; written in log μ, so that neither large nor small means overflow.

    Examples
    --------
    >>> from scipy.stats import nbinom
    >>> nll = negative_binomial_nll(torch.tensor([3.0]), torch.tensor([2.0]).log(), torch.tensor([1.5]))
    >>> exact = -nbinom.logpmf(3, 1.5, 1.5 / (1.5 + 2.0))
    >>> round(nll.item() + torch.lgamma(torch.tensor(4.0)).item() - float(exact), 5)
    0.0
    """
    log_theta = dispersion.log()
    log_total = torch.logaddexp(log_mean, log_theta)
    return (
        torch.lgamma(dispersion)
        - torch.lgamma(counts + dispersion)
        + dispersion * (log_total - log_theta)
        + counts * (log_total - log_mean)
    )


def contrastive_term(
    image: Float[Tensor, "rows width"],
    genes: Float[Tensor, "rows width"],
    both: Bool[Tensor, "rows"],
    temperature: Tensor,
) -> Term:
    """Symmetric InfoNCE between the two sides of each cell, against the cells of all ranks.

    Rows that lack a side are no candidates and are not counted. Counted on every rank for its own rows, so the sum over
    ranks is the loss of the joint batch. In validation, without gradients, each rank has its own candidates.
    """
    rank = world()[0] if torch.is_grad_enabled() else 0
    all_image, all_genes = gather_rows(image), gather_rows(genes)
    all_both = gather_rows(both.to(image.dtype)[:, None])[:, 0] > 0
    target = torch.arange(len(image), device=image.device) + rank * len(image)
    blocked = torch.where(all_both, 0.0, float("-inf"))
    total = image.new_zeros(())
    for own, others in ((image, all_genes), (genes, all_image)):
        logits = temperature * own @ others.T
        # zero, not nothing, where no row has both: every rank must take part in the gradient of the gathered rows
        scored = F.cross_entropy((logits + blocked)[both], target[both], reduction="sum") if both.any() else 0.0
        loss = scored + logits.sum() * 0
        total = total + loss / 2
    return Term(total, both.sum().to(image.dtype))
