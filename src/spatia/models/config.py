"""The sizes of a model, and the presets. Strict, and stored with every model."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spatia.errors import SettingsError


class ModelConfig(BaseModel):
    """Sizes of every part of the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset: str = Field("tiny", description="name these sizes go by")
    width: int = Field(128, ge=32, multiple_of=4, description="features of a token")
    cell_width: int = Field(64, ge=16, description="features of a cell's embedding")
    niche_width: int = Field(32, ge=8, description="features of a niche's embedding")
    tissue_width: int = Field(16, ge=4, description="features of the embedding of the tissue around")
    heads: int = Field(4, ge=1)
    ratio: float = Field(3.0, gt=0, description="hidden width of a feed-forward layer, in widths")
    crop_um: float = Field(27.2, gt=0, description="side of a cell's crop, µm")
    niche_um: float = Field(54.4, gt=0, description="side of a niche, µm")
    tissue_um: float = Field(435.2, gt=0, description="side of a tissue window, µm")
    patch_px: int = Field(8, ge=2, description="side of an image patch, pixels")
    crop_px: int = Field(64, ge=8, description="side of a cell's crop, pixels")
    encoder_px: int | None = Field(
        None, ge=2, description="crops are enlarged to this side first (pretrained encoders); None: not"
    )
    image_width: int | None = Field(None, ge=8, description="width inside the image encoder; None: width")
    image_heads: int | None = Field(None, ge=1, description="heads inside the image encoder; None: heads")
    image_ratio: float | None = Field(None, gt=0, description="ratio inside the image encoder; None: ratio")
    image_layers: int = Field(4, ge=1)
    image_norm_eps: float = Field(1e-5, gt=0)
    gene_layers: int = Field(2, ge=1)
    gene_latents: int = Field(16, ge=1, description="latent tokens that read the genes: the cost is linear in genes")
    gene_embedding_width: int | None = Field(
        None, ge=1, description="width of given gene embeddings; None: learned ones"
    )
    fusion_layers: int = Field(2, ge=0)
    gene_share: float = Field(
        0.625, gt=0, lt=1, description="share of a cell embedding that starts as expression summary"
    )
    decoder_layers: int = Field(2, ge=1)
    niche_layers: int = Field(2, ge=1)
    niche_patch_px: int = Field(16, ge=2, description="side of a patch of a niche's image, pixels")
    niche_px: int = Field(64, ge=8, description="side of a niche's image, pixels")
    tissue_layers: int = Field(2, ge=1)
    tissue_latents: int = Field(32, ge=1)
    contrast_width: int = Field(64, ge=8, description="width of the space in which image and genes are compared")

    @model_validator(mode="after")
    def _parts_fit(self) -> "ModelConfig":
        for name, width, heads in (
            ("width", self.width, self.heads),
            ("image_width", self.image_width or self.width, self.image_heads or self.heads),
        ):
            if width % heads:
                raise SettingsError(f"{name} {width} is not a multiple of its heads, {heads}.")
        for name, px, patch in (
            ("encoder_px", self.encoder_px or self.crop_px, self.patch_px),
            ("niche_px", self.niche_px, self.niche_patch_px),
        ):
            if px % patch:
                raise SettingsError(f"{name} {px} is not a multiple of its patches of {patch} px.")
        return self

    @property
    def summary_width(self) -> int:
        """Features of a cell embedding that start as the linear summary of expression; the others as that of the image."""
        return round(self.cell_width * self.gene_share)

    @property
    def fused_width(self) -> int:
        """Features of the fused embedding: cell, niche and tissue side by side."""
        return self.cell_width + self.niche_width + self.tissue_width


PRESETS: Final[dict[str, ModelConfig]] = {
    "tiny": ModelConfig(),
    "base": ModelConfig(
        preset="base",
        width=384,
        cell_width=128,
        niche_width=64,
        tissue_width=32,
        heads=6,
        ratio=4.0,
        image_layers=8,
        gene_layers=3,
        gene_latents=32,
        fusion_layers=2,
        niche_layers=2,
        tissue_layers=2,
        tissue_latents=64,
        contrast_width=128,
    ),
    "large": ModelConfig(
        preset="large",
        width=768,
        cell_width=256,
        niche_width=128,
        tissue_width=64,
        heads=12,
        ratio=4.0,
        image_layers=8,
        gene_layers=2,
        gene_latents=32,
        fusion_layers=2,
        niche_layers=2,
        tissue_layers=2,
        tissue_latents=64,
        contrast_width=256,
    ),
}


def preset(name: str) -> ModelConfig:
    """Return a preset by name.

    Raises
    ------
    SettingsError
        For an unknown name; lists the names.
    """
    if name not in PRESETS:
        raise SettingsError(f"Unknown preset {name!r}. There are: {', '.join(PRESETS)}.")
    return PRESETS[name]
