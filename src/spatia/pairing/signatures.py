r"""What changes with a transition: mean differences over training pairs, of expression and of measured morphology.

.. math:: \Delta g = \frac{\sum_{ij} w_{ij}\,(g_j - g_i)}{\sum_{ij} w_{ij}}

:math:`w_{ij}` are the kept entries of a source's row, scaled to the mass of the row. A gene enters only through pairs whose two
sections both measure it, a feature only through pairs in which both cells have it.
"""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.pairing.cells import Measured
from spatia.pairing.plans import Floats, Rows
from spatia.pairing.space import Members

GENE = "gene"
FEATURE = "morphology"
COLUMNS = ("transition", "kind", "name", "symbol", "delta", "source_mean", "target_mean", "source_sd", "n_pairs")


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
    tables = [
        _table(transition, GENE, measured.genes, measured.symbols, _gene_sums(measured, source, target, weights)),
        _table(
            transition, FEATURE, measured.features, measured.features, _feature_sums(measured, source, target, weights)
        ),
    ]
    return pd.concat(tables, ignore_index=True)


def _gene_sums(measured: Measured, source: NDArray, target: NDArray, weights: sp.csr_matrix) -> Floats:
    """Return rows of weighted sums over pairs: weight, source, target, source², number of pairs."""
    sums = np.zeros((5, len(measured.genes)))
    for a in np.unique(measured.section[source]):
        own = np.flatnonzero(measured.section[source] == a)
        for b in np.unique(measured.section[target]):
            others = np.flatnonzero(measured.section[target] == b)
            W = weights[own][:, others]
            both = measured.measures[a] & measured.measures[b]
            out, into = np.asarray(W.sum(axis=1)).ravel(), np.asarray(W.sum(axis=0)).ravel()
            g = measured.expression[source[own]].astype(np.float64)
            h = measured.expression[target[others]].astype(np.float64)
            sums[0] += both * W.sum()
            sums[1] += both * (g.T @ out)
            sums[2] += both * (h.T @ into)
            sums[3] += both * (g.multiply(g).T @ out)
            sums[4] += both * W.nnz
    return sums


def _feature_sums(measured: Measured, source: NDArray, target: NDArray, weights: sp.csr_matrix) -> Floats:
    x, y = measured.morphology[source], measured.morphology[target]
    has_x, has_y = np.isfinite(x).astype(float), np.isfinite(y).astype(float)
    x, y = np.nan_to_num(x), np.nan_to_num(y)
    count = sp.csr_matrix((np.ones(weights.nnz), weights.indices, weights.indptr), weights.shape)
    out, into = weights @ has_y, weights.T @ has_x
    return np.stack(
        [
            (has_x * out).sum(axis=0),
            (x * out).sum(axis=0),
            (y * into).sum(axis=0),
            (x**2 * out).sum(axis=0),
            (has_x * (count @ has_y)).sum(axis=0),
        ]
    )


def _table(transition: str, kind: str, names: tuple[str, ...], symbols: tuple[str, ...], sums: Floats) -> pd.DataFrame:
    total = np.where(sums[0] > 0, sums[0], np.nan)
    before, after = sums[1] / total, sums[2] / total
    sd = np.sqrt(np.maximum(sums[3] / total - before**2, 0))
    values = (transition, kind, list(names), list(symbols), after - before, before, after, sd, sums[4].astype(np.int64))
    table = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    return table[table["n_pairs"] > 0]
