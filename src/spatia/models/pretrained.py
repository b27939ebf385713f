"""Pieces trained by others as the start of a new model: the encoder of a ViT-MAE, and embeddings of genes. Tensors in, no files.

He et al. 2022, "Masked autoencoders are scalable vision learners". The tensor names are those that transformers writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from spatia.errors import ModelError
from spatia.models.image_encoder import ImageEncoder
from spatia.models.spatia import Spatia

PREFIX: Final = "vit."  # of ViTMAEForPreTraining; ViTMAEModel has none
LEFT_OUT: Final = ("decoder.",)  # our decoder draws other channels, from other tokens
OF_A_BLOCK: Final[dict[str, str]] = {
    "layernorm_before": "norm_attention",
    "attention.attention.query": "attention.query",
    "attention.attention.key": "attention.key",
    "attention.attention.value": "attention.value",
    "attention.output.dense": "attention.out",
    "layernorm_after": "norm_feed",
    "intermediate.dense": "feed.0",
    "output.dense": "feed.2",
}
RGB: Final = ("r", "g", "b")
COLOURS: Final = ("red", "green", "blue")
POSITION_TOLERANCE: Final = 1e-4
LEAST_FOUND: Final = 0.5  # share of the genes that a table of embeddings must name


class VitMaeConfig(BaseModel):
    """What ``config.json`` of a ViT-MAE must say; what concerns its decoder is not read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: Literal["vit_mae"]
    hidden_size: int = Field(ge=4, multiple_of=4)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    hidden_act: Literal["gelu"]
    layer_norm_eps: float = Field(gt=0)
    image_size: int = Field(ge=1)
    patch_size: int = Field(ge=1)
    num_channels: Literal[3] = 3
    qkv_bias: Literal[True] = True

    def sizes(self) -> dict[str, Any]:
        """Return the settings of `ModelConfig` that let the image encoder take the weights."""
        return {
            "encoder_px": self.image_size,
            "patch_px": self.patch_size,
            "image_width": self.hidden_size,
            "image_heads": self.num_attention_heads,
            "image_ratio": self.intermediate_size / self.hidden_size,
            "image_layers": self.num_hidden_layers,
            "image_norm_eps": self.layer_norm_eps,
        }


@dataclass(frozen=True)
class VitMae:
    """A ViT-MAE as it was read.

    Attributes
    ----------
    config
        Its sizes.
    tensors
        By the names in the file.
    mean, sd
        Of the intensities 0…1 of red, green and blue that it was trained with.
    where
        What it was read from, for messages.
    """

    config: VitMaeConfig
    tensors: Mapping[str, Tensor]
    mean: tuple[float, float, float]
    sd: tuple[float, float, float]
    where: str


@dataclass(frozen=True)
class GeneEmbeddings:
    """A row of numbers for each gene.

    Attributes
    ----------
    genes
        Names (``gene_id``), each once.
    values
        (genes, width) float32, all finite.
    where
        What it was read from, for messages.
    """

    genes: tuple[str, ...]
    values: Tensor
    where: str


def sizes_of(image: VitMae | None, genes: GeneEmbeddings | None) -> dict[str, Any]:
    """Return the sizes that pieces decide."""
    sizes = dict(image.config.sizes()) if image is not None else {}
    return sizes if genes is None else {**sizes, "gene_embedding_width": genes.values.shape[1]}


@torch.no_grad()
def start_image_encoder(encoder: ImageEncoder, channels: Sequence[str], source: VitMae) -> tuple[str, ...]:
    r"""Put the weights of a ViT-MAE into an image encoder.

    Its readout becomes the class token. Of an image in ``r, g, b`` without masks and without measured morphology,
    the encoder's output is then that of the source. Channels of other names start with the sum of the three kernels, as if
    they were a grey picture; the planes of the masks start unread.

    Parameters
    ----------
    encoder
        Of the sizes that :func:`sizes_of` gives. Changed in place.
    channels
        The names behind its channels.

    Returns
    -------
    Tensors of the source that were left out.

    Raises
    ------
    ModelError
        If a tensor is missing, is of another shape, or is not one that a ViT-MAE has.

    Notes
    -----
    The encoder averages over the channels that are present, so the kernels of colours enter threefold:
    :math:`\tfrac13 \sum_c (3 K_c) x_c + b = \sum_c K_c x_c + b`; and a lone channel gets :math:`\tfrac11 (3 \bar K) x + b`.
    """
    tensors = {name.removeprefix(PREFIX): value.float() for name, value in source.tensors.items()}
    left_out = tuple(name for name in source.tensors if name.startswith(LEFT_OUT))
    expected = _expected(encoder)
    _check_names(set(tensors) - set(left_out), set(expected), source.where)
    _check_shapes(tensors, expected, source)
    _check_positions(tensors["embeddings.position_embeddings"], encoder, source.where)

    targets = dict(encoder.named_parameters())
    for name, target in _direct(len(encoder.blocks)).items():
        targets[target].copy_(tensors[name].reshape(targets[target].shape))
    kernels = 3 * tensors["embeddings.patch_embeddings.projection.weight"].permute(1, 2, 3, 0).flatten(1, 2)
    colour = colour_of(channels)
    for at, name in enumerate(channels):
        own = colour.get(name)
        encoder.patch_weight[at] = kernels.mean(dim=0) if own is None else kernels[own]
        if own is not None:
            encoder.channel_mean[at], encoder.channel_sd[at] = source.mean[own], source.sd[own]
    encoder.channel_embedding.copy_(
        tensors["embeddings.patch_embeddings.projection.bias"].expand_as(encoder.channel_embedding)
    )
    encoder.mask_weight.zero_()
    return left_out


@torch.no_grad()
def start_gene_embeddings(model: Spatia, table: GeneEmbeddings) -> tuple[str, ...]:
    """Put given embeddings of genes into a model, by name; a gene that the table lacks gets the mean of the table.

    Returns
    -------
    Genes that the table lacks.

    Raises
    ------
    ModelError
        If it names fewer than half of the model's genes, or is of another width than the model's embeddings.
    """
    row, genes = {name: at for at, name in enumerate(table.genes)}, model.vocabulary.genes
    missing = tuple(name for name in genes if name not in row)
    if len(missing) > (1 - LEAST_FOUND) * len(genes):
        raise ModelError(
            f"{table.where}: names {len(genes) - len(missing):,} of the {len(genes):,} genes; expected at least half. It has "
            f"{table.genes[0]!r}, the corpus {missing[0]!r}: is it of the same organism and the same kind of identifier (gene_id)?"
        )
    embedding = model.gene_encoder.embedding
    if embedding.shape[1] != table.values.shape[1]:
        raise ModelError(
            f"{table.where}: embeddings of width {table.values.shape[1]}, but the model's are of {embedding.shape[1]}."
        )
    mean = table.values.mean(dim=0)
    embedding.copy_(torch.stack([mean if (at := row.get(name)) is None else table.values[at] for name in genes]))
    return missing


def colour_of(channels: Sequence[str]) -> dict[str, int]:
    """Return which of red, green and blue a channel is; none, unless all three are there.

    Examples
    --------
    >>> colour_of(["DAPI", "b", "g", "r"]), colour_of(["R", "DAPI"])
    ({'r': 0, 'g': 1, 'b': 2}, {})
    """
    by_lower = {name.lower(): name for name in channels}
    for colours in (RGB, COLOURS):
        if set(colours) <= set(by_lower):
            return {by_lower[colour]: at for at, colour in enumerate(colours)}
    return {}


def _direct(n_blocks: int) -> dict[str, str]:
    """Return the tensors that are taken as they are: their name in the source, and in the image encoder."""
    layers = {
        f"encoder.layer.{at}.{source}.{part}": f"blocks.{at}.{own}.{part}"
        for at in range(n_blocks)
        for source, own in OF_A_BLOCK.items()
        for part in ("weight", "bias")
    }
    norm = {f"layernorm.{part}": f"norm.{part}" for part in ("weight", "bias")}
    return {"embeddings.cls_token": "readout", **layers, **norm}


def _expected(encoder: ImageEncoder) -> dict[str, tuple[int, ...]]:
    """Return every tensor that the source must have, and its shape."""
    own, width = dict(encoder.named_parameters()), len(encoder.readout)
    shapes = {name: tuple(own[target].shape) for name, target in _direct(len(encoder.blocks)).items()}
    return shapes | {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 1 + len(encoder.position), width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, encoder.patch_px, encoder.patch_px),
        "embeddings.patch_embeddings.projection.bias": (width,),
    }


def _check_names(found: set[str], expected: set[str], where: str) -> None:
    if found == expected:
        return
    parts = [("missing", expected - found), ("unknown", found - expected)]
    said = [f"{len(names)} {what} ({', '.join(sorted(names)[:3])})" for what, names in parts if names]
    raise ModelError(
        f"{where}: not the tensors of a ViT-MAE of {len(expected)} encoder tensors: {'; '.join(said)}. Expected the weights of "
        "ViTMAEModel or ViTMAEForPreTraining as transformers saves them, and their own config.json."
    )


def _check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], source: VitMae) -> None:
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ModelError(
                f"{source.where}: {name} is {tuple(tensors[name].shape)}, expected {shape} by config.json."
            )
        if not torch.isfinite(tensors[name]).all():
            raise ModelError(f"{source.where}: {name} holds NaN or infinite numbers. Download it again.")


def _check_positions(positions: Tensor, encoder: ImageEncoder, where: str) -> None:
    """The model computes its positions and stores none: they must be those of the source."""
    ours = torch.cat([torch.zeros_like(encoder.position[:1]), encoder.position])
    if (off := float((positions[0] - ours).abs().max())) > POSITION_TOLERANCE:
        raise ModelError(
            f"{where}: its position embeddings differ by up to {off:.2g} from the fixed sines and cosines of a ViT-MAE. "
            "Position embeddings that were trained cannot be loaded."
        )
