"""From cell images to the features that sets of cells are compared in, the same way for generated and for real ones.

- ``morphology``: nucleus, stain and texture, measured without a mask (`spatia.morphology.without_masks`); of niches stain and
  texture of the whole picture, and how many nuclei it shows (`spatia.morphology.whole_pictures`);
- ``encoder``: the patch tokens of our image encoder, which sees neither mask nor measured features;
- ``inception``: Inception v3 from a local file of weights, each channel as a grey picture.

Each is standardised by real training cells; the wide ones are then turned to the training cells' principal components, because
a covariance of a thousand features cannot be told from a few hundred cells.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from spatia.errors import ModelError
from spatia.models.checkpoint import load_weights, model_id, read_description, read_tensors
from spatia.models.image_encoder import FIRST_PATCH
from spatia.models.inputs import ImageInput
from spatia.models.spatia import Spatia
from spatia.morphology.whole_pictures import measure_pictures, picture_features
from spatia.morphology.without_masks import feature_names, measure_images
from spatia.nn.inception import Inception

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]

COMPONENTS: Final = 32
LIMIT: Final = 6.0  # standard deviations: a mis-segmented cell must not drown the others
_AT_ONCE: Final = 128


@dataclass(frozen=True)
class Extractor:
    """A named map from images (n, channels, y, x) to features (n, width).

    Attributes
    ----------
    name
        As the tables show it.
    description
        What it is, for whoever reads the numbers.
    extract
        The map; the same images give the same features in any batch.
    features
        Names of the columns where they have one each.
    wide
        Whether to compare in the principal components of the training cells.
    """

    name: str
    description: str
    extract: Callable[[Images], Floats]
    features: tuple[str, ...] = ()
    wide: bool = True


@dataclass(frozen=True)
class Space:
    """An extractor with the scale of the real cells it was fitted on.

    Attributes
    ----------
    extractor
        What makes the features.
    mean, scale
        Of the training cells' features.
    components
        (width, kept) directions, of mean variance 1 over training cells; None: the standardised features themselves.
    """

    extractor: Extractor
    mean: Floats
    scale: Floats
    components: Floats | None

    @classmethod
    def fit(cls, extractor: Extractor, features: Floats) -> "Space":
        """Measure the scale on real training cells' features, and the directions where the extractor is wide."""
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        scale = np.where(deviation > 1e-9 * np.maximum(np.abs(mean), 1e-9), deviation, np.inf)
        plain = cls(extractor, mean, scale, None)
        if not extractor.wide:
            return plain
        standard = plain.apply(features)
        kept = min(COMPONENTS, len(features) - 1, features.shape[1])
        _, singular, rows = np.linalg.svd(standard - standard.mean(axis=0), full_matrices=False)
        # features of a network are strongly correlated: without this the first components would be tens of deviations wide,
        # and the cubic kernel would see nothing else
        spread = np.sqrt((singular[:kept] ** 2).sum() / len(features) / kept)
        return cls(extractor, mean, scale, rows[:kept].T / max(float(spread), 1e-12))

    @property
    def name(self) -> str:
        """Of the extractor, with the number of components where there are any."""
        kept = "" if self.components is None else f" ({self.components.shape[1]} components)"
        return self.extractor.name + kept

    def apply(self, features: Floats) -> Floats:
        """Return features in the comparable space, (n, kept)."""
        standard = np.clip((features - self.mean) / self.scale, -LIMIT, LIMIT)
        turned: Floats = standard if self.components is None else standard @ self.components
        return turned


def morphology_extractor(channels: Sequence[str], um_per_px: float) -> Extractor:
    """Return the extractor of measured features."""
    return Extractor(
        "morphology",
        "nucleus, stain and texture measured from the pixels, without a mask, alike for generated and real images",
        lambda images: measure_images(images, channels, um_per_px).values,
        feature_names(channels),
        wide=False,
    )


def picture_extractor(channels: Sequence[str], um_per_px: float) -> Extractor:
    """Return the extractor of measured features of pictures of many cells."""
    return Extractor(
        "morphology",
        "stain and texture of the whole picture, nuclei counted and their share of it, alike for generated and real images",
        lambda images: measure_pictures(images, channels, um_per_px),
        picture_features(channels),
        wide=False,
    )


def encoder_extractor(model: Spatia, channels: Sequence[str], um_per_px: float, name: str = "encoder") -> Extractor:
    """Return the extractor of our image encoder: the mean patch token beside the readout, without mask and measured features.

    Raises
    ------
    ModelError
        If the model knows none of the channels.
    """
    column = [model.vocabulary.channels.index(one) if one in model.vocabulary.channels else -1 for one in channels]
    known = [place for place in column if place >= 0]
    if not known:
        raise ModelError(
            f"The model knows none of the channels {', '.join(channels)}; it knows {', '.join(model.vocabulary.channels)}."
        )
    encoder = model.image_encoder

    @torch.inference_mode()
    def extract(images: Images) -> Floats:
        px = model.config.crop_px
        if images.shape[-1] != px:
            raise ModelError(f"Images of {images.shape[-1]} px; the model expects {px} px.")
        found = [np.zeros((0, 2 * model.config.width))]
        for start in range(0, len(images), _AT_ONCE):
            block = torch.from_numpy(np.ascontiguousarray(images[start : start + _AT_ONCE])).to(model.device)
            pixels = block.new_zeros(len(block), len(model.vocabulary.channels), px, px)
            pixels[:, known] = block[:, [i for i, place in enumerate(column) if place >= 0]]
            present = torch.zeros(len(block), len(model.vocabulary.channels), dtype=torch.bool, device=block.device)
            present[:, known] = True
            without = torch.zeros(len(block), dtype=torch.bool, device=block.device)
            image = ImageInput(
                pixels=pixels, channels_present=present, masks=None, mask_present=without, um_per_px=um_per_px
            )
            tokens = encoder(image).tokens
            joined = torch.cat([tokens[:, 0], tokens[:, FIRST_PATCH:].mean(dim=1)], dim=1)
            found.append(joined.cpu().double().numpy())
        return np.concatenate(found)

    return Extractor(
        name, "patch tokens of spatia's image encoder, which sees neither mask nor measured features", extract
    )


def inception_extractor(path: Path, channels: Sequence[str], device: str | torch.device = "cpu") -> Extractor:
    """Return the extractor of Inception v3 with weights of a local file: torchvision's names, in safetensors.

    Raises
    ------
    ModelError
        If there is no such file, it is pickled, or its weights are not exactly those of the network.
    """
    network = load_inception(path).to(device).eval()

    @torch.inference_mode()
    def extract(images: Images) -> Floats:
        found = []
        for start in range(0, len(images), 16):
            block = torch.from_numpy(np.ascontiguousarray(images[start : start + 16])).to(device)
            grey = block.float() / 127.5 - 1
            parts = [network(grey[:, i : i + 1].expand(-1, 3, -1, -1)) for i in range(len(channels))]
            found.append(torch.cat(parts, dim=1).cpu().double().numpy())
        return np.concatenate(found)

    return Extractor("inception", f"Inception v3 of {path.name}, each channel as a grey picture of 299 px", extract)


def load_inception(path: Path) -> Inception:
    """Read the weights of Inception v3, strictly; those of its classifiers are left out by name."""
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path}: expected weights of Inception v3 as .safetensors, with torchvision's names; pickled weights are never read. "
            "Convert with: safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'inception.safetensors')"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Expected weights of Inception v3 with torchvision's names.")
    network = Inception()
    weights = {name: value for name, value in read_tensors(path).items() if not network.unused(name)}
    counters = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    load_weights(network, {**counters, **weights}, where=str(path))  # older files do not count batches
    return network


def model_name(folder: Path) -> str:
    """Return a short name of a model folder."""
    read_description(folder)
    return f"encoder {model_id(folder)[:8]}"
