r"""Where the path to a target begins: at noise, at some cell of the source state, or at the cell it was paired with.

A coupling is one function and one line of `COUPLINGS`. Which partner a pair has is drawn where pairs are read (from the rows of
the plan, or for ``control`` without it); here it is decided what the flow begins at, and what the pair counts.
"""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jaxtyping import Float
from torch import Tensor

from spatia.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Ends:
    r"""What a path may begin at.

    Attributes
    ----------
    noise
        Standard normal.
    source
        Images of the source cells, on the same scale; None where there are none.
    confidence
        Of the pairs, in (0, 1].
    gamma, mean_weight
        A pair counts :math:`c^\gamma / E[c^\gamma]`, with the mean over the training pairs.
    """

    noise: Float[Tensor, "rows channels y x"]
    source: Float[Tensor, "rows channels y x"] | None = None
    confidence: Float[Tensor, "rows"] | None = None
    gamma: float = 1.0
    mean_weight: float = 1.0


@dataclass(frozen=True)
class Coupled:
    """Sources of a batch.

    Attributes
    ----------
    x_0
        Where each path begins.
    weight
        What each row counts in the loss; mean 1 over the training pairs.
    """

    x_0: Float[Tensor, "rows channels y x"]
    weight: Float[Tensor, "rows"]


def couple(kind: str, ends: Ends) -> Coupled:
    """Give every row its source.

    Parameters
    ----------
    kind
        ``noise``; ``control``: a cell of the source state, whichever; ``ot``: its partner in the plan; ``ot-confidence``: the same,
        weighted; ``self``: the target itself, changed (`spatia.generation.distortion`).

    Raises
    ------
    SettingsError
        If the coupling is unknown, or needs what is not there.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(2, 1, 1, 1)
    >>> couple("ot-confidence", Ends(noise=one, source=one, confidence=torch.tensor([0.2, 0.6]), mean_weight=0.4)).weight.tolist()
    [0.5, 1.5]
    """
    if kind not in COUPLINGS:
        raise SettingsError(f"Unknown coupling {kind!r}. There are: {', '.join(COUPLINGS)}.")
    return COUPLINGS[kind](ends)


def _from_noise(ends: Ends) -> Coupled:
    return Coupled(ends.noise, ends.noise.new_ones(len(ends.noise)))


def _from_source(ends: Ends) -> Coupled:
    if ends.source is None:
        raise SettingsError("A coupling that begins at cells needs source images: give pairs, or take coupling=noise.")
    return Coupled(ends.source, ends.source.new_ones(len(ends.source)))


def _from_source_weighted(ends: Ends) -> Coupled:
    if ends.confidence is None:
        raise SettingsError(
            "coupling=ot-confidence needs the confidence of every pair. Make the pairs with `spatia pair`."
        )
    weight = ends.confidence.pow(ends.gamma) / ends.mean_weight
    return Coupled(_from_source(ends).x_0, weight)


COUPLINGS: Final[dict[str, Callable[[Ends], Coupled]]] = {
    "noise": _from_noise,
    "control": _from_source,
    "ot": _from_source,
    "ot-confidence": _from_source_weighted,
    "self": _from_source,
}
