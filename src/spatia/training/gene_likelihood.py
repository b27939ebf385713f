"""The likelihood of counts, as both stages minimise it: over measured genes only, with the cell's depth."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from spatia.models.losses import Term, masked_term, negative_binomial_nll
from spatia.models.spatia import Spatia
from spatia.nn.hashing import hash_uniform
from spatia.training.settings import TrainSettings


def gene_term(
    model: Spatia,
    fused: Float[Tensor, "rows fused"],
    counts: Float[Tensor, "rows genes"],
    measured: Bool[Tensor, "rows genes"],
    weight: Float[Tensor, "rows genes"],
    settings: TrainSettings,
    stream: tuple[int, int],
) -> Term:
    """Return the negative binomial loss of counts, weighted.

    Parameters
    ----------
    counts, measured
        Raw counts over the model's genes, and which of them are measurements; cells without a count do not enter.
    weight
        Of each count, at least 0.
    stream
        (epoch, purpose): which genes a large panel predicts now, the same on every rank.
    """
    depth = model.gene_encoder.depth_of(counts, measured)[:, None]
    weight = weight * measured * (depth > 0)
    genes = _turn(counts.shape[1], settings, stream, counts.device)
    if genes is not None:
        counts, weight = counts[:, genes], weight[:, genes]
    log_mean = model.log_rates(fused, genes) + depth.clamp(min=1).log()
    return masked_term(negative_binomial_nll(counts, log_mean, model.dispersion(genes)), weight)


def _turn(
    n_genes: int, settings: TrainSettings, stream: tuple[int, int], device: torch.device
) -> Int64[Tensor, "some"] | None:
    """Return the genes whose turn it is in this epoch; None where the panel is small enough for all."""
    most = settings.masking.most_target_genes
    if n_genes <= most:
        return None
    key = torch.zeros(1, dtype=torch.int64, device=device)
    return hash_uniform(key, n_genes, settings.seed, *stream)[0].argsort()[:most].sort().values
