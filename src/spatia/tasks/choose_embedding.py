"""Which embedding of the cells to read labels off: the one from which held-out labelled cells are told best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spatia.errors import SettingsError
from spatia.readout.predictors import MOST_CELLS_TO_CHOOSE_C, fit_logistic

AUTO: Final = "auto"
# fewer than a final fit chooses from: enough to compare embeddings, at half the time
INVERSE_PENALTIES: Final = (1e-3, 1e-2, 1e-1)
LEAST_OF_LABEL: Final = 10  # in the sample that compares


@dataclass(frozen=True)
class Choice:
    """An embedding, and what it was chosen by.

    Attributes
    ----------
    name
        Of the embedding.
    held_out
        Of each one that was compared: how well held-out cells are told; of labels their mean log-likelihood, of groups the share of the
        variance of expression.
    """

    name: str
    held_out: Mapping[str, float]


def choose_embedding(
    embeddings: Mapping[str, NDArray[np.floating]],
    labels: ArrayLike,
    *,
    positions_um: NDArray[np.floating] | None = None,
    sections: ArrayLike | None = None,
    seed: int = 0,
) -> Choice:
    """Compare embeddings of labelled cells by what a predictor that has not seen a cell says of its label.

    Labels that follow expression are read best from genes alone, others from image and genes, regions from the surroundings: what a
    label follows is for the labelled cells to say.

    Parameters
    ----------
    embeddings
        (cells, width) by name, finite; of equal ones the first is taken.
    labels
        (cells,) class names, at least two different.
    positions_um, sections
        Given: cells are held out in spatial blocks.

    Raises
    ------
    SettingsError
        If there is no embedding, or one class only.

    Notes
    -----
    The multinomial logistic regression of :mod:`spatia.readout.predictors`; of more than 5,000 cells a random sample compares, in which
    no label has fewer than ten cells that has as many: of a rare one chance could take all.
    """
    if not embeddings:
        raise SettingsError("There is no embedding to choose from; `spatia embed` makes X_spatia.")
    names = np.asarray(labels).astype(str)
    rows = _some(names, MOST_CELLS_TO_CHOOSE_C, seed)
    position = None if positions_um is None else np.asarray(positions_um)[rows]
    section = None if sections is None else np.asarray(sections)[rows]
    held_out = {
        name: fit_logistic(
            embedding[rows],
            names[rows],
            positions_um=position,
            sections=section,
            inverse_penalties=INVERSE_PENALTIES,
            seed=seed,
        ).held_out
        for name, embedding in embeddings.items()
    }
    return Choice(max(held_out, key=lambda name: held_out[name]), held_out)


def _some(names: NDArray[np.str_], most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of at most ``most`` cells in their order: `LEAST_OF_LABEL` of each label, the rest drawn from all."""
    order = np.random.default_rng(seed).permutation(len(names))
    before = pd.Series(names[order]).groupby(names[order]).cumcount().to_numpy()  # of the same label
    first = np.argsort(before >= LEAST_OF_LABEL, kind="stable")
    return np.sort(order[first[:most]])
