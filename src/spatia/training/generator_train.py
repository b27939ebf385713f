"""Train a generator on a corpus: from settings to a generator folder, with the engine of `spatia train`."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, Final

import pandas as pd

from spatia.corpus.corpus import Corpus
from spatia.corpus.files import sha256
from spatia.errors import SettingsError
from spatia.generation.checkpoint import GENERATOR_FILE, MODEL_FOLDER, save_generator
from spatia.generation.generator import ImageSpace
from spatia.generation.samples import Samples
from spatia.generation.settings import LABEL
from spatia.inference.cell_labels import CellLabels
from spatia.inference.conditions import EMBEDDINGS, CellConditions, cell_conditions, references_of
from spatia.inference.generator import Generator
from spatia.models.checkpoint import load_model, model_id
from spatia.models.levels import check_levels
from spatia.models.names import known_by_symbol
from spatia.models.shipped import model_folder
from spatia.models.spatia import Spatia
from spatia.pairing.pairs import FACTS_FILE, Pairs, read_pairs
from spatia.training.generator_aim import fit_aims
from spatia.training.generator_data import CorpusData, GeneratorData, with_images
from spatia.training.generator_pairs import PairData, transition_facts
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_stages import make_generator_stages
from spatia.training.generator_start import start_from as begin
from spatia.training.generator_told import conditions_that_hold
from spatia.training.loop import DrawCurves
from spatia.training.run_folder import RunFolder
from spatia.training.stage import Stage
from spatia.training.train import run_training

SAMPLES_FOLDER: Final = "samples"
CONDITIONS_FOLDER: Final = ".conditions"

DrawSamples = Callable[[Samples, Path], None]  # what was generated, the PNG to write


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
    embeddings: list[CellConditions] = []  # what is told of the cells, once they are embedded
    learnt: set[str] = set()  # sections that something is learnt from
    with ExitStack() as stack:

        def make_stages(folder: RunFolder) -> list[Stage]:
            where = folder.path / CONDITIONS_FOLDER
            device = "cpu" if settings.accelerator == "cpu" else "auto"
            by_pairs = paired is not None and not settings.is_edit  # an edit learns from every cell
            names = list(opened.sections) if by_pairs else with_images(opened)
            found = stack.enter_context(
                cell_conditions(opened, model, sections=names, scratch=where, device=device, labels=labelled)
            )
            embeddings[:] = [found]
            learnt.update(with_images(opened))
            data: GeneratorData = CorpusData(opened, network.vocabulary, found, settings)
            pictures: GeneratorData | None = None
            mean_weight = 1.0
            if paired is not None and by_pairs:
                scratch = stack.enter_context(TemporaryDirectory(prefix="spatia-pairs-"))
                data = PairData(opened, network, found, paired, settings, Path(scratch))
                learnt.intersection_update(data.samples)
                pictures = CorpusData(opened, network.vocabulary, None, settings)
                mean_weight = data.mean_weight
            told = settings
            if isinstance(data, CorpusData) and settings.chooses_surroundings:
                names_told, shares = conditions_that_hold(data)
                told = settings.model_copy(update={"conditions": names_told})
                folder.write(conditions_compared=shares)
            show = None if draw_samples is None else _shower(folder, draw_samples)
            stages = make_generator_stages(
                data,
                told,
                _space(opened, network, settings),
                network.vocabulary.features,
                pictures=pictures,
                channels=opened.channels,
                mean_weight=mean_weight,
                show=show,
            )
            if start_from is not None:
                last: Any = stages[-1]  # not its `module`: that freezes the proxy, which an earlier stage trains
                generator = last.objective.generator
                folder.write(start=begin(generator, Path(start_from), model_id(model), _named(labelled, paired)))
            return stages

        def write(stages: Sequence[Stage], folder: RunFolder) -> None:
            more = _named(labelled, paired)
            if paired is not None:
                more["transitions"] = transition_facts(paired, network)
            told = set(settings.generator.told)
            # a source's own embedding is not moved, and must fit the others
            if set(EMBEDDINGS) & told and "control" not in told:
                references = references_of(embeddings[0], opened, learnt, split=settings.split, part=settings.part)
                more["sections"] = [one.to_json() for one in references]
            _write(stages, folder, opened, model, more, settings, paired)

        inputs = {"model": model_id(model)}
        if paired is not None:
            inputs["pairs"] = sha256(paired.path / FACTS_FILE)
        if labelled is not None:
            inputs["labels"] = labelled.digest
        if start_from is not None:
            inputs["start_from"] = sha256(Path(start_from) / GENERATOR_FILE)
        return run_training([opened], out, settings, make_stages, write, resume=resume, inputs=inputs, draw=draw)


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


def _space(corpus: Corpus, network: Spatia, settings: GeneratorSettings) -> ImageSpace:
    if not set(corpus.channels) & set(network.vocabulary.channels):
        raise SettingsError(
            f"{corpus.path}: has the channels {', '.join(corpus.channels) or 'none'}, and the model knows "
            f"{', '.join(network.vocabulary.channels) or 'none'}: nothing that it knows can be drawn. Train or fine-tune the model on this corpus."
        )
    level, encoder = corpus.levels[settings.level], network.image_encoder
    return ImageSpace(
        channels=network.vocabulary.channels,
        px=level.px,
        um_per_px=level.um_per_px,
        mean=tuple(encoder.channel_mean.tolist()),
        sd=tuple(encoder.channel_sd.tolist()),
    )


def _shower(folder: RunFolder, draw: DrawSamples) -> Callable[[Samples, int], None]:
    def show(samples: Samples, epoch: int) -> None:
        place = folder.path / SAMPLES_FOLDER
        place.mkdir(exist_ok=True)
        draw(samples, place / f"epoch_{epoch:04d}.png")

    return show


def _named(labels: CellLabels | None, pairs: Pairs | None) -> dict[str, Any]:
    """Return the names of labels and transitions, as a generator's facts hold them."""
    found: dict[str, Any] = {} if labels is None else {"labels": list(labels.names)}
    return found if pairs is None else {**found, "transitions": {"names": list(pairs.transitions)}}


def _write(
    stages: Sequence[Stage],
    folder: RunFolder,
    corpus: Corpus,
    model: Path,
    more: dict[str, Any],
    settings: GeneratorSettings,
    pairs: Pairs | None,
) -> None:
    last: Any = stages[-1]
    last.fit_grain()
    objective: Any = last.module
    copytree(model, folder.path / MODEL_FOLDER, dirs_exist_ok=True, ignore=_only_the_model)
    facts: dict[str, Any] = {name: folder.facts[name] for name in ("corpora", "seed", "stages", "inputs")}
    facts["channels"] = [name for name in objective.generator.space.channels if name in corpus.channels]
    facts["start"] = folder.facts.get("start", {})
    facts["weights"] = objective.weights.model_dump()
    facts["untold"] = objective.drop.untold(len(objective.generator.config.told))
    facts["conditions_compared"] = folder.facts.get("conditions_compared", {})
    if objective.proxy is not None:
        proxy = objective.proxy
        facts["proxy_r2"] = {
            name: round(value, 4)
            for name, value in zip(proxy.features, proxy.r2.tolist(), strict=True)
            if not math.isnan(value)
        }
    facts |= {"n_cells": corpus.n_cells, **more}
    if pairs is not None and settings.is_edit:
        network = objective.generator.eval()
        maker = Generator(folder.path, network, load_model(model, network.device), "", facts)
        facts["transitions"] |= fit_aims(maker, corpus, pairs, settings.aim_cells, settings.seed)
    save_generator(folder.path, objective.generator, facts)


def _only_the_model(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name not in ("model.json", "model.safetensors")}
