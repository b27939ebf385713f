"""A trained generator as an object: load it once, draw cells with it."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.config import make_settings
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.generation.checkpoint import MODEL_FOLDER, load_generator
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.nuclei import of_measurements
from spatia.generation.samples import begin_at
from spatia.generation.settings import AIM, LEAST_ADAPTIVE, LEAST_UNTOLD, GeneratorConfig, SolverSettings
from spatia.generation.solvers import Solution
from spatia.generation.transformer import DiffusionTransformer
from spatia.inference.asked import CHANGES, Asked
from spatia.inference.drawing import Drawing, GeneratedImages, make_drawing
from spatia.inference.profiles import profile_batch
from spatia.inference.session import choose_device
from spatia.models.checkpoint import load_model, model_id
from spatia.models.spatia import Spatia
from spatia.readout.alignment import SectionReference

if TYPE_CHECKING:
    from spatia.inference.real_cells import RealCells
    from spatia.inference.wanted import Wanted

AT_ONCE: Final = 64  # images of 64 px in the network at the same time
AT_ONCE_ON_A_GPU: Final = 1024  # fewer leave it waiting for the next kernel


class Generator:
    """A trained generator; use :meth:`load`.

    Attributes
    ----------
    network
        The module, in evaluation mode.
    model
        The representation model whose embeddings it is told.
    generator_id, model_id
        Digests of their descriptions.
    facts
        What it was trained on.

    Examples
    --------
    >>> Generator.load("nowhere")
    Traceback (most recent call last):
    ...
    spatia.errors.ModelError: nowhere/generator.json: no such file. Expected a generator folder as `spatia train-generator` writes it.
    """

    def __init__(
        self, folder: Path, network: CellGenerator, model: Spatia, generator_id: str, facts: dict[str, Any]
    ) -> None:
        self.folder, self.network, self.model = folder, network, model
        self.generator_id, self.facts = generator_id, facts
        self.model_id = model_id(folder / MODEL_FOLDER)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> "Generator":
        """Read a generator folder.

        Raises
        ------
        ModelError
            If a file is missing, damaged, or of another format version.
        """
        on = choose_device(device)
        saved = load_generator(folder, on)
        model = load_model(Path(folder) / MODEL_FOLDER, on)
        return cls(Path(folder), saved.generator, model, saved.generator_id, saved.facts)

    @property
    def config(self) -> GeneratorConfig:
        """Task, path, network, solver, guidance."""
        return self.network.config

    @property
    def space(self) -> ImageSpace:
        """What its images are: channels, size, pixel size."""
        return self.network.space

    @property
    def at_once(self) -> int:
        """How many images are in the network at the same time: as many pixels at any size from 64 px."""
        most = AT_ONCE_ON_A_GPU if self.network.device.type == "cuda" else AT_ONCE
        return max(1, most * 64**2 // max(self.space.px, 64) ** 2)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels it has learnt to draw: of those that its model knows, the ones that its training images had."""
        learnt = self.facts.get("channels", self.space.channels)
        return tuple(name for name in self.space.channels if name in learnt)

    @cached_property
    def references(self) -> tuple[SectionReference, ...]:
        """The sections that it learnt from, to align others to; none of a generator that is told no embedding, or of an earlier version."""
        return tuple(SectionReference.from_json(one) for one in self.facts.get("sections", ()))

    @property
    def transitions(self) -> tuple[str, ...]:
        """Names of the transitions it makes; none where it draws cells from expression."""
        return tuple(self.facts.get("transitions", {}).get("names", ()))

    @property
    def deltas(self) -> dict[str, NDArray[np.float32]]:
        """Δg and Δm of the transitions, (transitions, width), from training pairs."""
        stored = self.facts.get("transitions", {})
        return {
            name: np.array(stored[name], np.float32) for name in ("delta_genes", "delta_morphology") if name in stored
        }

    @property
    def changes(self) -> NDArray[np.float32] | None:
        """What the transitions ask for, (transitions, features): Δm, of an edit as `spatia.generation.aiming` moves it."""
        return self._of_transitions("asked_morphology", "delta_morphology")

    @property
    def resampled(self) -> NDArray[np.float32] | None:
        """The same with training cells weighted at random, (transitions, resamples, features); None: not known."""
        return self._of_transitions("asked_resampled", "resampled_morphology")

    def _of_transitions(self, *names: str) -> NDArray[np.float32] | None:
        """Return the first of some entries that is there."""
        stored = self.facts.get("transitions", {})
        return next((np.array(stored[name], np.float32) for name in names if stored.get(name) is not None), None)

    def transition(
        self,
        cells: Sequence[str],
        transition: str,
        *,
        corpus: Corpus | str | Path,
        sections: Sequence[str] | None = None,
        draws: int = 1,
        seed: int = 0,
        **options: Any,
    ) -> GeneratedImages:
        """Draw how cells would look after a transition of state.

        Parameters
        ----------
        cells
            Their ids in the corpus.
        transition
            One of :attr:`transitions`.
        sections
            Names of the sections in which the ids are looked for, where one id is in several; all by default.
        draws, seed, options
            Fields of :class:`Drawing`, which says how draws differ; the solver also by its name, and its ``evaluations``.

        Returns
        -------
        Images in the order of ``cells``, repeats too.

        Raises
        ------
        SettingsError
            If a cell is not there or in several sections, or something does not go together.
        """
        how = make_drawing(self.config.solver, draws=draws, seed=seed, **options)
        with self._asked(cells, transition, corpus, how, sections) as (wanted, asked):
            samples, ids = (tuple(map(str, names)) for names in (wanted.sample, wanted.cell_id))
            return replace(self.draw(asked, how), cell_ids=ids, samples=samples)

    def interpolate(
        self,
        cells: Sequence[str],
        transition: str | None = None,
        *,
        corpus: Corpus | str | Path,
        sections: Sequence[str] | None = None,
        times: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        seed: int = 0,
        **options: Any,
    ) -> NDArray[np.uint8]:
        """Return the points on the way from source (or noise) to image, (cells, times, channels, y, x), in the order of ``cells``.

        Parameters
        ----------
        times
            Ascending, from 0 to 1.
        cells, transition, sections, seed, options
            As :meth:`transition` takes them; a way is of one drawing.
        """
        if "draws" in options:
            raise SettingsError(
                f"draws={options['draws']}: interpolate follows one drawing of each cell. Leave draws out; another seed is another drawing."
            )
        how = make_drawing(self.config.solver, seed=seed, **options)
        check_times(times)
        with self._asked(cells, transition, corpus, how, sections) as (_, asked):
            return self.walk(asked, times, how)

    @contextmanager
    def _asked(
        self,
        cells: Sequence[str],
        transition: str | None,
        corpus: Corpus | str | Path,
        how: Drawing,
        sections: Sequence[str] | None,
    ) -> Iterator[tuple["Wanted", Asked]]:
        from spatia.inference.asking import ask_for_cells

        with ask_for_cells(corpus, self, cells, transition, how, sections) as found:
            yield found

    def set_merging(self, ratio: float | tuple[float, ...]) -> None:
        """Merge another share of the tokens than in training: faster, and coarser.

        Raises
        ------
        SettingsError
            If the network has no tokens, or the share is out of range.
        """
        values = {**self.config.network.model_dump(), "merge": ratio}
        make_settings(type(self.config.network), values, where="merge")
        if not isinstance(self.network.network, DiffusionTransformer):
            raise SettingsError("merge: a U-Net has no tokens to merge.")
        self.network.network.set_merging(ratio)

    def generate(
        self,
        expression: ad.AnnData | pd.DataFrame,
        *,
        draws: int = 1,
        seed: int = 0,
        real: "RealCells | None" = None,
        min_coverage: float = 0.5,
        **options: Any,
    ) -> GeneratedImages:
        """Draw the cells that belong to expression profiles.

        Parameters
        ----------
        expression
            Raw counts, cells × genes; genes by the ``gene_id`` of the corpus (columns of a frame, ``var_names`` of an AnnData). A gene
            that is not there counts as not measured.
        draws
            Images of each profile, which show how much the profile leaves open.
        seed
            Equal seeds draw equal images.
        real
            Real cells to begin at (:func:`spatia.real_cells`), each draw at another one; None: drawings begin at noise.
        min_coverage
            Least share of a panel that must be known to the model: of the genes given; of more than it knows, of those; and of fewer than a
            tenth of those, of the tenth.
        options
            Further fields of :class:`Drawing`; the solver also by its name, and its ``evaluations``.

        Raises
        ------
        ModelError
            If a gene is given twice, or the model knows too few of them.
        SettingsError
            If the generator makes transitions or niches or is not told genes, there is no profile, or counts are not counts.
        """
        if self.config.task != "expression-to-image" or self.config.level != "cell":
            raise SettingsError(
                f"{self.folder}: this generator makes {self.config.task} at level {self.config.level}; expression alone is not what "
                "it is told."
            )
        if "genes" not in self.config.told:
            raise SettingsError(
                f"{self.folder}: this generator is told {', '.join(self.config.told) or 'nothing'}, but not genes, so expression alone would "
                "change nothing. Draw cells of a corpus (spatia.generate_cells), or train one whose conditions hold genes."
            )
        how = make_drawing(self.config.solver, draws=draws, seed=seed, **options)
        if real is not None:
            real.check_fit(self)
        batch = profile_batch(expression, self.model, self.space.um_per_px, min_coverage)
        with torch.inference_mode():
            genes = self.model.encode_cells(batch.to(self.model.device), use=("genes",)).cell.cpu()
        conditions, known = {"genes": genes}, {"genes": torch.ones(len(genes), dtype=torch.bool)}
        left = {name: values for name, values in conditions.items() if name not in how.drop}
        start = None if real is None else real.start(real.alike(left, draws))
        names = expression.obs_names if isinstance(expression, ad.AnnData) else expression.index
        drawn = self.draw(Asked(torch.arange(len(genes)), conditions, known, real=start), how)
        return replace(drawn, cell_ids=tuple(map(str, names)))

    def draw(self, asked: Asked, how: Drawing | None = None) -> GeneratedImages:
        """Draw images of cells of which conditions are known; what is not given is absent."""
        how = how or Drawing()
        self._check_solver(how)
        self.check_guidance(how.guidance)
        self.check_draws(how)
        each = [self._without(asked.for_draw(draw, how.draws), how.drop) for draw in range(how.draws)]
        parts = [self._draw(one, how, draw) for draw, one in enumerate(each)]
        return GeneratedImages(
            np.stack([images for images, _ in parts], axis=1),
            self.channels,
            self.space.um_per_px,
            max(evaluations for _, evaluations in parts),
        )

    def walk(self, asked: Asked, times: Sequence[float], how: Drawing | None = None) -> NDArray[np.uint8]:
        """Return the points of the paths at some times, (cells, times, channels, y, x) uint8: how one image becomes another."""
        how = how or Drawing()
        self._check_solver(how)
        self.check_guidance(how.guidance)
        check_times(times)
        ascending = [0.0, *times] if times[0] > 0 else list(times)
        asked = self._without(asked, how.drop).part(0, len(asked), self.network.device)
        x_0 = begin_at(self.network, asked.key, asked.source, how.seed)
        if asked.before is not None:
            stages = [self._walked(x_0, asked.toward(time), how).x for time in times]
            return np.stack([self.pixels(point) for point in stages], axis=1)
        solver = how.solver or self.config.solver
        each = replace_evaluations(solver, max(2, solver.evaluations // max(1, len(ascending) - 1)))
        points = self.network.walk(
            x_0,
            asked.conditions,
            asked.known,
            ascending,
            present=asked.present,
            guidance=how.guidance,
            solver=each,
            precision=how.precision,
        )
        shown = [self.pixels(point) for point in points[:-1]]
        shown.append(self.pixels(points[-1], asked.key, how.seed, 0) if ascending[-1] == 1 else self.pixels(points[-1]))
        return np.stack(shown[len(ascending) - len(times) :], axis=1)

    def _check_solver(self, how: Drawing) -> None:
        if self.network.path.in_one_step and how.solver not in (None, self.config.solver):
            raise SettingsError(
                f"{self.folder}: an edit takes one step; a solver or a number of evaluations says nothing to it."
            )

    def _draw(self, asked: Asked, how: Drawing, draw: int) -> tuple[NDArray[np.uint8], int]:
        images, most, at_once = [], 0, self.at_once
        for start in range(0, len(asked), at_once):
            part = asked.part(start, start + at_once, self.network.device)
            x_0 = begin_at(self.network, part.key, part.source, how.seed, draw)
            solution = self._walked(x_0, part, how)
            keeps_grain = part.before is not None  # of the cell that it begins at
            images.append(self.pixels(solution.x, None if keeps_grain else part.key, how.seed, draw))
            most = max(most, int(solution.evaluations.max()))
        return np.concatenate(images), most

    def pixels(self, images: Tensor, keys: Tensor | None = None, *stream: int) -> NDArray[np.uint8]:
        """Return scaled images as intensities 0…255, (rows, channels, y, x) over :attr:`channels`.

        Parameters
        ----------
        keys, stream
            Of finished images: what the noise in their grain is a function of.
        """
        kept = [self.space.channels.index(name) for name in self.channels]
        found = self.network.unscale(images)
        if keys is not None:
            found = self.network.grain(found, keys, *stream)
        return found[:, kept].cpu().numpy()

    def _walked(self, x_0: Tensor, part: Asked, how: Drawing) -> Solution:
        """Return where the path leads.

        An edit moves the source; then only what it changes is added to that, so that nothing else is redrawn.
        """
        if part.before is not None and self.config.begins_at_noise:
            return self._redrawn(x_0, part, how)
        options: dict[str, Any] = {
            "present": part.present,
            "solver": how.solver,
            "guidance": how.guidance,
            "precision": how.precision,
        }
        if part.before is not None and part.place is not None and AIM in part.before:
            after, before = (of_measurements(one[AIM], self.space.features) for one in (part.conditions, part.before))
            x_0 = self.network.move(x_0, after - before, part.place)
        found = self.network.sample(x_0, part.conditions, part.known, **options)
        if part.before is None:
            return found
        same = self.network.sample(x_0, part.before, part.known, **options)
        return Solution(x_0 + found.x - same.x, found.evaluations + same.evaluations)

    def _redrawn(self, noise: Tensor, part: Asked, how: Drawing) -> Solution:
        """Return real cells, with what differs between the drawings of what is asked for and of what they themselves express.

        Both drawings begin at the same point between the same noise and the real cell, a share `Drawing.keep` of the way.
        """
        assert part.source is not None
        assert part.before is not None
        real = self.network.scale(part.source)
        if how.keep == 1:
            return Solution(real, torch.zeros(len(real), dtype=torch.int64))
        begin = max(how.keep, self.network.path.start)
        point = self.network.path.point(noise, real, noise.new_full((len(noise),), begin))
        options: dict[str, Any] = {
            "present": part.present,
            "guidance": how.guidance,
            "precision": how.precision,
            "solver": self.solver_of(how, begin),
        }
        asked, own = (
            self.network.sample(point, told, part.known, start=begin, **options)
            for told in (part.conditions, part.before)
        )
        return Solution(real + asked.x - own.x, asked.evaluations + own.evaluations)

    def solver_of(self, how: Drawing, begin: float = 0.0) -> SolverSettings:
        """Return the solver, with as many evaluations as its steps over the whole path would have from there on."""
        solver = how.solver or self.config.solver
        if not begin:
            return solver
        return replace_evaluations(solver, max(2, round(solver.evaluations * (1 - begin ** (1 / solver.early)))))

    def differs_by(self, how: Drawing) -> Literal["noise", "change", "grain"] | None:
        """Return what differs from draw to draw: noise that paths begin at, the resample whose change is asked for, or grain alone; None: nothing."""
        if self.config.begins_at_noise:
            return "noise"
        told = set(self.config.told) - set(how.drop)
        if self.resampled is not None and self.resampled.size and told & set(CHANGES):
            return "change"
        makes_grain = not self.config.is_edit and bool(self.network.grain.noise.any())
        return "grain" if makes_grain else None

    def check_draws(self, how: Drawing) -> None:
        """Refuse more draws than can differ."""
        by, known = self.differs_by(how), self.resampled
        if by == "change" and known is not None and how.draws > known.shape[1]:
            raise SettingsError(
                f"draws={how.draws}: {self.folder} knows the change of {known.shape[1]} resamples of its training cells. Ask for at most so many."
            )
        if by is None and how.draws > 1:
            left = ", ".join(name for name in self.config.told if name not in how.drop) or "nothing"
            why = (
                "does not know how sure its change is (it is of an earlier version: pair and train anew)"
                if self.resampled is None
                else f"is told {left}, neither {' nor '.join(CHANGES)}, by which draws would differ"
            )
            raise SettingsError(
                f"draws={how.draws}: {self.folder} begins at the cell itself and {why}, so that all would be equal. Ask for 1."
            )

    def check_guidance(self, guidance: float | None) -> None:
        """Refuse guidance where too few training rows were told nothing; generators of before do not say how many were."""
        untold = self.facts.get("untold", 1.0)
        if guidance in (None, 1) or self.network.path.in_one_step or untold >= LEAST_UNTOLD:
            return
        raise SettingsError(
            f"guidance={guidance:g}: {self.folder} was trained with {untold:.2g} of its rows told nothing, so that there is nothing to compare "
            f"with; expected at least {LEAST_UNTOLD:g}. Take guidance 1, or train with drop.all=0.1."
        )

    def check_drop(self, drop: Collection[str]) -> None:
        """Refuse to leave out a condition that this generator is not told."""
        if unknown := sorted(set(drop) - set(self.config.told)):
            raise SettingsError(
                f"drop: {', '.join(unknown)} is no condition of this generator: {', '.join(self.config.told)}."
            )
        if AIM in drop and self.config.is_edit:
            raise SettingsError(
                f"drop: {AIM} is what an edit is asked for; without it {self.folder} would give every cell back as it is. Leave {AIM} out of drop."
            )

    def _without(self, asked: Asked, drop: Collection[str]) -> Asked:
        self.check_drop(drop)
        kept = {
            name: value for name, value in asked.conditions.items() if name in self.config.told and name not in drop
        }
        before = None if asked.before is None else {name: asked.before[name] for name in kept}
        return replace(asked, conditions=kept, known={name: asked.known[name] for name in kept}, before=before)


def check_times(times: Sequence[float]) -> None:
    """Refuse times that are no way from 0 to 1."""
    found = list(times)
    if not found or found != sorted(found) or not 0 <= found[0] <= found[-1] <= 1:
        raise SettingsError(f"times={found}: expected one or more ascending times from 0 to 1.")


def replace_evaluations(solver: SolverSettings, evaluations: int) -> SolverSettings:
    """Return the solver with another number of evaluations, or the fewest that its kind can do with."""
    least = LEAST_ADAPTIVE if solver.kind == "adaptive" else 1
    return solver.model_copy(update={"evaluations": max(evaluations, least)})
