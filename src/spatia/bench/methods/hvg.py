"""Highly variable genes themselves as the embedding: what a linear predictor makes of expression without any reduction."""

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods.method import GENES, Method, Problem

MOST_GENES = 300


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return log-normalised expression of up to 300 genes, (n, genes), those that vary most over training cells."""
    return problem.cells.expression(problem.visible)[:, variable_genes(problem)].toarray().astype(np.float32)


def variable_genes(problem: Problem) -> NDArray[np.int64]:
    r"""Return the places, among the visible genes, of those whose counts vary most for how much they are seen.

    .. math:: \log_{10} \mathrm{var}_g \approx a + b \log_{10} \mathrm{mean}_g + c (\log_{10} \mathrm{mean}_g)^2

    is fitted over genes. A gene's score is the variance of its counts over training cells once they are divided by the standard
    deviation that this curve expects, deviations clipped at √cells.

    References
    ----------
    Stuart et al., *Comprehensive integration of single-cell data* (Cell 2019), methods: with a local regression there, a
    parabola here, as a panel has few genes.
    """
    counts = problem.cells.counts[problem.train][:, problem.visible].toarray().astype(np.float64)
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    varies = np.flatnonzero(variance > 0)
    x, y = np.log10(mean[varies]), np.log10(variance[varies])
    degree = min(2, len(np.unique(x)) - 1)
    expected_sd = np.sqrt(10 ** np.polynomial.Polynomial.fit(x, y, degree)(x)) if degree > 0 else np.sqrt(10**y)
    deviation = (counts[:, varies] - mean[varies]) / expected_sd
    score = np.clip(deviation, -np.inf, np.sqrt(len(counts))).var(axis=0)
    return np.sort(varies[np.argsort(-score, kind="stable")[:MOST_GENES]])


HVG = Method("hvg", GENES, embed, f"up to {MOST_GENES} highly variable genes, log-normalised", genes_side=embed)
