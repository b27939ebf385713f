"""The model: cells, niches and tissue windows to embeddings, and back to genes and pictures. It never opens a file."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from spatia.data.batch import CellBatch, NicheBatch, TissueBatch
from spatia.data.vocabulary import Vocabulary
from spatia.errors import ModelError
from spatia.models.config import ModelConfig
from spatia.models.fusion import CellEncoding, CellFusion
from spatia.models.gene_encoder import GeneEncoder, GeneTokens
from spatia.models.heads import ContrastHead, GeneHead, ImageHead, MorphologyHead
from spatia.models.image_encoder import ImageEncoder, ImageTokens
from spatia.models.inputs import GeneInput, ImageInput
from spatia.models.niche import NicheEncoding, NicheInput, NicheTransformer
from spatia.models.reference import TrainingReference
from spatia.models.statistics import Statistics
from spatia.models.tissue import TissueEncoding, TissueInput, TissueTransformer
from spatia.nn.patches import unpatchify

MODALITIES = ("image", "genes")


@dataclass(frozen=True)
class CellContext:
    """What surrounds each cell of a window batch.

    Attributes
    ----------
    cell
        Index into the batch's cells.
    niche, tissue
        Embeddings of its niche and of the tissue around, as seen from the cell.
    """

    cell: Int64[Tensor, "some"]
    niche: Float[Tensor, "some niche"]
    tissue: Float[Tensor, "some tissue"]


class LevelFusion(nn.Module):
    r"""The fused embedding: cell, niche and tissue side by side, each through a gate that starts at a fixed share.

    .. math:: z = [\,g_c \odot z_{cell},\; g_n \odot z_{niche},\; g_t \odot z_{tissue}\,]
    .. math:: g = \sigma(W\,\mathrm{LN}[z_{cell}, z_{niche}, z_{tissue}] + b)

    Side by side rather than summed: a linear probe can then weigh the parts itself. Distances between fused embeddings are
    mostly about the expression of the cell, as its image and surroundings start with the smaller shares of `START`.
    """

    # of the cell's expression and image features, of niche and tissue
    START: ClassVar[tuple[float, float, float, float]] = (0.9, 0.2, 0.2, 0.1)
    start: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.fused_width)
        self.gate = nn.Linear(config.fused_width, config.fused_width)
        nn.init.zeros_(self.gate.weight)
        parts = (
            config.summary_width,
            config.cell_width - config.summary_width,
            config.niche_width,
            config.tissue_width,
        )
        start = torch.cat([torch.full((width,), share) for width, share in zip(parts, self.START, strict=True)])
        self.register_buffer("start", start, persistent=False)
        with torch.no_grad():
            self.gate.bias.copy_(start.logit())

    def forward(
        self,
        cell: Float[Tensor, "rows cell"],
        niche: Float[Tensor, "rows niche"],
        tissue: Float[Tensor, "rows tissue"],
    ) -> Float[Tensor, "rows fused"]:
        """Return the fused embedding."""
        levels = torch.cat([cell, niche, tissue], dim=1)
        return levels * torch.sigmoid(self.gate(self.norm(levels)))


class Spatia(nn.Module):
    """Representation model of cells in their niches and tissue.

    Parameters
    ----------
    config
        Sizes of every part.
    vocabulary
        Genes, channels and morphology features by name; batches must come from loaders with this vocabulary.
    statistics
        Measured on the training cells; blank where weights are loaded afterwards.
    """

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, statistics: Statistics | None = None) -> None:
        super().__init__()
        n_genes, n_channels, n_features = map(len, (vocabulary.genes, vocabulary.channels, vocabulary.features))
        statistics = statistics or Statistics.blank(n_genes, n_channels, n_features)
        self.config, self.vocabulary = config, vocabulary
        self.image_encoder = ImageEncoder(config, n_channels, n_features, statistics)
        self.gene_encoder = GeneEncoder(config, n_genes, statistics)
        self.cell_fusion = CellFusion(config)
        self.niche_transformer = NicheTransformer(config, n_channels)
        self.tissue_transformer = TissueTransformer(config)
        self.level_fusion = LevelFusion(config)
        self.gene_head = GeneHead(config, n_genes, statistics)
        self.image_head = ImageHead(config, n_channels)
        self.morphology_head = MorphologyHead(config, n_features)
        self.contrast_head = ContrastHead(config)
        self.reference = TrainingReference(config.cell_width)

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.level_fusion.gate.weight.device

    # --- the cell

    def encode_cells(
        self,
        batch: CellBatch,
        *,
        use: Collection[str] = MODALITIES,
        visible_genes: Bool[Tensor, "genes"] | None = None,
    ) -> CellEncoding:
        """Encode cells from all that is known of them.

        Parameters
        ----------
        batch
            Over the model's vocabulary.
        use
            Which of ``"image", "genes"`` to see.
        visible_genes
            Genes that may be seen; the others are treated as not measured. None: all.

        Raises
        ------
        ModelError
            If the batch does not fit the model, or lacks what ``use`` asks for.
        """
        image, genes = self._inputs(batch, use, visible_genes)
        return self.encode(image, genes, rows=len(batch))

    def _inputs(
        self, batch: CellBatch, use: Collection[str], visible_genes: Bool[Tensor, "genes"] | None
    ) -> tuple[ImageInput | None, GeneInput | None]:
        if unknown := set(use) - set(MODALITIES):
            raise ModelError(f"use={sorted(unknown)}: expected some of {MODALITIES}.")
        image = genes = None
        if "image" in use and batch.images is not None and self.vocabulary.channels:
            self._check_crops(batch)
            image = ImageInput(
                pixels=batch.images,
                channels_present=batch.channels_present,
                masks=batch.masks,
                mask_present=batch.mask_present,
                um_per_px=batch.um_per_px,
                features=batch.morphology,
                features_visible=batch.morphology_measured,
            )
        if "genes" in use and batch.counts is not None:
            self._check_genes(batch.counts)
            visible = batch.measured if visible_genes is None else batch.measured & visible_genes
            genes = GeneInput(counts=batch.counts, visible=visible)
        return image, genes

    def encode_cells_and_genes(
        self,
        batch: CellBatch,
        *,
        visible_genes: Bool[Tensor, "genes"] | None = None,
    ) -> tuple[CellEncoding, CellEncoding]:
        """Encode cells from all that is known of them, and from their genes alone; the tokens of genes are made once.

        Raises
        ------
        ModelError
            As :meth:`encode_cells`.
        """
        image, genes = self._inputs(batch, MODALITIES, visible_genes)
        rows = len(batch)
        no_image = self._no_image(rows)
        gene_tokens = self._no_genes(rows) if genes is None else self.gene_encoder(genes)
        image_tokens = no_image if image is None else self.image_encoder(image)
        return self.cell_fusion(image_tokens, gene_tokens), self.cell_fusion(no_image, gene_tokens)

    def encode(
        self,
        image: ImageInput | None,
        genes: GeneInput | None,
        *,
        rows: int,
        image_shown: Bool[Tensor, "rows"] | None = None,
        genes_shown: Bool[Tensor, "rows"] | None = None,
    ) -> CellEncoding:
        """Encode cells of which parts may be hidden; a modality that is None is absent for all of them."""
        image_tokens = self._no_image(rows) if image is None else self.image_encoder(image)
        gene_tokens = self._no_genes(rows) if genes is None else self.gene_encoder(genes)
        return self.cell_fusion(image_tokens, gene_tokens, image_shown, genes_shown)

    # --- niches and tissue

    def encode_niches(
        self,
        batch: NicheBatch,
        cell: Float[Tensor, "cells cell"],
        *,
        cell_shown: Bool[Tensor, "cells"] | None = None,
        use: Collection[str] = MODALITIES,
    ) -> NicheEncoding:
        """Encode the niches of a batch from the embeddings of its cells, in the order of ``batch.cells``."""
        shown = torch.ones(len(cell), dtype=torch.bool, device=cell.device) if cell_shown is None else cell_shown
        with_image = "image" in use and batch.images is not None and bool(self.vocabulary.channels)
        return self.niche_transformer(
            NicheInput(
                cell=cell,
                cell_shown=shown,
                cell_position_um=batch.cells.position_um,
                niche_position_um=batch.position_um,
                offsets=batch.offsets,
                member_cell=batch.member_cell,
                centre_cell=batch.centre_cell,
                images=batch.images if with_image else None,
                channels_present=batch.channels_present if with_image else None,
            )
        )

    def encode_tissues(
        self,
        batch: TissueBatch,
        niche: Float[Tensor, "niches niche"],
        *,
        niche_shown: Bool[Tensor, "niches"] | None = None,
    ) -> TissueEncoding:
        """Encode the windows of a batch from the embeddings of their niches."""
        shown = torch.ones(len(niche), dtype=torch.bool, device=niche.device) if niche_shown is None else niche_shown
        return self.tissue_transformer(
            TissueInput(
                niche=niche,
                niche_shown=shown,
                niche_position_um=batch.niches.position_um,
                window_position_um=batch.position_um,
                offsets=batch.offsets,
            )
        )

    def context_of_cells(self, batch: TissueBatch, niches: NicheEncoding, tissues: TissueEncoding) -> CellContext:
        """Give each cell of the windows its niche and tissue: its own niche where it is centred on, else that it lies in."""
        centre = batch.niches.centre_cell
        centred = centre >= 0
        if bool(centred.all()):
            return CellContext(centre, niches.niche, tissues.niche)
        home = batch.niches.member_niche
        # a batch may hold niches of both kinds: a neighbour does not belong to a niche around another
        lies = ~centred[home]
        return CellContext(
            torch.cat([centre[centred], batch.niches.member_cell[lies]]),
            torch.cat([niches.niche[centred], niches.member[lies]]),
            torch.cat([tissues.niche[centred], tissues.niche[home[lies]]]),
        )

    def fuse(
        self,
        cell: Float[Tensor, "rows cell"],
        niche: Float[Tensor, "rows niche"],
        tissue: Float[Tensor, "rows tissue"],
    ) -> Float[Tensor, "rows fused"]:
        """Return the fused embedding of cells."""
        return self.level_fusion(cell, niche, tissue)

    # --- what is predicted

    def without_context(self, cell: Float[Tensor, "rows cell"]) -> Float[Tensor, "rows fused"]:
        """Return the fused embedding of cells whose surroundings are not known; no gate has learned to judge those."""
        around = cell.new_zeros(len(cell), self.config.niche_width + self.config.tissue_width)
        return torch.cat([cell * self.level_fusion.start[: cell.shape[1]], around], dim=1)

    def log_rates(
        self, embedding: Float[Tensor, "rows fused"], genes: Int64[Tensor, "some"] | None = None
    ) -> Float[Tensor, "rows some"]:
        """Return the natural log of expected counts per count of depth, for all genes or those at ``genes``."""
        return self.gene_head.log_rates(embedding, genes)

    def dispersion(self, genes: Int64[Tensor, "some"] | None = None) -> Float[Tensor, "some"]:
        """Return the inverse dispersion θ of each gene."""
        return self.gene_head.dispersion(genes)

    def draw(self, encoding: CellEncoding) -> Float[Tensor, "rows channels y x"]:
        """Draw the crops of encoded cells, intensities 0…255 (all channels of the vocabulary)."""
        patches = self.image_head(encoding.cell, encoding.image_tokens, encoding.image_tokens_used)
        scaled = unpatchify(patches)
        if self.image_encoder.resize:  # patches are those of the enlarged crop
            size = (self.config.crop_px, self.config.crop_px)
            scaled = nn.functional.interpolate(scaled, size, mode="bilinear", antialias=True)
        shape = (1, -1, 1, 1)
        sd, mean = self.image_encoder.channel_sd.view(shape), self.image_encoder.channel_mean.view(shape)
        return ((scaled * sd + mean) * 255).clamp(0, 255)

    # --- what is absent, and what does not fit

    def _no_image(self, rows: int) -> ImageTokens:
        width, summary = self.config.width, self.config.cell_width - self.config.summary_width
        blank = self.level_fusion.gate.weight.new_zeros(rows, 1, width)
        used = torch.ones(rows, 1, dtype=torch.bool, device=blank.device)
        return ImageTokens(blank, used, ~used[:, 0], blank.new_zeros(rows, summary))

    def _no_genes(self, rows: int) -> GeneTokens:
        blank = self.level_fusion.gate.weight.new_zeros(rows, 1, self.config.width)
        used = torch.ones(rows, 1, dtype=torch.bool, device=blank.device)
        return GeneTokens(blank, used, ~used[:, 0], blank.new_zeros(rows, self.config.summary_width), blank[:, 0, 0])

    def _check_crops(self, batch: CellBatch) -> None:
        assert batch.images is not None
        channels, px = batch.images.shape[1], batch.images.shape[-1]
        if (channels, px) != (len(self.vocabulary.channels), self.config.crop_px):
            raise ModelError(
                f"Crops of {channels} channels and {px} px; the model expects {len(self.vocabulary.channels)} "
                f"({', '.join(self.vocabulary.channels)}) and {self.config.crop_px} px. Load with vocabulary=model.vocabulary "
                "from a corpus of the model's levels."
            )

    def _check_genes(self, counts: Tensor) -> None:
        if counts.shape[1] != len(self.vocabulary.genes):
            raise ModelError(
                f"Counts of {counts.shape[1]:,} genes; the model expects {len(self.vocabulary.genes):,}. "
                "Load with vocabulary=model.vocabulary."
            )


def n_parameters(model: nn.Module) -> int:
    """Return the number of trainable numbers."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def named_rows(model: nn.Module) -> Mapping[str, str]:
    """Return every parameter and buffer whose first axis is a vocabulary: its name, and which vocabulary.

    Examples
    --------
    >>> model = Spatia(ModelConfig(), Vocabulary(genes=("EPCAM",), channels=("DAPI",)))
    >>> named_rows(model)["gene_encoder.embedding"]
    'genes'
    """
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        rows: Mapping[str, Any] = getattr(type(module), "named_rows", {})
        found |= {f"{path}.{name}": kind for name, kind in rows.items()}
    return found
