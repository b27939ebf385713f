r"""What changes with a transition: mean differences over training pairs, of expression and of measured morphology.

.. math:: \Delta g = \frac{\sum_{ij} w_{ij}\,(g_j - g_i)}{\sum_{ij} w_{ij}}

:math:`w_{ij}` are the kept entries of a source's row, scaled to the mass of the row. A gene enters only through pairs whose two
sections both measure it, a feature only through pairs in which both cells have it.

How sure a change is: the same with the cells of either end weighted at random by exponential numbers of mean 1 (the Bayesian
bootstrap, Rubin 1981). It says which cells were there to learn from, of these donors and sections; donors are not resampled and the
plan is not solved again: the mean over the pairs of a balanced plan is that of either end, whoever goes with whom.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.pairing.cells import Measured
from spatia.pairing.plans import Floats, Rows
from spatia.pairing.space import Members

GENE = "gene"
FEATURE = "morphology"
NUMBERS: Final = ("delta", "source_mean", "target_mean", "source_sd", "delta_sd")
COLUMNS: Final = ("transition", "kind", "name", "symbol", *NUMBERS, "n_pairs", "resampled")
RESAMPLES: Final = 64


def pair_weights(rows: Rows, n_targets: int) -> sp.csr_matrix:
    """Return the kept entries as weights, (sources, targets); a source's weights add up to its row's mass."""
    kept = rows.probability.sum(axis=1, keepdims=True)
    weight = rows.probability * np.divide(rows.mass[:, None], kept, out=np.zeros_like(kept), where=kept > 0)
    there = rows.partner >= 0
    source = np.broadcast_to(np.arange(len(there))[:, None], there.shape)
    return sp.csr_matrix((weight[there], (source[there], rows.partner[there])), shape=(len(there), n_targets))


def signature(transition: str, measured: Measured, train: Members, weights: sp.csr_matrix) -> pd.DataFrame:
    """Return Δg and Δm of a transition.

    Parameters
    ----------
    weights
        (sources, targets) of the training part, in the order of ``train``.
    """
    source, target = measured.place(train.source), measured.place(train.target)
    rng = np.random.default_rng(0)
    draws = _Draws(*(np.c_[np.ones(n), rng.exponential(size=(n, RESAMPLES))] for n in weights.shape))
    tables = [
        _table(transition, GENE, measured.genes, measured.symbols, _of_genes(measured, source, target, weights, draws)),
        _table(
            transition,
            FEATURE,
            measured.features,
            measured.features,
            _of_features(measured, source, target, weights, draws),
        ),
    ]
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _Draws:
    """How often each cell counts, (cells, 1 + resamples); once in the first column."""

    source: Floats
    target: Floats


class _Sums:
    """Weighted sums over pairs, (1 + resamples, names), and of the first row also squares and the number of pairs."""

    def __init__(self, n_names: int) -> None:
        shape = (1 + RESAMPLES, n_names)
        self.source_weight, self.source, self.target_weight, self.target = (np.zeros(shape) for _ in range(4))
        self.source_squared, self.n_pairs = np.zeros(n_names), np.zeros(n_names, np.int64)

    def means(self) -> tuple[Floats, Floats]:
        """Return the means of sources and of targets, NaN where there is no pair."""
        ends = ((self.source, self.source_weight), (self.target, self.target_weight))
        before, after = (np.divide(x, w, out=np.full_like(x, np.nan), where=w > 0) for x, w in ends)
        return before, after


def _of_genes(measured: Measured, source: NDArray, target: NDArray, weights: sp.csr_matrix, draws: _Draws) -> _Sums:
    sums = _Sums(len(measured.genes))
    for a in np.unique(measured.section[source]):
        own = np.flatnonzero(measured.section[source] == a)
        for b in np.unique(measured.section[target]):
            others = np.flatnonzero(measured.section[target] == b)
            W = weights[own][:, others]
            both = measured.measures[a] & measured.measures[b]
            out, into = np.asarray(W.sum(axis=1)).ravel(), np.asarray(W.sum(axis=0)).ravel()
            leave, arrive = draws.source[own] * out[:, None], draws.target[others] * into[:, None]
            g = measured.expression[source[own]].astype(np.float64)
            h = measured.expression[target[others]].astype(np.float64)
            sums.source_weight += both * leave.sum(axis=0)[:, None]
            sums.target_weight += both * arrive.sum(axis=0)[:, None]
            sums.source += both * (g.T @ leave).T
            sums.target += both * (h.T @ arrive).T
            sums.source_squared += both * (g.multiply(g).T @ out)
            sums.n_pairs += both * W.nnz
    return sums


def _of_features(measured: Measured, source: NDArray, target: NDArray, weights: sp.csr_matrix, draws: _Draws) -> _Sums:
    x, y = measured.morphology[source], measured.morphology[target]
    has_x, has_y = np.isfinite(x).astype(float), np.isfinite(y).astype(float)
    x, y = np.nan_to_num(x), np.nan_to_num(y)
    count = sp.csr_matrix((np.ones(weights.nnz), weights.indices, weights.indptr), weights.shape)
    leave, arrive = has_x * (weights @ has_y), has_y * (weights.T @ has_x)
    sums = _Sums(x.shape[1])
    sums.source_weight, sums.target_weight = draws.source.T @ leave, draws.target.T @ arrive
    sums.source, sums.target = draws.source.T @ (leave * x), draws.target.T @ (arrive * y)
    sums.source_squared = (leave * x**2).sum(axis=0)
    sums.n_pairs = (has_x * (count @ has_y)).sum(axis=0).astype(np.int64)
    return sums


def _table(transition: str, kind: str, names: tuple[str, ...], symbols: tuple[str, ...], sums: _Sums) -> pd.DataFrame:
    before, after = sums.means()
    delta = after - before
    sd = np.sqrt(
        np.maximum(sums.source_squared / np.where(sums.n_pairs > 0, sums.source_weight[0], np.nan) - before[0] ** 2, 0)
    )
    numbers = (delta[0], before[0], after[0], sd, delta[1:].std(axis=0, ddof=1))
    resampled = list(delta[1:].T.astype(np.float32))
    values = (transition, kind, list(names), list(symbols), *numbers, sums.n_pairs, resampled)
    table = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    return table[table["n_pairs"] > 0]
