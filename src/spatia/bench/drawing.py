"""The tasks in which images are drawn, in the same rows as the others: expression → image, transitions of state, and niches.

They cost more than all embeddings together, so `spatia bench` runs them only where asked (``--draw``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

from spatia.bench.audit import audit_parts
from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.dataset import DataSet, part_rows
from spatia.bench.generation_trial import Trial, run_generator
from spatia.bench.generators.generator import EXPRESSION, TRANSITION, GenerationProblem, Generator, Training, generate
from spatia.bench.generators.niches import NICHE, NICHE_GENERATORS, NicheGenerator, niche_problem, niche_store
from spatia.bench.generators.problems import StateChange, label_table, make_problem, parts_of
from spatia.bench.methods.method import Problem
from spatia.bench.methods.spatia_model import SpatiaSource, trained_folder
from spatia.bench.rows import Row, RowStore
from spatia.errors import SettingsError, SpatiaError
from spatia.log import logger
from spatia.tasks.generation_reference import EvaluationSettings, Reference

SIMULATED = "emt: 0→1"  # the simulator's transition that goes with the state "emt" of tumour cells
EMT = StateChange("state_emt", "tumour")
DRAWING_TASKS = {  # in the rows a transition's name follows
    EXPRESSION: "a held-out cell from its expression and surroundings",
    TRANSITION: "a held-out cell after a change of its state",
    NICHE: "a held-out niche from what its cells express",
}


@dataclass(frozen=True)
class DrawingPlan:
    """How images are drawn and judged.

    Attributes
    ----------
    generators
        Those that can take part in a problem do.
    images, proxy_images
        Training images that each network, and what reads morphology off an image, sees; 0: no network.
    most
        Most test cells.
    settings
        Lines ``name=value`` of `spatia train-generator`, for all flows.
    task
        Name of the task in the rows; None: its own.
    """

    generators: Sequence[Generator]
    images: int = 40_000
    proxy_images: int = 12_000
    most: int = 1000
    settings: tuple[str, ...] = ()
    task: str | None = None


def read_change(text: str) -> StateChange:
    """Read a transition as a data set names it: ``"emt of tumour"`` (state of a type) or ``"luminal→tumour"`` (types).

    Raises
    ------
    SettingsError
        If it is neither.

    Examples
    --------
    >>> read_change("emt of tumour") == EMT, read_change("a→b").types
    (True, ('a', 'b'))
    """
    if "→" in text:
        source, _, target = (part.strip() for part in text.partition("→"))
        return StateChange(types=(source, target))
    state, of, kind = (part.strip() for part in text.partition(" of "))
    if not (of and state and kind):
        raise SettingsError(f"transition {text!r}: expected 'STATE of TYPE' or 'TYPE→TYPE'.")
    return StateChange(state if state.startswith("state_") else f"state_{state}", kind)


def model_of(cells: BenchCells, split: str, seed: int, models: Path) -> Path:
    """Return the representation model of a split in a results folder; it is trained if it is not there."""
    train, test = parts_of(cells, split)
    place = Problem(cells, split, train, np.zeros(0, np.int64), test, seed, work=models)
    there = trained_folder(models, cells.corpus, split, seed)
    if (there / "model.json").is_file():
        return there
    logger.info("%s: no model there yet; it is trained first", there)
    return SpatiaSource().folder(place)


def truth_of(
    cells: BenchCells, change: StateChange | None, slides: Path | None, simulated: str | None
) -> dict[str, Any]:
    """Return where the true counterfactuals come from; nothing on slides that were not simulated.

    Parameters
    ----------
    slides
        Folder of the simulated slides, one a section; None: ``CORPUS_slides``.
    simulated
        The simulator's transition; None: that of `EMT` where it is asked.
    """
    slides = slides or cells.corpus.path.with_name(cells.corpus.path.name + "_slides")
    if simulated is None and slides.is_dir() and change == EMT:
        simulated = SIMULATED
    if change is None or not simulated:
        return {}
    return {
        "slides": {sample: slides / sample for sample in cells.corpus.sections},
        "simulated": {change.name: simulated},
    }


def make_reference(cells: BenchCells, problem: GenerationProblem, split: str, most: int, **more: Any) -> Reference:
    """Return what images of a problem are judged against; ``more``: ``model`` and ``resamples``."""
    resamples = int(more.pop("resamples", 0))
    settings = EvaluationSettings(split=split, max_cells=max(20, most), resamples=resamples, seed=problem.seed)
    return Reference(cells.data.corpus, settings, labels=label_table(problem), **more)


def draw_rows(
    plan: DrawingPlan, problem: GenerationProblem, reference: Reference, rows: RowStore, command: str, **truth: Any
) -> None:
    """Draw and judge with every generator; what stands in the rows is not run again."""
    data, seed, task = problem.cells.data, problem.seed, plan.task or problem.task
    rows.refuse_other_corpus(data.name, seed, problem.cells.corpus.corpus_id)
    sizes = (seed, len(problem.wanted), len(problem.train), command, problem.cells.corpus.corpus_id)
    for generator in plan.generators:
        if not generator.can(problem) or rows.has(task, data.name, generator.name, seed):
            continue
        trial = Trial(task, data.name, generator.name, *sizes)
        _keep(run_generator(partial(generate, generator, problem), reference, trial, **truth), rows, trial)


def _keep(found: list[Row], rows: RowStore, trial: Trial) -> None:
    rows.add(found)
    said = found[0].message or f"{len(found)} values"
    where = (trial.data, trial.seed, trial.task, trial.method)
    logger.info("%s, seed %d, %s, %s: %s, %s (%.0f s)", *where, found[0].status, said, found[0].seconds)


def run_drawing(
    data: DataSet, seeds: Sequence[int], plan: DrawingPlan, rows: RowStore, out: Path, command: str
) -> None:
    """Run expression → image, the transitions and the niches of a data set.

    A transition of which there are too few cells is said and left out; the others are drawn.

    Raises
    ------
    LeakError
        If the parts of a split leak into each other.
    """
    cells = load_cells(data)
    if not cells.has_images:
        return
    for seed in seeds:
        split = data.split_name(seed)
        _audit(cells, split, seed)
        model = model_of(cells, split, seed, out)
        for change in (None, *map(read_change, data.transitions)):
            training = Training(split, model, plan.images, plan.proxy_images, plan.settings) if plan.images else None
            try:
                problem = make_problem(cells, split, seed, most=plan.most, change=change, work=out, training=training)
            except SpatiaError as error:
                logger.warning("%s, seed %d: %s", data.name, seed, error)
                continue
            reference = make_reference(cells, problem, split, plan.most, model=model)
            named = plan if change is None else replace(plan, task=f"transition {change.name}")
            draw_rows(named, problem, reference, rows, command, **truth_of(cells, change, None, None))
        draw_niches(cells, plan, seed, model, rows, out, command)


def _audit(cells: BenchCells, split: str, seed: int) -> None:
    """Look for leaks, as :class:`spatia.bench.protocols.trial.Trial` does for embeddings."""
    parts = {part: part_rows(cells.corpus, split, part) for part in ("train", "validation", "test")}
    train, validation, test = (rows[cells.usable[rows]] for rows in parts.values())
    audit_parts(Problem(cells, split, train, validation, test, seed))


def draw_niches(
    cells: BenchCells, plan: DrawingPlan, seed: int, model: Path, rows: RowStore, out: Path, command: str
) -> None:
    """Draw and judge pictures of niches; too few of them are said and left out."""
    corpus, data, split = cells.corpus, cells.data, cells.data.split_name(seed)
    training = Training(split, model, plan.images, plan.proxy_images, plan.settings) if plan.images else None
    try:
        problem = niche_problem(corpus, split, seed, most=plan.most, work=out, training=training)
    except SpatiaError as error:
        logger.warning("%s, seed %d: %s", data.name, seed, error)
        return
    most = max(20, plan.most)
    settings = EvaluationSettings(split=problem.split, level="niche", max_cells=most, resamples=0, seed=seed)
    reference = Reference(corpus, settings)
    for generator in NICHE_GENERATORS:
        if not generator.can(problem) or rows.has(NICHE, data.name, generator.name, seed):
            continue
        sizes = (seed, len(problem.wanted), len(problem.train), command, corpus.corpus_id)
        trial = Trial(NICHE, data.name, generator.name, *sizes)

        def make(generator: NicheGenerator = generator) -> ad.AnnData:
            return niche_store(problem, generator.name, generator.draw(problem))

        _keep(run_generator(make, reference, trial), rows, trial)
