"""Novae (Blampey et al., Nat. Methods 2025): a graph network of cell neighbourhoods, trained here from random weights.

The authors' package and architecture; its pretrained models are not fetched. Trained on training cells and their Delaunay graph
alone, by its own contrastive loss. To embed, each section's graph holds all its cells, as in `smoothed_pca`: expression of test
cells, never their labels. A cell without a neighbour in reach gets zeros from the package.
"""

import contextlib
import io
import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spatia.bench.methods.method import GENES, Method, Problem
from spatia.extras import require

LONGEST_EDGE_UM = 100.0
GENE_WIDTH, WIDTH, LAYERS = 50, 64, 10
# The package's settings, but for batches and prototypes that suit a thousand cells rather than millions.
BATCH, PROTOTYPES = 64, 128
CELLS_SEEN, MOST_EPOCHS = 10_000, 20  # a budget of cells seen, so that all data take the same time
LEAST_EPOCHS = 4  # its schedule of learning rates divides by epochs − 2


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the representation of each cell's neighbourhood, (n, 64)."""
    cells, train = problem.cells, problem.train
    expression = cells.expression(problem.visible).astype(np.float32)
    found = np.zeros((len(cells), WIDTH), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch_geometric and the trainer, which are not ours to mend
        novae = require("novae", "rivals")
        for name in ("novae", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.ERROR)

        def table(rows: NDArray[np.int64]) -> ad.AnnData:
            made = ad.AnnData(
                expression[rows],
                obs=pd.DataFrame(index=[f"cell_{row}" for row in rows]),
                var=pd.DataFrame(index=[f"gene_{gene:06d}" for gene in problem.visible]),
            )
            made.obsm["spatial"] = cells.position_um[rows]
            novae.spatial_neighbors(made, radius=LONGEST_EDGE_UM, verbose=False)
            return made

        sections = [np.flatnonzero(cells.sample == name) for name in np.unique(cells.sample.astype(str))]
        fitted = [table(np.intersect1d(rows, train)) for rows in sections if np.isin(rows, train).any()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.seed)
            state = np.random.get_state()  # noqa: NPY002 - the package draws from numpy's global generator
            np.random.seed(problem.seed)  # noqa: NPY002
            try:
                model = novae.Novae(
                    fitted,
                    embedding_size=min(GENE_WIDTH, len(problem.visible) - 1),
                    output_size=WIDTH,
                    num_layers=LAYERS,
                    batch_size=min(BATCH, len(train) // 2),
                    num_prototypes=PROTOTYPES,
                    # given, as the package would take them from a set, whose order differs between processes
                    var_names=list(fitted[0].var_names),
                )
                model.fit(
                    max_epochs=min(MOST_EPOCHS, max(LEAST_EPOCHS, CELLS_SEEN // len(train))),
                    accelerator="cpu",
                    logger=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                )
                for rows in sections:
                    whole = table(rows)
                    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be turned off
                        model.compute_representations(whole, accelerator="cpu")
                    found[rows] = whole.obsm["novae_latent"]
            finally:
                np.random.set_state(state)  # noqa: NPY002
    return found


NOVAE = Method("novae", GENES, embed, "Novae, trained on the training cells", genes_side=embed)
