"""What embeddings of the training cells look like, so that a cell unlike them can be told."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Collection
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

# what was known of a cell when it was embedded
VIEWS: Final[tuple[tuple[str, ...], ...]] = (("image", "genes"), ("image",), ("genes",))
RIDGE: Final = 0.05  # of the mean variance, added to every direction: few cells do not span all of them


class TrainingReference(nn.Module):
    """Mean and spread of the training cells' embeddings, for each of `VIEWS`.

    The score of a cell is its Mahalanobis distance from the mean, relative to the distance that 99 % of the training cells
    stay below: above 1 a cell is unlike nearly all that the model was trained on.

    Parameters
    ----------
    width
        Features of a cell embedding.
    """

    mean: Tensor
    precision: Tensor
    limit: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(VIEWS), width))
        self.register_buffer("precision", torch.zeros(len(VIEWS), width, width))
        self.register_buffer("limit", torch.ones(len(VIEWS)))

    @torch.no_grad()
    def fit(self, view: Collection[str], cells: Float[Tensor, "rows cell"]) -> None:
        """Take mean, spread and limit from the embeddings of training cells."""
        at, (mean, precision) = _view(view), _mean_and_precision(cells)
        self.mean[at] = mean.float()
        self.precision[at] = precision.float()
        self.limit[at] = 1.0
        self.limit[at] = self.score(view, cells.to(self.mean)).quantile(0.99).clamp(min=1e-6)

    def score(self, view: Collection[str], cells: Float[Tensor, "rows cell"]) -> Float[Tensor, "rows"]:
        """Return the distance of each cell; 1 is what 99 % of the training cells stay below."""
        at = _view(view)
        offset = cells - self.mean[at]
        squared = ((offset @ self.precision[at]) * offset).sum(dim=1)
        return squared.clamp(min=0).sqrt() / self.limit[at]


def _mean_and_precision(
    cells: Float[Tensor, "rows cell"],
) -> tuple[Float[Tensor, "cell"], Float[Tensor, "cell cell"]]:
    """Return both in 64 bits and on the processor: not every accelerator has these."""
    exact = cells.cpu().double()
    mean = exact.mean(dim=0)
    covariance = (exact - mean).T @ (exact - mean) / (len(exact) - 1)
    ridge = RIDGE * covariance.diagonal().mean().clamp(min=1e-12)
    return mean, torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))


def _view(use: Collection[str]) -> int:
    return next(i for i, view in enumerate(VIEWS) if set(view) == set(use))
