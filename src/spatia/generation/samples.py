"""Images to look at while a generator learns."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.generation.displacement import Place
from spatia.generation.distortion import distort, reshape
from spatia.generation.generator import CellGenerator
from spatia.generation.noise import GENERATE, gaussian
from spatia.generation.nuclei import of_masks

SMALL_PX = 16  # images are compared at this size: sharpness must not decide which cell is nearest


@dataclass(frozen=True)
class Samples:
    """Some cells: where they came from, what was generated, what is real, and what is most like it among the training cells.

    Attributes
    ----------
    channels
        Names.
    source
        None where images come from noise and no source cell is known.
    generated, real, nearest
        Intensities 0…255.
    """

    channels: tuple[str, ...]
    source: UInt8[Tensor, "rows channels y x"] | None
    generated: UInt8[Tensor, "rows channels y x"]
    real: UInt8[Tensor, "rows channels y x"]
    nearest: UInt8[Tensor, "rows channels y x"]


def begin_at(generator: CellGenerator, keys: Tensor, source: Tensor | None, seed: int, draw: int = 0) -> Tensor:
    """Return where paths begin.

    Parameters
    ----------
    keys
        (rows,): noise is a function of (seed, draw, key).
    source
        Images of the source cells, 0…255, where the generator begins at cells.
    """
    if generator.config.begins_at_noise:
        shape = (len(generator.space.channels), generator.space.px, generator.space.px)
        return gaussian(keys, shape, seed, draw, GENERATE)
    if source is None:
        raise SettingsError("The paths of this generator begin at cells: give source cells.")
    return generator.scale(source)


@dataclass(frozen=True)
class Reshaped:
    """Scaled targets with nuclei of another size and shape: what an edit learns to move from.

    Attributes
    ----------
    images
        (rows, channels, y, x).
    growth
        By which they come back, of each number (`spatia.generation.nuclei`).
    place
        Where the nuclei lie.
    """

    images: Float[Tensor, "rows channels y x"]
    growth: Float[Tensor, "rows two"]
    place: Place


def reshaped(generator: CellGenerator, batch: GenerationBatch, *stream: int) -> Reshaped | None:
    """Return the targets of a batch, each with a nucleus of another size and shape; None where no outlines are known."""
    if batch.nucleus is None:
        return None
    images, nucleus = reshape(batch.target.float() / 255, batch.nucleus, batch.key, *stream)
    scaled = generator.scale(images * 255) * batch.channels_present[:, :, None, None]
    return Reshaped(scaled, of_masks(batch.nucleus) - of_masks(nucleus), Place.of(nucleus))


def distorted(generator: CellGenerator, batch: GenerationBatch, *stream: int) -> Tensor:
    """Return the scaled targets, each changed: what an edit begins at while it learns to paint."""
    present = batch.channels_present[:, :, None, None]
    changed = distort(batch.target.float() / 255, batch.inside, batch.key, *stream)
    return generator.scale(changed * 255) * present


def draw_samples(
    generator: CellGenerator, batch: GenerationBatch, training: UInt8[Tensor, "cells channels y x"], seed: int
) -> Samples:
    """Generate the rows of a batch and set the nearest of some training images beside them."""
    if generator.config.is_edit:
        x_0 = distorted(generator, batch, seed, 0)
        source: Tensor | None = generator.unscale(x_0)
    else:
        x_0, source = begin_at(generator, batch.key, batch.source, seed), batch.source
    solution = generator.sample(x_0, batch.conditions, batch.known, present=batch.channels_present)
    # channels that the slides do not have are not learnt, and hide the others
    present = batch.channels_present[:, :, None, None]
    generated = generator.unscale(solution.x) * present
    return Samples(
        generator.space.channels,
        None if source is None else (source * present).cpu(),
        generated.cpu(),
        batch.target.cpu(),
        nearest_of(generated, training).cpu(),
    )


def nearest_of(
    images: UInt8[Tensor, "rows channels y x"], among: UInt8[Tensor, "cells channels y x"]
) -> UInt8[Tensor, "rows channels y x"]:
    """Return the image of ``among`` that is most like each, by pixels at a small size."""
    return among[torch.cdist(_small(images), _small(among)).argmin(dim=1)]


def _small(images: UInt8[Tensor, "rows channels y x"]) -> Float[Tensor, "rows pixels"]:
    return F.adaptive_avg_pool2d(images.float(), min(SMALL_PX, images.shape[-1])).flatten(1)
