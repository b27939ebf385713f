"""scVI (Lopez et al. 2018): a variational autoencoder of counts, trained on the training cells."""

import logging
import warnings

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods.method import GENES, Method, Problem
from spatia.errors import NotApplicableError
from spatia.extras import require

LATENT = 30
# A budget of cells seen rather than of epochs: small slides get more epochs, and all data the same time on a CPU.
CELLS_SEEN, MOST_EPOCHS = 150_000, 100


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the mean of the latent posterior, (n, 30)."""
    scvi = require("scvi", "rivals")
    if not problem.cells.is_count:
        raise NotApplicableError(f"{problem.cells.data.name}: scVI models molecule counts; these are intensities.")
    table = ad.AnnData(problem.cells.counts[:, problem.visible].astype(np.float32))
    seen = np.asarray(table.X.sum(axis=1)).ravel() > 0
    train = problem.train[seen[problem.train]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scvi-tools and the trainer below it, which are not ours to mend
        for name in ("lightning.pytorch", "scvi"):
            logging.getLogger(name).setLevel(logging.ERROR)
        scvi.settings.seed = problem.seed
        scvi.settings.verbosity = logging.ERROR
        fitted = table[train].copy()
        scvi.model.SCVI.setup_anndata(fitted)
        model = scvi.model.SCVI(fitted, n_latent=LATENT, gene_likelihood="nb")
        model.train(
            max_epochs=min(MOST_EPOCHS, max(10, CELLS_SEEN // len(train))),
            accelerator="cpu",
            batch_size=128,
            enable_progress_bar=False,
            logger=False,
            enable_checkpointing=False,
        )
        return model.get_latent_representation(table)


SCVI = Method("scvi", GENES, embed, "scVI, 30 latent dimensions, trained on the training cells", genes_side=embed)
