"""What the loop trains: the border between it and the models. The loop knows nothing of cells or genes."""

from typing import Any, Protocol

from torch import Tensor, nn

from spatia.data.loader import Loader


class LossTerm(Protocol):
    """A loss as a sum and the number of things it was summed over, so that ranks average exactly."""

    @property
    def total(self) -> Tensor:
        """Scalar; has a gradient."""

    @property
    def count(self) -> Tensor:
        """Scalar; 0 where a batch holds nothing to predict."""


class Stage(Protocol):
    """One stage of training.

    Attributes
    ----------
    name
        For the log: ``"cells"``, ``"context"``.
    epochs
        Passes over the loader.
    module
        ``forward(batch, epoch) -> dict[str, LossTerm]``. Every random choice inside that is not dropout is a hash of
        (seed, epoch, section, row). Only parameters with ``requires_grad`` are trained. It may have a method
        ``embedding(batch) -> (rows, width)``; the loop then watches it for collapse.
    weights
        Weight of each term by name; ``forward`` may leave terms out, but brings no others.
    """

    @property
    def name(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def module(self) -> nn.Module: ...

    @property
    def weights(self) -> dict[str, float]: ...

    def loader(self, rank: int, world_size: int) -> Loader[Any]:
        """Open the training data of one rank; every rank gets the same number of batches."""

    def validation(self, rank: int, world_size: int) -> Loader[Any] | None:
        """Open the validation data of one rank, every row once; None where there is none."""
