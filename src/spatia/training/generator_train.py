"""Train a generator on a corpus: from settings to a generator folder, with the engine of `spatia train`."""

from pathlib import Path

import pandas as pd

from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.generation.settings import LABEL
from spatia.inference.cell_labels import CellLabels
from spatia.models.checkpoint import load_model
from spatia.models.levels import check_levels
from spatia.models.names import known_by_symbol
from spatia.models.shipped import model_folder
from spatia.pairing.pairs import Pairs, read_pairs
from spatia.training.generator_run import DrawSamples, GeneratorRun
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.loop import DrawCurves
from spatia.training.train import run_training


def train_generator(
    corpus: Corpus | str | Path,
    out: str | Path,
    model: str | Path,
    settings: GeneratorSettings | None = None,
    resume: bool = False,
    *,
    pairs: str | Path | None = None,
    labels: pd.DataFrame | None = None,
    start_from: str | Path | None = None,
    draw: DrawCurves | None = None,
    draw_samples: DrawSamples | None = None,
) -> Path:
    """Train a generator and write its folder.

    Parameters
    ----------
    corpus
        What to train on, of the levels of the model.
    out
        Generator folder to make (``docs/generation.md`` says what is in it).
    model
        Folder of the trained model whose embeddings the generator is told; copied into the generator.
    settings
        The defaults where None.
    resume
        Go on with the run in the folder; begin where there is none.
    pairs
        Folder of pairs, as `spatia pair` writes it, for ``task=transition``.
    labels
        Type or state of training cells (``cell_id``, ``label``, and ``sample`` where ids repeat), for ``conditions=["label"]``.
    start_from
        A generator folder to start from; its network must be the same, its conditions go by name.
    draw, draw_samples
        Draw ``curves.png`` and ``samples/``; the command line gives those of `spatia.plotting`.

    Returns
    -------
    The generator folder.

    Raises
    ------
    SettingsError, ModelError
        If settings, corpus and model do not go together.
    TrainingError
        If a loss is not finite, the morphology proxy reads nothing, or the run in the folder had other settings.
    KeyboardInterrupt
        On Ctrl-C, after a checkpoint.
    """
    settings = settings or GeneratorSettings()
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    model = model_folder(model)
    network = load_model(model)
    check_levels(opened.levels, network.config, corpus=opened.path)
    if known_by_symbol(network, [opened]) is not network:
        raise SettingsError(
            f"{model}: knows genes of {opened.path} by their symbol, not by their id, and a generator goes by ids. Fine-tune the model on "
            "this corpus first (`spatia train CORPUS --from MODEL`)."
        )
    paired = _read_pairs(pairs, opened, settings)
    settings = _with_split_of(paired, settings)
    labelled = _read_labels(labels, opened, settings)
    with GeneratorRun(
        corpus=opened,
        model=model,
        network=network,
        settings=settings,
        pairs=paired,
        labels=labelled,
        start_from=None if start_from is None else Path(start_from),
        draw_samples=draw_samples,
    ) as run:
        return run_training(
            [opened], out, settings, run.make_stages, run.write, resume=resume, inputs=run.inputs, draw=draw
        )


def _read_pairs(pairs: str | Path | None, corpus: Corpus, settings: GeneratorSettings) -> Pairs | None:
    if (settings.task == "transition") != (pairs is not None):
        raise SettingsError(
            f"task={settings.task} {'without' if pairs is None else 'with'} pairs: a transition is learnt from pairs of cells, and "
            "an image from expression without them."
        )
    return None if pairs is None else read_pairs(pairs, corpus)


def _with_split_of(pairs: Pairs | None, settings: GeneratorSettings) -> GeneratorSettings:
    """Return settings that name the split of the pairs: an edit reads cells by it, and a run says by it what was learnt from."""
    if pairs is None or pairs.split == settings.split:
        return settings
    if settings.split is not None:
        raise SettingsError(
            f"split={settings.split}, but the pairs {pairs.path} were made on split {pairs.split!r}, and their training cells may be test "
            "cells of the other. Name the split of the pairs, or none."
        )
    return settings.model_copy(update={"split": pairs.split})


def _read_labels(labels: pd.DataFrame | None, corpus: Corpus, settings: GeneratorSettings) -> CellLabels | None:
    if (LABEL in settings.generator.told) != (labels is not None):
        raise SettingsError(
            f"conditions={list(settings.generator.told)} {'without' if labels is None else 'with'} labels: the condition 'label' "
            "needs them, and nothing else reads them."
        )
    return None if labels is None else CellLabels.of(corpus, labels)
