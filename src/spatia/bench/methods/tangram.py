"""Tangram (Biancalani et al., Nat. Methods 2021): genes that were not measured in a cell, from cells mapped onto it.

Training cells with all their genes stand for the dissociated reference, the other cells for the spots; a mapping is learned so
that visible genes, summed over the cells mapped to a spot, agree with what the spot shows. Hidden genes of a spot are the mean
of its mapped cells. Spots are mapped together, and each reference cell must go somewhere: a prediction depends on the visible
genes of the other spots, and never on a hidden gene of any of them.

Runs the authors' package (tangram-sc 1.0.4), in its mode "cells" with a uniform density, as every spot is a cell here.
"""

import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.bench.methods.method import GENES, Method, Problem
from spatia.extras import require

EPOCHS = 500
MOST_REFERENCE, MOST_SPOTS = (
    4_000,
    4_000,
)  # the mapping has a weight for each pair: 64 MB, three times over in the optimiser


def expression(problem: Problem, genes: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the mean of log1p of depth-scaled counts over the training cells mapped to each cell, (n, len(genes)).

    Training cells, which are the reference, keep what was measured in them.
    """
    cells = problem.cells
    wanted = cells.expression(genes, depth_of=cells.shared_genes).toarray()
    shown = cells.expression(problem.visible)
    reference = problem.train
    rng = np.random.default_rng(problem.seed)
    if len(reference) > MOST_REFERENCE:
        reference = np.sort(rng.choice(reference, MOST_REFERENCE, replace=False))
    predicted = wanted.copy()
    spots = np.setdiff1d(np.arange(len(cells)), problem.train)
    predicted[spots] = wanted[reference].mean(axis=0)  # of a cell without a molecule, which cannot be mapped
    spots = spots[np.asarray(shown[spots].sum(axis=1)).ravel() > 0]
    for part in np.array_split(spots, max(1, -(-len(spots) // MOST_SPOTS))):
        weights = mapping(shown[reference], shown[part], seed=problem.seed)
        predicted[part] = weights @ wanted[reference]
    return predicted


def mapping(reference: sp.csr_matrix, spots: sp.csr_matrix, *, seed: int, epochs: int = EPOCHS) -> NDArray[np.floating]:
    """Return how much of each spot each reference cell makes up, (spots, reference), rows summing to one.

    Parameters
    ----------
    reference, spots
        (n, genes) expression of the same genes.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    state = np.random.get_state()  # noqa: NPY002 - the package draws from numpy's global generator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports names that scipy has deprecated
            tangram = require("tangram", "rivals")
            root.setLevel(logging.WARNING)  # importing it lets the root logger speak, and its messages add a handler
            tables = [_table(values) for values in (reference, spots)]
            tangram.pp_adatas(*tables, gene_to_lowercase=False)
            # sorted, as the package takes genes from a set, whose order differs between processes
            for table in tables:
                table.uns["training_genes"] = sorted(table.uns["training_genes"])
            mapped = tangram.map_cells_to_space(
                *tables,
                mode="cells",
                density_prior="uniform",
                num_epochs=epochs,
                random_state=seed + 1,  # it takes 0 for no seed
                verbose=False,
            )
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        np.random.set_state(state)  # noqa: NPY002
    weights = np.asarray(mapped.X, np.float64).T
    return weights / weights.sum(axis=1, keepdims=True)


def _table(values: sp.csr_matrix) -> ad.AnnData:
    names = [f"gene_{number:06d}" for number in range(values.shape[1])]
    return ad.AnnData(sp.csr_matrix(values, dtype=np.float32), var=pd.DataFrame(index=names))


TANGRAM = Method("tangram", GENES, None, "hidden genes of the training cells mapped to a cell", expression=expression)
