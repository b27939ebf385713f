"""Expression profiles that are in no corpus, as a generator is given them: checked, and put in the order of a model's vocabulary."""

import math
from collections import Counter
from collections.abc import Collection
from typing import Final

import anndata as ad
import numpy as np
import pandas as pd
import torch

from spatia.data.batch import CellBatch
from spatia.data.vocabulary import Vocabulary
from spatia.errors import ModelError, SettingsError
from spatia.log import logger
from spatia.models.spatia import Spatia

SMALLEST_PANEL: Final = 0.1  # of the genes that a model knows: it may have learnt panels of very different size


def profile_batch(
    expression: ad.AnnData | pd.DataFrame, model: Spatia, um_per_px: float, min_coverage: float
) -> CellBatch:
    """Return expression profiles as cells without image or place.

    Parameters
    ----------
    expression
        (cells, genes) raw counts; genes by the ``gene_id`` of the corpus (columns of a frame, ``var_names`` of an AnnData).
    model
        Whose vocabulary the genes are put in.
    um_per_px
        Pixel size of crops, µm; there are none here.
    min_coverage
        Least share of a panel that the model must know (`check_genes`).

    Returns
    -------
    The cells, in their order, each counted over the vocabulary; a gene that is not given is not measured.

    Raises
    ------
    ModelError
        If a gene is given twice, or the model knows too few of them.
    SettingsError
        If there is no profile, the table does not name its genes, or values are no raw counts.
    """
    if not isinstance(expression, ad.AnnData | pd.DataFrame):
        raise SettingsError(
            f"expression: found {type(expression).__name__}, which does not say which column is which gene. Expected an AnnData or a "
            "DataFrame with gene ids as columns."
        )
    table = expression.to_df() if isinstance(expression, ad.AnnData) else expression
    if table.empty:
        raise SettingsError(
            f"expression: found {len(table)} cells of {table.shape[1]} genes; expected at least one cell, with its genes."
        )
    vocabulary: Vocabulary = model.vocabulary
    given = [str(name) for name in table.columns]
    check_genes(given, model, min_coverage)
    columns = vocabulary.gene_columns(given)
    values = table.to_numpy(np.float32)
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.round(values)).any():
        raise SettingsError("expression: expected raw counts (whole numbers of at least 0), found other values.")
    n = len(table)
    counts = np.zeros((n, len(vocabulary.genes)), np.float32)
    counts[:, columns[columns >= 0]] = values[:, columns >= 0]
    measured = np.zeros((1, len(vocabulary.genes)), bool)
    measured[0, columns[columns >= 0]] = True
    return CellBatch(
        section=torch.zeros(n, dtype=torch.int64),
        row=torch.arange(n),
        position_um=torch.zeros(n, 2),
        um_per_px=um_per_px,
        images=None,
        channels_present=torch.zeros(n, len(vocabulary.channels), dtype=torch.bool),
        image_share=torch.zeros(n),
        masks=None,
        mask_present=torch.zeros(n, dtype=torch.bool),
        counts=torch.from_numpy(counts),
        panel_measured=torch.from_numpy(measured),
    )


def check_genes(genes: Collection[str], model: Spatia, min_coverage: float) -> None:
    """Refuse expression profiles of which the model knows too little, and warn where they say little of what it knows.

    The share is of the genes given; of more than the model knows, of those; and of fewer than a panel has, of a panel. How many genes its
    own panels had is not stored, and it may have learnt several, so a panel is taken for at least `SMALLEST_PANEL` of all that it knows.

    Raises
    ------
    ModelError
        If a gene is given twice, none is known to the model, or less than ``min_coverage`` of them.
    """
    known = set(model.vocabulary.genes)
    counted = Counter(genes)
    if twice := [gene for gene, times in counted.items() if times > 1]:
        raise ModelError(
            f"expression: {len(twice)} genes have several columns, first {twice[0]!r}. Expected each gene once. Add up the columns of a gene, "
            "or leave all but one out."
        )
    n_known = len(known & set(counted))
    if not n_known:
        raise ModelError(
            f"expression: none of its {len(counted):,} genes is known to the model. Genes go by gene_id, for example "
            f"{model.vocabulary.genes[0]!r}."
        )
    panel = max(min(len(counted), len(known)), SMALLEST_PANEL * len(known))
    if n_known < min_coverage * panel:
        raise ModelError(
            f"expression: the model knows {n_known:,} of its {len(counted):,} genes, and {len(known):,} in all; expected at least "
            f"{math.ceil(min_coverage * panel):,} ({min_coverage:.0%} of a panel). What is drawn would rest on the few that are known. Genes go "
            f"by gene_id, for example {model.vocabulary.genes[0]!r}; or lower min_coverage knowingly."
        )
    if n_known / len(known) < min_coverage:
        logger.warning(
            "expression: %s of the %s genes that the model knows are given; the others count as not measured, and what is drawn rests on these",
            f"{n_known:,}", f"{len(known):,}",
        )  # fmt: skip
