r"""How much a pair can be trusted, as a probability.

What a plan itself says is :math:`c_i = \max_j P_{ij}/\mu_i`, the share of a source that goes to its likeliest partner, and the entropy
of its row. Both depend on how many targets there are: with one target :math:`c_i = 1` whatever that target is. A
calibration turns them, with the number of targets and the mean cost of the row, into the probability that the likeliest partner
has the right state (:mod:`spatia.pairing.partner_state`). It is fitted where that is known, on simulated slides.
"""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from spatia.config import make_settings
from spatia.errors import SettingsError
from spatia.pairing.plans import Floats, Rows
from spatia.pairing.settings import CostSettings, SolverSettings

FEATURES: Final = ("log_confidence", "log_partners", "log_targets", "cost")
_TINY = 1e-12


class Calibration(BaseModel):
    """A logistic regression on :data:`FEATURES`, and the settings that it was fitted under, outside of which it says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    intercept: float
    weights: tuple[float, ...] = Field(min_length=len(FEATURES), max_length=len(FEATURES))
    fitted_on: str
    n_pairs: int
    cost: CostSettings
    solver: SolverSettings

    def fits(self, cost: CostSettings, solver: SolverSettings) -> bool:
        """Say whether plans made under these settings are of the kind that it was fitted on."""
        ignored = {"max_iterations", "tolerance"}  # do not change what a plan is
        mine, theirs = (one.model_dump(exclude=ignored) for one in (self.solver, solver))
        return bool(self.cost == cost and mine == theirs)

    def probability(self, rows: Rows) -> Floats:
        """Return the probability that the likeliest partner of each row has the right state, (n,)."""
        return np.asarray(expit(features(rows) @ np.array(self.weights) + self.intercept))


@dataclass(frozen=True)
class Trust:
    """Calibrated probability of each row (NaN where no calibration fits the settings), and why."""

    probability: Floats
    note: str


def features(rows: Rows) -> Floats:
    """Return what a calibration reads, (n, 4): log confidence, log effective partners, log targets, mean cost."""
    return np.column_stack(
        [
            np.log(np.maximum(rows.confidence, _TINY)),
            rows.entropy,
            np.log(np.maximum(rows.n_targets, 1)),
            rows.cost,
        ]
    )


def fit_calibration(
    X: Floats, right: Floats, *, name: str, fitted_on: str, cost: CostSettings, solver: SolverSettings
) -> Calibration:
    """Fit a calibration.

    Parameters
    ----------
    X
        (n, 4) :func:`features`.
    right
        (n,) whether the likeliest partner has the right state.
    """
    mean, sd = X.mean(axis=0), np.maximum(X.std(axis=0), _TINY)
    model = LogisticRegression(C=100.0, max_iter=1_000).fit((X - mean) / sd, right.astype(int))
    weights = model.coef_[0] / sd
    return Calibration(
        name=name,
        intercept=round(float(model.intercept_[0] - weights @ mean), 6),
        weights=tuple(round(float(one), 6) for one in weights),
        fitted_on=fitted_on,
        n_pairs=len(X),
        cost=cost,
        solver=solver,
    )


def read_calibration(path: str | Path | None = None) -> Calibration:
    """Read a calibration; None: the one of the package, fitted on simulated slides."""
    where = "the package's calibration" if path is None else str(path)
    try:
        text = (
            resources.files("spatia.pairing").joinpath("calibration.json").read_text(encoding="utf-8")
            if path is None
            else Path(path).read_text(encoding="utf-8")
        )
        content: Any = json.loads(text)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{where}: cannot be read ({error}). Make one with benchmarks/pairing.py.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{where}: found {type(content).__name__}, expected a JSON object.")
    return make_settings(Calibration, content, where=where)


def trust(rows: Rows, calibration: Calibration, cost: CostSettings, solver: SolverSettings) -> Trust:
    """Return calibrated probabilities, or NaN where the calibration was fitted under other settings."""
    if calibration.fits(cost, solver):
        return Trust(calibration.probability(rows), f"{calibration.name}: {calibration.fitted_on}")
    note = f"none: {calibration.name!r} was fitted under other cost or solver settings"
    return Trust(np.full(len(rows.confidence), np.nan), note)
