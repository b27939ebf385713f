"""Stage 1: cells by masked modelling. What is hidden of a cell is predicted from what is shown of it."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.data.batch import CellBatch
from spatia.models.fusion import CellEncoding
from spatia.models.heads import SectionHead
from spatia.models.inputs import GeneInput, ImageInput
from spatia.models.losses import Term, contrastive_term, masked_term
from spatia.models.spatia import Spatia
from spatia.nn.hashing import row_keys
from spatia.nn.patches import patchify
from spatia.nn.turning import turned
from spatia.training.gene_likelihood import gene_term
from spatia.training.masking import GENES, CellMask, mask_cells
from spatia.training.settings import TrainSettings

PIXEL_LIMIT = 6.0  # standard deviations: a saturated speck must not drown the nuclei


class CellObjective(nn.Module):
    """Losses of a batch of cells.

    Parameters
    ----------
    model
        Trained in place.
    settings
        Shares that are hidden, weights (a term of weight 0 is not computed), seed.
    n_sections
        Sections that the adversary tells apart.
    """

    def __init__(self, model: Spatia, settings: TrainSettings, n_sections: int) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.n_sections = n_sections
        self.section_head = SectionHead(model.config, n_sections)
        side = (model.config.encoder_px or model.config.crop_px) // model.config.patch_px
        self.n_patches = side * side

    def embedding(self, batch: CellBatch) -> Float[Tensor, "rows width"]:
        """Return what is watched for collapse: the embedding of whole cells."""
        return self.model.encode_cells(batch).cell

    def forward(self, batch: CellBatch, epoch: int) -> dict[str, Term]:
        """Return the terms by name."""
        weights, seed = self.settings.weights, self.settings.seed
        if self.settings.masking.turn and self.training:
            images, masks = turned([batch.images, batch.masks], row_keys(batch.section, batch.row), seed, epoch)
            batch = batch.with_fields(images=images, masks=masks)
        mask = mask_cells(batch, self.n_patches, self.settings.masking, seed, epoch)
        image, genes = self._inputs(batch, mask)
        encoding = self.model.encode(
            image, genes, rows=len(batch), image_shown=mask.image_shown, genes_shown=mask.genes_shown
        )
        terms: dict[str, Term] = {}
        if weights.genes and batch.counts is not None:
            terms["genes"] = self._genes(batch, mask, encoding, epoch)
        if image is not None:
            if weights.image:
                terms["image"] = self._image(image, mask, encoding)
            if weights.morphology and mask.hidden_features is not None and mask.hidden_features.shape[1]:
                terms["morphology"] = self._morphology(batch, mask, encoding)
            if weights.contrastive and genes is not None:
                terms["contrastive"] = self._contrastive(batch, genes, encoding)
        if weights.adversarial and self.n_sections > 1:
            loss = F.cross_entropy(self.section_head(encoding.cell), batch.section, reduction="none")
            terms["adversarial"] = masked_term(loss, torch.ones_like(loss))
        return terms

    def _inputs(self, batch: CellBatch, mask: CellMask) -> tuple[ImageInput | None, GeneInput | None]:
        image = genes = None
        if batch.images is not None and self.model.vocabulary.channels:
            image = ImageInput(
                pixels=batch.images,
                channels_present=batch.channels_present,
                masks=batch.masks,
                mask_present=batch.mask_present,
                um_per_px=batch.um_per_px,
                features=batch.morphology,
                features_visible=mask.features,
                patches=mask.patches,
            )
        if batch.counts is not None:
            genes = GeneInput(counts=batch.counts, visible=mask.genes)
        return image, genes

    def _genes(self, batch: CellBatch, mask: CellMask, encoding: CellEncoding, epoch: int) -> Term:
        assert batch.counts is not None
        seen = batch.measured & ~mask.hidden_genes
        weight = mask.hidden_genes + self.settings.masking.seen_genes_weight * seen
        fused = self.model.without_context(encoding.cell)
        return gene_term(self.model, fused, batch.counts, batch.measured, weight, self.settings, (epoch, GENES))

    def _image(self, image: ImageInput, mask: CellMask, encoding: CellEncoding) -> Term:
        encoder = self.model.image_encoder
        drawn = self.model.image_head(encoding.cell, encoding.image_tokens, encoding.image_tokens_used)
        pixels = encoder.standardise_pixels(image.pixels, image.channels_present).clamp(-PIXEL_LIMIT, PIXEL_LIMIT)
        if encoder.resize:
            pixels = F.interpolate(pixels, (encoder.encoder_px,) * 2, mode="bilinear", antialias=False)
        loss = (drawn - patchify(pixels, encoder.patch_px)).square().mean(dim=3)  # rows patches channels
        return masked_term(loss, mask.hidden_patches[:, :, None] & image.channels_present[:, None, :])

    def _morphology(self, batch: CellBatch, mask: CellMask, encoding: CellEncoding) -> Term:
        assert batch.morphology is not None
        assert batch.morphology_measured is not None
        assert mask.hidden_features is not None
        target = self.model.image_encoder.standardise(batch.morphology, batch.morphology_measured)
        loss = (self.model.morphology_head(encoding.cell) - target).square()
        return masked_term(loss, mask.hidden_features)

    def _contrastive(self, batch: CellBatch, genes: GeneInput, encoding: CellEncoding) -> Term:
        both = batch.image_present & ((genes.counts > 0) & genes.visible).any(dim=1)
        head = self.model.contrast_head
        left, right = head(encoding.image, encoding.genes)
        return contrastive_term(left, right, both, head.temperature)
