"""One training of a generator: from what it is told to its stages, and from those to its folder."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final

from spatia.corpus.corpus import Corpus
from spatia.corpus.files import sha256
from spatia.errors import SettingsError
from spatia.generation.checkpoint import GENERATOR_FILE, MODEL_FOLDER, save_generator
from spatia.generation.generator import ImageSpace
from spatia.generation.samples import Samples
from spatia.inference.cell_labels import CellLabels
from spatia.inference.conditions import EMBEDDINGS, CellConditions, cell_conditions, references_of
from spatia.inference.generator import Generator
from spatia.models.checkpoint import load_model, model_id
from spatia.models.spatia import Spatia
from spatia.pairing.pairs import FACTS_FILE, Pairs
from spatia.training.generator_aim import fit_aims
from spatia.training.generator_data import CorpusData, with_images
from spatia.training.generator_pairs import PairData, transition_facts
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_stages import make_generator_stages
from spatia.training.generator_start import start_from as begin
from spatia.training.generator_told import conditions_that_hold
from spatia.training.run_folder import RunFolder
from spatia.training.stage import Stage

SAMPLES_FOLDER: Final = "samples"
CONDITIONS_FOLDER: Final = ".conditions"

DrawSamples = Callable[[Samples, Path], None]  # what was generated, the PNG to write


@dataclass(kw_only=True)
class GeneratorRun:
    """What one training is of; as a context, it holds the files that the training reads until it ends.

    Attributes
    ----------
    corpus, model, network
        What is learnt from, and the representation model whose embeddings are told, with its folder.
    pairs, labels
        Of transitions, and of cells; None: none are told.
    start_from
        A generator folder to begin with.
    draw_samples
        Draws the grids that are kept as training goes.
    """

    corpus: Corpus
    model: Path
    network: Spatia
    settings: GeneratorSettings
    pairs: Pairs | None
    labels: CellLabels | None
    start_from: Path | None
    draw_samples: DrawSamples | None
    _embedded: CellConditions | None = field(default=None, init=False)
    _learnt: frozenset[str] = field(default=frozenset(), init=False)  # sections that something is learnt from
    _files: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> "GeneratorRun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of what the run depends on beside corpus and settings."""
        found = {"model": model_id(self.model)}
        if self.pairs is not None:
            found["pairs"] = sha256(self.pairs.path / FACTS_FILE)
        if self.labels is not None:
            found["labels"] = self.labels.digest
        if self.start_from is not None:
            found["start_from"] = sha256(self.start_from / GENERATOR_FILE)
        return found

    def make_stages(self, folder: RunFolder) -> list[Stage]:
        """Embed what is told of the cells, and return the stages."""
        corpus, settings = self.corpus, self.settings
        learns_from_pairs = self.pairs is not None and not settings.is_edit  # an edit learns from every cell
        embedded = self._embed(folder, list(corpus.sections) if learns_from_pairs else with_images(corpus))
        pictures, mean_weight, told = None, 1.0, settings
        data: PairData | CorpusData
        if learns_from_pairs:
            assert self.pairs is not None
            scratch = self._files.enter_context(TemporaryDirectory(prefix="spatia-pairs-"))
            data = PairData(corpus, self.network, embedded, self.pairs, settings, Path(scratch))
            self._learnt = self._learnt.intersection(data.samples)
            pictures, mean_weight = CorpusData(corpus, self.network.vocabulary, None, settings), data.mean_weight
        else:
            data = CorpusData(corpus, self.network.vocabulary, embedded, settings)
            if settings.chooses_surroundings:
                names, shares = conditions_that_hold(data)
                told = settings.model_copy(update={"conditions": names})
                folder.write(conditions_compared=shares)
        stages = make_generator_stages(
            data,
            told,
            _space(corpus, self.network, settings),
            self.network.vocabulary.features,
            pictures=pictures,
            channels=corpus.channels,
            mean_weight=mean_weight,
            show=None if self.draw_samples is None else _shower(folder, self.draw_samples),
        )
        if self.start_from is not None:
            last: Any = stages[-1]  # not its `module`: that freezes the proxy, which an earlier stage trains
            start = begin(last.objective.generator, self.start_from, model_id(self.model), self._named())
            folder.write(start=start)
        return stages

    def write(self, stages: Sequence[Stage], folder: RunFolder) -> None:
        """Write the generator: its network, its representation model, and what is known of it."""
        last: Any = stages[-1]
        last.fit_grain()
        objective: Any = last.module
        copytree(self.model, folder.path / MODEL_FOLDER, dirs_exist_ok=True, ignore=_only_the_model)
        facts = self._facts(objective, folder)
        if self.pairs is not None and self.settings.is_edit:
            network = objective.generator.eval()
            maker = Generator(folder.path, network, load_model(self.model, network.device), "", facts)
            aims = fit_aims(maker, self.corpus, self.pairs, self.settings.aim_cells, self.settings.seed)
            facts["transitions"] |= aims
        save_generator(folder.path, objective.generator, facts)

    def _embed(self, folder: RunFolder, sections: list[str]) -> CellConditions:
        self._learnt = frozenset(with_images(self.corpus))
        self._embedded = self._files.enter_context(
            cell_conditions(
                self.corpus,
                self.model,
                sections=sections,
                scratch=folder.path / CONDITIONS_FOLDER,
                device="cpu" if self.settings.accelerator == "cpu" else "auto",
                labels=self.labels,
            )
        )
        return self._embedded

    def _named(self) -> dict[str, Any]:
        """Return the names of labels and transitions, as a generator's facts hold them."""
        found: dict[str, Any] = {} if self.labels is None else {"labels": list(self.labels.names)}
        return found if self.pairs is None else {**found, "transitions": {"names": list(self.pairs.transitions)}}

    def _facts(self, objective: Any, folder: RunFolder) -> dict[str, Any]:
        facts: dict[str, Any] = {name: folder.facts[name] for name in ("corpora", "seed", "stages", "inputs")}
        facts["channels"] = [name for name in objective.generator.space.channels if name in self.corpus.channels]
        facts["start"] = folder.facts.get("start", {})
        facts["weights"] = objective.weights.model_dump()
        facts["untold"] = objective.drop.untold(len(objective.generator.config.told))
        facts["conditions_compared"] = folder.facts.get("conditions_compared", {})
        if (proxy := objective.proxy) is not None:
            r2 = zip(proxy.features, proxy.r2.tolist(), strict=True)
            facts["proxy_r2"] = {name: round(value, 4) for name, value in r2 if not math.isnan(value)}
        facts |= {"n_cells": self.corpus.n_cells, **self._named()}
        if self.pairs is not None:
            facts["transitions"] = transition_facts(self.pairs, self.network)
        told = set(self.settings.generator.told)
        if (
            set(EMBEDDINGS) & told and "control" not in told
        ):  # a source's own embedding is not moved, and must fit the others
            assert self._embedded is not None
            split, part = self.settings.split, self.settings.part
            references = references_of(self._embedded, self.corpus, self._learnt, split=split, part=part)
            facts["sections"] = [one.to_json() for one in references]
        return facts


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


def _only_the_model(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name not in ("model.json", "model.safetensors")}
