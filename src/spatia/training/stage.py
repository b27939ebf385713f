"""What the loop trains: the border between it and the models. The loop knows nothing of cells or genes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from torch import Tensor, nn

ADVERSARIAL: Final = "adversarial"  # such a term is low where the critic wins: it is logged, and chooses no epoch


class LossTerm(Protocol):
    """A loss as a sum and the number of things it was summed over, so that ranks average exactly."""

    @property
    def total(self) -> Tensor:
        """Scalar; has a gradient."""

    @property
    def count(self) -> Tensor:
        """Scalar; 0 where a batch holds nothing to predict."""


class Batches(Protocol):
    """Epochs of batches that can say where they stand, as `spatia.data.loader.Loader` does."""

    def __len__(self) -> int:
        """Return the number of batches of the current epoch."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the current epoch that are left; a full pass moves on to the next."""

    def set_epoch(self, epoch: int) -> None:
        """Start the next pass at the first batch of ``epoch``."""

    def state_dict(self) -> dict[str, Any]:
        """Say where it stands."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there."""


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
        Weight of each term by name; ``forward`` may leave terms out, but brings no others. The validation loss, which chooses the epoch,
        is without the one named `ADVERSARIAL`.

    Notes
    -----
    A stage may have two more methods. ``epoch_ended(epoch)``: called on the first rank with the averaged weights in place, to draw
    what the module can do by now. ``ended()``: called when its weights are final, on every rank; what it raises ends the run. Neither
    may draw from torch's generators.
    """

    @property
    def name(self) -> str: ...

    @property
    def epochs(self) -> int: ...

    @property
    def module(self) -> nn.Module: ...

    @property
    def weights(self) -> dict[str, float]: ...

    def loader(self, rank: int, world_size: int) -> Batches:
        """Open the training data of one rank; every rank gets the same number of batches."""

    def validation(self, rank: int, world_size: int) -> Batches | None:
        """Open the validation data of one rank, every row once; None where there is none."""
