"""What training starts from: a new model, one with pretrained pieces, or a trained one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spatia.corpus.corpus import Corpus
from spatia.corpus.files import sha256
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.log import logger
from spatia.models.config import preset
from spatia.models.pretrained import sizes_of, start_gene_embeddings, start_image_encoder
from spatia.models.spatia import Spatia
from spatia.training.fine_tune import grown_model
from spatia.training.pretrained_files import WEIGHTS_FILE, read_gene_embeddings, read_vit_mae
from spatia.training.settings import PretrainedPieces, TrainSettings
from spatia.training.sizes import check_sizes, fitted_config
from spatia.training.statistics import measure_statistics


@dataclass(frozen=True)
class Start:
    """A model before its first step.

    Attributes
    ----------
    model
        Over every name that the corpora have.
    facts
        Where its weights are from, for ``model.json`` and ``run.json``.
    """

    model: Spatia
    facts: dict[str, Any]


def start_model(corpora: Sequence[Corpus], settings: TrainSettings, start_from: Path | None = None) -> Start:
    """Make the model that training starts from.

    Parameters
    ----------
    corpora
        To train on.
    settings
        Preset, part, seed, pretrained pieces.
    start_from
        A model folder to fine-tune: its vocabulary grows by name.

    Raises
    ------
    SettingsError
        If pretrained pieces are given for a model that is trained already.
    ModelError
        If what is given cannot be read or does not fit.
    """
    if start_from is None:
        return _new(corpora, settings)
    if given := {name: path for name, path in settings.pretrained if path is not None}:
        raise SettingsError(
            f"--from {start_from} and pretrained.{next(iter(given))}={next(iter(given.values()))}: a trained model keeps its own "
            "weights. Leave one of them out."
        )
    model, facts = grown_model(start_from, corpora, settings)
    torch.manual_seed(settings.seed)  # what is made around the model is that of any run with this seed
    return Start(model, {"from": str(start_from), **facts})


def _new(corpora: Sequence[Corpus], settings: TrainSettings) -> Start:
    pieces, vocabulary = settings.pretrained, Vocabulary.of(corpora)
    image = read_vit_mae(pieces.image) if pieces.image is not None else None
    genes = read_gene_embeddings(pieces.genes) if pieces.genes is not None else None
    of_pieces = sizes_of(image, genes)
    check_sizes(settings.sizes, of_pieces)
    config = fitted_config(preset(settings.preset), corpora, {**of_pieces, **settings.sizes})
    part = settings.part if settings.split else None
    statistics = measure_statistics(corpora, vocabulary, config, split=settings.split, part=part, seed=settings.seed)
    torch.manual_seed(settings.seed)
    model = Spatia(config, vocabulary, statistics)
    facts: dict[str, Any] = {}
    if image is not None:
        left_out = start_image_encoder(model.image_encoder, vocabulary.channels, image)
        facts["image"] = _fact(pieces, "image", left_out=len(left_out))
        said = "%s: %d tensors are the image encoder's start; %d of the decoder are left out"
        logger.info(said, image.where, len(image.tensors) - len(left_out), len(left_out))
    if genes is not None:
        missing = start_gene_embeddings(model, genes)
        facts["genes"] = _fact(pieces, "genes", missing=len(missing))
        names = f" ({', '.join(missing[:5])}{', …' if len(missing) > 5 else ''})" if missing else ""
        said = "%s: embeddings of %d of %d genes; the other %d%s start at the mean of the table"
        logger.info(said, genes.where, len(vocabulary.genes) - len(missing), len(vocabulary.genes), len(missing), names)
    return Start(model, facts)


def _fact(pieces: PretrainedPieces, name: str, **more: int) -> dict[str, Any]:
    path: Path = getattr(pieces, name)
    return {"path": str(path), "sha256": sha256(path / WEIGHTS_FILE if path.is_dir() else path), **more}
