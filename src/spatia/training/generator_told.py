"""Which surroundings a generator of cells is told of, where its user does not say: not those that mislead about cells of other places."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus
from spatia.log import logger
from spatia.readout.predictors import fit_ridge
from spatia.readout.targets import standard_features
from spatia.training.generator_data import MEASURED_ROWS, CorpusData, with_images

SURROUNDINGS: Final = ("tissue", "niche")  # in the order in which they are left out
LEAST_LOSS: Final = 0.005  # of the share of variance: what misleads less than this stays
LEAST_CELLS: Final = 50


def conditions_that_hold(data: CorpusData) -> tuple[tuple[str, ...], dict[str, float]]:
    """Leave out surroundings with which measured morphology of held-out blocks is told worse than without them.

    On a slide of two windows an embedding of the tissue says where a cell lies, and with it how bright that place is stained; of another
    place it says something wrong, and a generator believes it. What shows that beforehand is a ridge regression of the measured features
    of training cells, held out in spatial blocks.

    Returns
    -------
    The conditions, in their order, and for each set that was compared the mean share of variance of held-out cells: empty where
    there is nothing to compare by (no outlines, hardly a cell).

    Notes
    -----
    The tissue is tried first, then the niche; each is left out if the share is higher by 0.005 without it.
    """
    told = tuple(name for name in data.settings.generator.told)
    features, conditions, place = _training_cells(data)
    shares: dict[str, float] = {}
    if len(features) < LEAST_CELLS or not features.shape[1]:
        return told, shares

    def share(names: tuple[str, ...]) -> float:
        inputs = np.hstack([conditions[name] for name in names])
        held_out = fit_ridge(inputs, features, **place).held_out
        shares[" + ".join(names)] = float(np.nanmean(held_out))
        return shares[" + ".join(names)]

    best = share(told)
    for name in SURROUNDINGS:
        fewer = tuple(one for one in told if one != name)
        if name not in told or not fewer:
            continue
        without = share(fewer)
        if without - best >= LEAST_LOSS:
            logger.info(
                "condition %s is left out: with it %.3f of the variance of measured features of held-out training cells is told, without "
                "it %.3f; conditions=[…] tells it all the same",
                name, best, without,
            )  # fmt: skip
            told, best = fewer, without
    return told, shares


def _training_cells(
    data: CorpusData,
) -> tuple[NDArray[np.float64], Mapping[str, NDArray[np.floating]], dict[str, Any]]:
    """Return standardised features (cells, those that vary) of some training cells, their conditions, and where they lie."""
    settings = data.settings
    batches = islice(data.loader(settings.part, 0, 1, shuffle=True), max(1, MEASURED_ROWS // settings.batch))
    found = [batch for batch in batches if batch.morphology is not None]
    if not found:
        return np.zeros((0, 0)), {}, {}
    values = torch.cat([torch.as_tensor(batch.morphology) for batch in found]).double().numpy()
    measured = torch.cat([torch.as_tensor(batch.morphology_measured) for batch in found]).numpy()
    section, row = (torch.cat([getattr(batch, name) for batch in found]).numpy() for name in ("section", "row"))
    conditions = {
        name: torch.cat([batch.conditions[name] for batch in found]).numpy() for name in settings.generator.told
    }
    features, rows = standard_features(values, measured)
    position = _positions(data.corpus, section[rows], row[rows])
    place = {"positions_um": position, "sections": section[rows]}
    return features, {name: one[rows] for name, one in conditions.items()}, place


def _positions(corpus: Corpus, section: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return centres in µm, (cells, 2)."""
    out = np.zeros((len(row), 2))
    for number, sample in enumerate(with_images(corpus)):
        at = section == number
        out[at] = corpus.section(sample).positions_um()[row[at]]
    return out
