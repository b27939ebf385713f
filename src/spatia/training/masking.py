"""What is hidden from the model in training: functions of (seed, epoch, section, row), so the same on any rank and after a resume."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from spatia.data.batch import CellBatch
from spatia.nn.hashing import hash_uniform, row_keys
from spatia.training.settings import MaskSettings

# what a stream of random numbers is for
PATCHES, GENES, FEATURES, REGIME, SHARE, CELLS, NICHES = range(7)


@dataclass(frozen=True)
class CellMask:
    """What is shown of each cell of a batch.

    Attributes
    ----------
    patches
        (rows, visible) image patches that the encoder sees; None: all.
    hidden_patches
        Patches to be predicted.
    genes
        Measured genes that the model sees.
    hidden_genes
        Measured genes to be predicted.
    features, hidden_features
        The same for measured morphology; None where the batch has none.
    image_shown, genes_shown
        Whether the modality takes part in the fused embedding at all.
    """

    patches: Int64[Tensor, "rows visible"] | None
    hidden_patches: Bool[Tensor, "rows patches"]
    genes: Bool[Tensor, "rows genes"]
    hidden_genes: Bool[Tensor, "rows genes"]
    features: Bool[Tensor, "rows features"] | None
    hidden_features: Bool[Tensor, "rows features"] | None
    image_shown: Bool[Tensor, "rows"]
    genes_shown: Bool[Tensor, "rows"]


def mask_cells(batch: CellBatch, n_patches: int, settings: MaskSettings, seed: int, epoch: int) -> CellMask:
    """Draw what is shown of each cell.

    The share of visible patches cycles over epochs, as all cells of a batch need the same number of tokens; the share of
    visible genes is a cell's own. A cell that has one modality only always shows it.
    """
    keys = row_keys(batch.section, batch.row)
    patches, hidden_patches = _mask_patches(keys, n_patches, settings, seed, epoch)
    genes, hidden_genes = _mask_genes(batch, keys, settings, seed, epoch)
    regime = hash_uniform(keys, 1, seed, epoch, REGIME)[:, 0]
    has_genes = (
        torch.zeros_like(batch.mask_present)
        if batch.counts is None
        else ((batch.counts > 0) & batch.measured).any(dim=1)
    )
    both = batch.image_present & has_genes
    genes_shown = has_genes & ~(both & (regime < settings.all_genes))
    image_shown = batch.image_present & ~(both & (regime >= 1 - settings.all_image))
    features = hidden_features = None
    if batch.morphology_measured is not None:
        drawn = hash_uniform(keys, batch.morphology_measured.shape[1], seed, epoch, FEATURES)
        shown = (drawn >= settings.features) & image_shown[:, None]
        features, hidden_features = batch.morphology_measured & shown, batch.morphology_measured & ~shown
    return CellMask(
        patches=patches,
        hidden_patches=hidden_patches | ~image_shown[:, None],
        genes=genes,
        hidden_genes=hidden_genes | (batch.measured & ~genes_shown[:, None]),
        features=features,
        hidden_features=hidden_features,
        image_shown=image_shown,
        genes_shown=genes_shown,
    )


def hide_cells(batch: CellBatch, share: float, seed: int, epoch: int) -> Bool[Tensor, "rows"]:
    """Return the cells that are shown; ``share`` of them is hidden."""
    return hash_uniform(row_keys(batch.section, batch.row), 1, seed, epoch, CELLS)[:, 0] >= share


def _mask_patches(
    keys: Tensor, n_patches: int, settings: MaskSettings, seed: int, epoch: int
) -> tuple[Tensor | None, Tensor]:
    hidden_share = settings.image[epoch % len(settings.image)]
    visible = max(1, round(n_patches * (1 - hidden_share)))
    if visible >= n_patches:
        return None, torch.zeros(len(keys), n_patches, dtype=torch.bool, device=keys.device)
    order = hash_uniform(keys, n_patches, seed, epoch, PATCHES).argsort(dim=1, stable=True)
    kept = order[:, :visible].sort(dim=1).values
    hidden = torch.ones(len(keys), n_patches, dtype=torch.bool, device=keys.device)
    return kept, hidden.scatter(1, kept, False)


def _mask_genes(batch: CellBatch, keys: Tensor, settings: MaskSettings, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    measured = batch.measured
    share = hash_uniform(keys, 1, seed, epoch, SHARE) * settings.genes  # a cell's own share of hidden genes
    shown = hash_uniform(keys, measured.shape[1], seed, epoch, GENES) >= share
    return measured & shown, measured & ~shown
