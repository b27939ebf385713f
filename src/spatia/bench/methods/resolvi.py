"""resolVI (Ergen & Yosef 2025): a variational autoencoder of counts that allows for molecules of neighbours and of the background.

Trained on training cells and their neighbours among training cells. Its encoder reads one cell alone (the neighbours enter the
likelihood), so every cell is embedded by it without its surroundings.
"""

import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spatia.bench.methods.method import GENES, Method, Problem
from spatia.errors import NotApplicableError
from spatia.extras import require
from spatia.metrics.spatial import nearest_in_sections

LATENT, NEIGHBOURS = 10, 10  # the package's own
BATCH = 128  # its 512 leaves two steps an epoch on a thousand cells
# As for scVI, a budget of cells seen: small slides get more epochs, and all data the same time on a CPU.
CELLS_SEEN, MOST_EPOCHS = 60_000, 50


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the mean of the latent posterior, (n, 10)."""
    scvi = require("scvi", "rivals")
    cells = problem.cells
    if not cells.is_count:
        raise NotApplicableError(f"{cells.data.name}: resolVI models molecule counts; these are intensities.")
    counts = cells.counts[:, problem.visible].astype(np.float32)
    seen = np.asarray(counts.sum(axis=1)).ravel() > 0
    train = problem.train[seen[problem.train]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scvi-tools, pyro and the trainer below them, which are not ours to mend
        for name in ("lightning.pytorch", "scvi"):
            logging.getLogger(name).setLevel(logging.ERROR)
        scvi.settings.seed = problem.seed
        scvi.settings.verbosity = logging.ERROR
        fitted = ad.AnnData(counts[train], obs=pd.DataFrame(index=[f"cell_{row}" for row in train]))
        _add_neighbours(fitted, cells.position_um[train], cells.sample[train])
        scvi.external.RESOLVI.setup_anndata(fitted, prepare_data=False)
        model = scvi.external.RESOLVI(fitted, n_latent=LATENT)
        model.train(
            max_epochs=min(MOST_EPOCHS, max(10, CELLS_SEEN // len(train))),
            accelerator="cpu",
            batch_size=BATCH,
            enable_progress_bar=False,
            logger=False,
            enable_checkpointing=False,
        )
    encoder = model.module.z_encoder.eval()
    latent = np.zeros((len(cells), LATENT), np.float32)
    with torch.inference_mode():
        for rows in np.array_split(np.flatnonzero(seen), -(-int(seen.sum()) // 4096)):
            x = torch.from_numpy(counts[rows].toarray())
            mean, _, _ = encoder(torch.log1p(x / x.mean(dim=1, keepdim=True)), torch.zeros(len(rows), 1))
            latent[rows] = mean.numpy()
    return latent


def _add_neighbours(table: ad.AnnData, position_um: NDArray[np.float64], sections: NDArray[np.object_]) -> None:
    """Set the neighbours that the model reads: places, and squared distances, of the nearest cells of the section."""
    index = np.zeros((table.n_obs, NEIGHBOURS), np.int64)
    distance = np.full((table.n_obs, NEIGHBOURS), 1e6)  # of a neighbour that is not there, as the package has it
    for rows, others in nearest_in_sections(position_um, sections, NEIGHBOURS):
        index[rows, : others.shape[1]] = rows[others]
        offset = position_um[rows][others] - position_um[rows][:, None]
        distance[rows, : others.shape[1]] = (offset**2).sum(axis=2)
    table.obsm["X_spatial"] = position_um
    table.obsm["index_neighbor"], table.obsm["distance_neighbor"] = index, distance


RESOLVI = Method("resolvi", GENES, embed, f"resolVI, {LATENT} latent dimensions, trained here", genes_side=embed)
