"""Images as patches, and back."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from jaxtyping import Float
from torch import Tensor


def patchify(
    images: Float[Tensor, "rows channels y x"], patch_px: int
) -> Float[Tensor, "rows patches channels pixels"]:
    """Cut square patches, row by row.

    Examples
    --------
    >>> import torch
    >>> patchify(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, 1, 0].tolist()
    [2.0, 3.0, 6.0, 7.0]
    """
    rows, channels, height, width = images.shape
    cut = images.view(rows, channels, height // patch_px, patch_px, width // patch_px, patch_px)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(rows, -1, channels, patch_px * patch_px)


def unpatchify(patches: Float[Tensor, "rows patches channels pixels"]) -> Float[Tensor, "rows channels y x"]:
    """Put patches of a square image together; the inverse of :func:`patchify`.

    Examples
    --------
    >>> import torch
    >>> images = torch.randn(2, 3, 8, 8)
    >>> torch.equal(unpatchify(patchify(images, 4)), images)
    True
    """
    rows, n, channels, pixels = patches.shape
    side, patch_px = round(n**0.5), round(pixels**0.5)
    cut = patches.view(rows, side, side, channels, patch_px, patch_px).permute(0, 3, 1, 4, 2, 5)
    return cut.reshape(rows, channels, side * patch_px, side * patch_px)
