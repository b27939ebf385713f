"""What the encoders take of a cell, with what is hidden from them: the border between batches and encoders."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The picture of each cell and what was measured on it.

    Attributes
    ----------
    pixels
        Intensities 0…255 over the model's channels.
    channels_present
        Which channels of which cell hold an image.
    masks
        Bits of the cell and its nucleus (``keys.MASK_*``), or None.
    mask_present
        Cells with an outline.
    um_per_px
        Pixel size.
    features, features_visible
        Measured morphology in its own units, and which of it the model may see; None: none of it.
    patches
        (rows, visible) indices of the patches that the encoder sees, the same number for each cell; None: all.
    """

    pixels: UInt8[Tensor, "rows channels y x"]
    channels_present: Bool[Tensor, "rows channels"]
    masks: UInt8[Tensor, "rows y x"] | None
    mask_present: Bool[Tensor, "rows"]
    um_per_px: float
    features: Float[Tensor, "rows features"] | None = None
    features_visible: Bool[Tensor, "rows features"] | None = None
    patches: Int64[Tensor, "rows visible"] | None = None


@dataclass(frozen=True, kw_only=True)
class GeneInput:
    """The counts of each cell.

    Attributes
    ----------
    counts
        Raw counts over the model's genes.
    visible
        Genes that are measured and that the model may see: a 0 there is a zero, elsewhere it is nothing.
    """

    counts: Float[Tensor, "rows genes"]
    visible: Bool[Tensor, "rows genes"]
