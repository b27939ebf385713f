"""What turns a patch of a stained slide into a vector: two simple ways, a ViT of a local folder, our image encoder, others."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from spatia.bench.methods import vit
from spatia.bench.methods.method import IMAGE, Method
from spatia.bench.public.protocol import PublicOptions
from spatia.bench.public.without_corpus import make_problem
from spatia.errors import ModelError
from spatia.io.raster import RGB
from spatia.models.checkpoint import load_model
from spatia.models.spatia import Spatia
from spatia.tasks.extractors import encoder_extractor

Patches = NDArray[np.uint8]
Floats = NDArray[np.floating]
PIXELS_SIDE = 28  # of the averaged patch: 4 µm per pixel where a patch is 112 µm
MOST_RESIZED_AT_ONCE = 64


@dataclass(frozen=True)
class PatchEncoder:
    """A fixed map from patches to vectors; nothing in it is fitted on the data at hand.

    Attributes
    ----------
    name, description
        As the tables and the list show it.
    encode
        ``(patches, um_per_px) -> (n, width)`` of RGB patches (n, y, x, 3), 0…255; um_per_px: their pixel size in µm.
    at_once
        Patches to give it in one call.
    """

    name: str
    description: str
    encode: Callable[[Patches, float], Floats]
    at_once: int = 256


def colours(patches: Patches, um_per_px: float) -> Floats:  # noqa: ARG001 - encoders share one signature
    """Return mean and standard deviation of each colour, (n, 6): what staining alone can tell.

    Examples
    --------
    >>> colours(np.full((1, 4, 4, 3), 255, np.uint8), 0.5)[0].tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    scaled = patches.astype(np.float32) / 255
    return np.concatenate([scaled.mean(axis=(1, 2)), scaled.std(axis=(1, 2))], axis=1)


def pixels(patches: Patches, um_per_px: float) -> Floats:  # noqa: ARG001
    """Return the patch averaged to 28 × 28 pixels, (n, 2352); its principal components are those of the pixels."""
    n, height, width, _ = patches.shape
    step = max(1, min(height, width) // PIXELS_SIDE)
    rows, columns = height // step, width // step
    cut = patches[:, : rows * step, : columns * step].astype(np.float32) / 255
    return cut.reshape(n, rows, step, columns, step, 3).mean(axis=(2, 4)).reshape(n, -1)


def vit_encoder(weights: Path | None) -> PatchEncoder:
    """Return the class token of a ViT-B/16 at 224 px; random weights where no folder is given."""
    made: list[torch.nn.Module] = []

    def encode(patches: Patches, um_per_px: float) -> Floats:  # noqa: ARG001
        if not made:  # reading weights waits until it is known that the rows do not stand already
            made.append(vit.make_vit(weights))
        return vit.encode(made[0], np.moveaxis(patches, 3, 1))

    name = "vit-b/16" if weights is None else f"vit {weights.name}"
    return PatchEncoder(name, f"class token of a ViT, {'random weights' if weights is None else weights.name}", encode)


def spatia_encoder(folder: Path, label: str = "") -> PatchEncoder:
    """Return our image encoder on the crops that tile a patch, their embeddings averaged.

    The patch is brought to the model's own pixel size first, so that a nucleus is as large as in training: a patch of 112 µm
    holds 4 × 4 crops of 27.2 µm. Neither masks nor measured features are seen.

    Raises
    ------
    ModelError
        If the model knows none of the channels r, g, b (on first use), or a patch is smaller than a crop.
    """
    opened: list[Spatia] = []

    def encode(patches: Patches, um_per_px: float) -> Floats:
        if not opened:
            opened.append(load_model(folder).eval())
        config = opened[0].config
        own_um_per_px = config.crop_um / config.crop_px
        extractor = encoder_extractor(opened[0], RGB, own_um_per_px)
        found = []
        for start in range(0, len(patches), MOST_RESIZED_AT_ONCE):
            block = patches[start : start + MOST_RESIZED_AT_ONCE]
            crops = tile(block, um_per_px / own_um_per_px, config.crop_px)
            found.append(extractor.extract(crops).reshape(len(block), -1, _width(opened[0])).mean(axis=1))
        return np.concatenate(found)

    name = f"spatia {label}".strip()
    return PatchEncoder(f"{name} image", f"image encoder of {folder.name}, mean over the crops in a patch", encode)


def encoder_of(method: Method) -> PatchEncoder:
    """Return a method of the benchmark that reads images alone and is used as it comes, published weights say, as an encoder."""
    embed = method.embed
    if embed is None:
        raise ValueError(f"{method.name} has no embedding")

    def encode(patches: Patches, um_per_px: float) -> Floats:  # noqa: ARG001
        images = np.ascontiguousarray(np.moveaxis(patches, 3, 1))
        return np.asarray(embed(make_problem("patches", images=images, channels=RGB)))

    # it reads its weights at each call
    return PatchEncoder(method.name, method.description, encode, at_once=4096)


def _width(model: Spatia) -> int:
    return 2 * model.config.width  # the readout beside the mean patch token


def tile(patches: Patches, scale: float, crop_px: int) -> Patches:
    """Resize patches and cut the middle of each into crops.

    Parameters
    ----------
    patches
        (n, y, x, 3).
    scale
        New pixels per old pixel.
    crop_px
        Side of a crop in new pixels.

    Returns
    -------
    (n · crops of a patch, 3, crop_px, crop_px); the crops of one patch follow each other.

    Raises
    ------
    ModelError
        If a patch is smaller than a crop.

    Examples
    --------
    >>> tile(np.zeros((2, 224, 224, 3), np.uint8), 0.5 / 0.425, 64).shape
    (32, 3, 64, 64)
    """
    n, height, width, _ = patches.shape
    size = (round(height * scale), round(width * scale))
    per_side = (size[0] // crop_px, size[1] // crop_px)
    if not min(per_side):
        raise ModelError(
            f"A patch of {height} x {width} px is {size[0]} x {size[1]} px at the model's pixel size, smaller than its crop "
            f"of {crop_px} px. Give larger patches, or their right pixel size."
        )
    block = torch.from_numpy(np.ascontiguousarray(np.moveaxis(patches, 3, 1))).float()
    resized = interpolate(block, size, mode="bilinear", antialias=True, align_corners=False)
    top, left = ((s - p * crop_px) // 2 for s, p in zip(size, per_side, strict=True))
    middle = resized[:, :, top : top + per_side[0] * crop_px, left : left + per_side[1] * crop_px]
    crops = middle.reshape(n, 3, per_side[0], crop_px, per_side[1], crop_px).permute(0, 2, 4, 1, 3, 5)
    return crops.reshape(-1, 3, crop_px, crop_px).round().clamp(0, 255).to(torch.uint8).numpy()


SIMPLE = {
    "colours": PatchEncoder("colours", "mean and spread of red, green and blue", colours),
    "pixels": PatchEncoder("pixels", "the patch averaged to 28 x 28 pixels", pixels),
}


def chosen_encoders(options: PublicOptions) -> list[PatchEncoder]:
    """Return the encoders that the user chose: the simple ones, a ViT where weights are named, the model where one is given.

    Raises
    ------
    SettingsError
        If a name is unknown; the message lists the names.
    """
    known = {**SIMPLE, "vit-b/16": vit_encoder(options.vit_folder)}
    # random weights only where they are asked for by name: hours, for a baseline below pixels
    default = [name for name in known if name != "vit-b/16" or options.vit_folder]
    encoders = options.chosen(known, default, "patch encoder")
    encoders += [encoder_of(method) for method in options.extra if method.reads == IMAGE and method.embed is not None]
    return encoders + ([spatia_encoder(options.model, options.label)] if options.model is not None else [])
