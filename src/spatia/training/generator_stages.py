"""The stages of training a generator: the reader of morphology, where it is needed, then the generator."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor, nn

from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.grain import LEAST_IMAGES
from spatia.generation.intensities import Intensities, Scale, measure
from spatia.generation.nuclei import NUCLEUS
from spatia.generation.objective import GeneratorObjective
from spatia.generation.proxy import MorphologyProxy, ProxyObjective
from spatia.generation.samples import Samples, begin_at, draw_samples
from spatia.generation.settings import AIM, LABEL
from spatia.log import logger
from spatia.nn.hashing import hash_uniform
from spatia.training.generator_data import GeneratorData, Shown, choose_shown, measure_conditions
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.stage import Batches, Stage

HELD_OUT: Final = 0.15  # of the training cells, for judging the proxy where no split has a validation part
HELD_OUT_STREAM: Final = 106
JUDGED_ROWS: Final = 4096
GRAIN_PX: Final = 64  # side of the images that settings count for the grain
SCALED_ROWS: Final = 1024  # from which the logarithms of intensities are measured
TERMS: Final = ("flow", "contrastive", "morphology", "adversarial")
OF_EDITS: Final = ("displacement",)  # terms that other generators do not have

ShowSamples = Callable[[Samples, int], None]  # what was drawn, after which epoch


@dataclass(frozen=True, kw_only=True)
class ProxyStage:
    """Train the proxy on real images; in the end judge it on held-out cells, and stop where it reads nothing."""

    data: GeneratorData
    settings: GeneratorSettings
    objective: ProxyObjective
    epochs: int
    name: str = "proxy"
    weights: dict[str, float] = field(default_factory=lambda: {"proxy": 1.0})

    @property
    def module(self) -> nn.Module:
        """The proxy's objective."""
        return self.objective

    def loader(self, rank: int, world_size: int) -> Batches:
        """Open the training cells of one rank, without the held-out ones."""
        inner = self.data.loader(self.settings.part, rank, world_size, shuffle=True)
        return inner if self.data.has_validation else _Some(inner, self.settings.seed, held_out=False)

    def validation(self, rank: int, world_size: int) -> Batches | None:
        """Open the cells that the proxy is judged on."""
        if self.data.has_validation:
            return self.data.loader(self.settings.validation_part, rank, world_size, shuffle=False)
        return _Some(
            self.data.loader(self.settings.part, rank, world_size, shuffle=False), self.settings.seed, held_out=True
        )

    @torch.no_grad()
    def ended(self) -> None:
        """Judge the proxy.

        Raises
        ------
        TrainingError
            If it reads no feature well enough.
        """
        proxy = self.objective.proxy.eval()
        predicted, morphology, measured = [], [], []
        batches = self.validation(0, 1)
        assert batches is not None
        for batch in islice(batches, max(1, JUDGED_ROWS // self.settings.batch)):
            predicted.append(self.objective.read(batch.to(proxy.r2.device)).cpu())
            morphology.append(batch.morphology)
            complete = batch.has_all(self.objective.channels.cpu())
            measured.append(batch.morphology_measured & complete[:, None])
        device = proxy.r2.device
        values = [torch.cat(parts).to(device) for parts in (predicted, morphology, measured)]
        proxy.judge(values[0], values[1], values[2], self.settings.proxy_least_r2)
        logger.info("the morphology proxy reads %s (R² on %d held-out cells)", proxy.summary(), len(values[0]))


@dataclass(frozen=True, kw_only=True)
class GeneratorStage:
    """Train the generator."""

    data: GeneratorData
    settings: GeneratorSettings
    objective: GeneratorObjective
    epochs: int
    shown: Shown | None
    show: ShowSamples | None
    name: str = "generator"
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def module(self) -> nn.Module:
        """The objective; a proxy in it stands still."""
        self.objective.requires_grad_(True)
        if self.objective.proxy is not None:
            self.objective.proxy.requires_grad_(False)
        return self.objective

    def loader(self, rank: int, world_size: int) -> Batches:
        """Open the training rows of one rank."""
        return self.data.loader(self.settings.part, rank, world_size, shuffle=True)

    def validation(self, rank: int, world_size: int) -> Batches | None:
        """Open the validation rows of one rank."""
        if not self.data.has_validation:
            return None
        return self.data.loader(self.settings.validation_part, rank, world_size, shuffle=False)

    def epoch_ended(self, epoch: int) -> None:
        """Draw what the generator makes by now."""
        every = max(1, math.ceil(self.epochs / self.settings.sample_grids))
        if self.show is None or self.shown is None or (epoch % every and epoch != self.epochs):
            return
        generator = self.objective.generator
        batch = self.shown.batch.to(generator.device)
        self.show(draw_samples(generator, batch, self.shown.training.to(generator.device), self.settings.seed), epoch)

    @torch.no_grad()
    def fit_grain(self) -> None:
        """Draw some training cells with the final weights, and set the grain by them; an edit keeps that of the cell."""
        generator = self.objective.generator.eval()
        seen = self.epochs * self.data.n_rows
        # as many pixels at every size, and no more images than a twentieth of those it learnt from
        most = min(
            round(self.settings.grain_images * (GRAIN_PX / generator.space.px) ** 2), seen // 20, self.data.n_rows
        )
        if most < LEAST_IMAGES or generator.path.in_one_step:
            return
        drawn, real, present, rows = [], [], [], 0
        for batch in self.data.loader(self.settings.part, 0, 1, shuffle=True):
            part = batch.to(generator.device)
            x_0 = begin_at(generator, part.key, part.source, self.settings.seed)
            found = generator.sample(x_0, part.conditions, part.known, present=part.channels_present)
            drawn.append(generator.unscale(found.x).cpu())
            real.append(batch.target)
            present.append(batch.channels_present)
            rows += len(batch)
            if rows >= most:
                break
        generator.grain.cpu().fit(torch.cat(drawn), torch.cat(real), torch.cat(present))
        generator.grain.to(generator.device)


class _Some:
    """The batches of a loader without the rows of held-out images, or only these."""

    def __init__(self, inner: Batches, seed: int, *, held_out: bool) -> None:
        self._inner, self._seed, self._held_out = inner, seed, held_out

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Any:
        for batch in self._inner:
            # by image, not by row: a target has several sources, which draw their partners anew in every epoch
            held = hash_uniform(batch.image_key, 1, self._seed, HELD_OUT_STREAM)[:, 0] < HELD_OUT
            kept = (held == self._held_out).nonzero()[:, 0]
            # a training step needs a row, so of a batch that is held out altogether one is trained on
            yield (
                batch
                if len(kept) == len(batch)
                else batch.take(kept if len(kept) or self._held_out else torch.zeros(1, dtype=torch.int64))
            )

    def set_epoch(self, epoch: int) -> None:
        self._inner.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._inner.load_state_dict(state)


def make_generator_stages(
    data: GeneratorData,
    settings: GeneratorSettings,
    space: ImageSpace,
    features: tuple[str, ...],
    *,
    pictures: GeneratorData | None = None,
    channels: Collection[str] | None = None,
    mean_weight: float = 1.0,
    show: ShowSamples | None = None,
) -> list[Stage]:
    """Make the stages that train a generator.

    Parameters
    ----------
    data
        Of cells, niches or pairs.
    space
        What its images are.
    features
        Measured morphology, by name, in the order of the batches.
    pictures
        What the proxy learns to read; None: the images of ``data``. The targets of pairs are few, and any cell shows what is measured.
    channels
        Those of the corpus; the model may know more, of which nothing can be learnt. None: all of the space.
    mean_weight
        Mean of confidence^γ over the training pairs.
    show
        Takes what was drawn after an epoch.
    """
    config = settings.generator
    measured = measure_conditions(data, settings)
    if absent := [name for name in config.told if not len(measured.get(name, ()))]:
        if settings.conditions is not None or AIM in absent:
            more = ""
            if config.is_edit:
                more = " An edit (coupling=self) needs measured morphology: build the corpus with outlines, or take coupling=ot-confidence."
            raise SettingsError(f"conditions: {', '.join(absent)} cannot be computed from this corpus and model.{more}")
        logger.warning("conditions: %s cannot be computed from this corpus and is left out", ", ".join(absent))
        config = config.model_copy(update={"conditions": tuple(name for name in config.told if name in measured)})
    if config.is_edit and not any(name.startswith(NUCLEUS) for name in features):
        logger.warning(
            "nuclei are not measured (the corpus has no outlines of them): an edit will not change their size. If the transition does, "
            "build the corpus with --nuclei stain, or take coupling=ot-confidence, which learns from pixels."
        )
    space = replace(space, features=features if AIM in config.told else ())
    if config.scale != space.scale:
        space = _measured_space(data, settings, space, config.scale)
    torch.manual_seed(settings.seed)
    generator = CellGenerator(config, space, {name: measured[name].shape[1] for name in config.told}, channels)
    for name in config.told:
        if name not in ("transition", LABEL):  # which is one of several, not a measurement
            generator.condition.measure(name, measured[name])
    n_rows = data.n_rows
    stages: list[Stage] = []
    proxy = None
    if settings.weights.morphology:
        pictures = data if pictures is None else pictures
        proxy = _make_proxy(pictures, settings, space, features)
        stages.append(
            ProxyStage(
                data=pictures,
                settings=settings,
                objective=ProxyObjective(
                    proxy,
                    Intensities(space.mean, space.sd, space.scale),
                    channels=generator.learnt,
                ),
                epochs=_epochs(settings.epochs.proxy, settings.presentations.proxy, pictures.n_rows),
            )
        )
    objective = GeneratorObjective(
        generator,
        settings.weights,
        settings.drop,
        settings.seed,
        proxy=proxy,
        mean_weight=mean_weight,
        inside_weight=settings.inside_weight,
    )
    weights, terms = settings.weights.model_dump(), (*TERMS, *(OF_EDITS if generator.path.in_one_step else ()))
    stages.append(
        GeneratorStage(
            data=data,
            settings=settings,
            objective=objective,
            epochs=_epochs(settings.epochs.generator, settings.presentations.generator, n_rows),
            shown=choose_shown(data, settings) if settings.sample_rows and show is not None else None,
            show=show,
            weights={name: weights[name] for name in terms},
        )
    )
    return stages


def _make_proxy(
    data: GeneratorData, settings: GeneratorSettings, space: ImageSpace, features: tuple[str, ...]
) -> MorphologyProxy:
    if not features:
        raise SettingsError(
            "weights.morphology is above 0, but the corpus has no measured morphology (no outlines). Set weights.morphology=0."
        )
    proxy = MorphologyProxy(len(space.channels), features)
    batches: list[GenerationBatch] = list(
        islice(data.loader(settings.part, 0, 1, shuffle=True), max(1, JUDGED_ROWS // settings.batch))
    )
    values = torch.cat([batch.morphology for batch in batches if batch.morphology is not None])
    there = torch.cat([batch.morphology_measured for batch in batches if batch.morphology_measured is not None])
    mean, sd = _moments(values.double(), there)
    proxy.feature_mean.copy_(mean)
    proxy.feature_sd.copy_(sd)
    return proxy


def _measured_space(data: GeneratorData, settings: GeneratorSettings, space: ImageSpace, scale: Scale) -> ImageSpace:
    """Return the space on another scale, measured on training images."""
    batches = list(islice(data.loader(settings.part, 0, 1, shuffle=True), max(1, SCALED_ROWS // settings.batch)))
    images, present = (
        torch.cat([getattr(batch, name) for batch in batches]) for name in ("target", "channels_present")
    )
    mean, sd = measure(images, present, scale)
    return replace(space, mean=mean, sd=sd, scale=scale)


def _moments(values: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    n = there.sum(dim=0).clamp(min=1)
    mean = torch.where(there, values, 0).sum(dim=0) / n
    sd = (torch.where(there, values - mean, 0).square().sum(dim=0) / n).sqrt()
    return mean, torch.where(sd > 1e-9, sd, 1.0)


def _epochs(epochs: int | None, presentations: int, n_rows: int) -> int:
    return epochs if epochs is not None else max(1, math.ceil(presentations / n_rows))
