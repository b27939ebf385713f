"""Train a model on corpora: from settings to a model folder."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from shutil import rmtree
from typing import Any

from lightning_fabric import Fabric

from spatia.config import flatten
from spatia.corpus.corpus import Corpus
from spatia.corpus.lock import only_writer_of
from spatia.errors import SpatiaError
from spatia.log import duration, logger
from spatia.training.checkpoint import seed_generators
from spatia.training.loop import DrawCurves, run_stages
from spatia.training.parallel import processes
from spatia.training.run_folder import RunFolder
from spatia.training.settings import LoopSettings, TrainSettings
from spatia.training.stage import Stage


def train(
    corpora: Sequence[Corpus | str | Path],
    out: str | Path,
    settings: TrainSettings | None = None,
    resume: bool = False,
    *,
    start_from: str | Path | None = None,
    draw: DrawCurves | None = None,
) -> Path:
    """Train a model and write its folder.

    Parameters
    ----------
    corpora
        What to train on; panels and channels may differ.
    out
        Model folder to make (``docs/training.md`` says what is in it).
    settings
        The defaults where None.
    resume
        Go on with the run in the folder; begin where there is none.
    start_from
        A model folder to fine-tune.
    draw
        Draws ``curves.png`` from ``log.jsonl``; the command line gives `spatia.plotting.curves.plot_curves`.

    Returns
    -------
    The model folder.

    Raises
    ------
    SettingsError
        If the folder holds something else, or a run and ``resume`` is False.
    TrainingError
        If a loss is not finite, or the run in the folder had other settings or corpora.
    KeyboardInterrupt
        On Ctrl-C, after a checkpoint.
    """
    settings = settings or TrainSettings()
    opened = [corpus if isinstance(corpus, Corpus) else Corpus.open(corpus) for corpus in corpora]
    model_from = None if start_from is None else Path(start_from)

    def make_stages(folder: RunFolder) -> list[Stage]:
        return _make_stages(opened, settings, model_from, folder)

    def write(stages: Sequence[Stage], folder: RunFolder) -> None:
        _write_model(stages, opened, folder, settings.split)

    return run_training(opened, out, settings, make_stages, write, resume=resume, start_from=model_from, draw=draw)


def run_training(
    corpora: Sequence[Corpus],
    out: str | Path,
    settings: LoopSettings,
    make_stages: Callable[[RunFolder], list[Stage]],
    write: Callable[[Sequence[Stage], RunFolder], None],
    *,
    resume: bool = False,
    start_from: Path | None = None,
    inputs: Mapping[str, str] | None = None,
    draw: DrawCurves | None = None,
) -> Path:
    """Train whatever the stages are of, with the one engine: folder, settings, seed, devices, loop, resume.

    Parameters
    ----------
    corpora, out, settings, resume, start_from, draw
        As :func:`train` takes them.
    make_stages
        Makes the stages, on every rank alike; it may write facts into the folder.
    write
        Writes what was trained, on the first rank.
    inputs
        Digests of what else the run depends on (`RunFolder.begin`).

    Returns
    -------
    The folder.
    """
    _check_split(corpora, settings)
    with processes(settings) as fabric, ExitStack() as held:
        folder = RunFolder(Path(out), writes=fabric.is_global_zero)
        if not fabric.is_global_zero:
            logger.setLevel(logging.WARNING)  # one process speaks for all
        if _begin(folder, corpora, settings, start_from, fabric, resume=resume, inputs=inputs):
            logger.info("%s: trained already", folder.path)
            return folder.path
        if fabric.is_global_zero:
            held.enter_context(only_writer_of(folder.path, "training"))
        _print(settings, folder, fabric)
        if fabric.is_global_zero:
            _warn_without_validation(corpora, settings)
        try:
            seed_generators(settings.seed)  # every rank makes the same model
            stages = make_stages(folder)
            run_stages(stages, folder, settings, fabric, resume=resume, draw=draw)
            if fabric.is_global_zero:
                write(stages, folder)
                _finish(folder)
        except KeyboardInterrupt:
            folder.write(status="interrupted")
            logger.warning("%s: interrupted after a checkpoint; go on with --resume", folder.path)
            raise
        except Exception as error:
            folder.write(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            if fabric.is_global_zero and draw is not None and folder.log.is_file():
                draw(folder.log, folder.curves)
    return folder.path


def _check_split(corpora: Sequence[Corpus], settings: LoopSettings) -> None:
    """Refuse an unknown split or part before anything is read, embedded or written; the usual validation part may be absent."""
    if settings.split is not None:
        asked = [settings.part]
        if settings.validation_part != LoopSettings.model_fields["validation_part"].default:
            asked.append(settings.validation_part)
        for corpus in corpora:
            split = corpus.split(settings.split)
            for part, sample in product(asked, corpus.sections):
                split.ranges(part, sample)


def _warn_without_validation(corpora: Sequence[Corpus], settings: LoopSettings) -> None:
    """Say where a split was named, but has no cells that choose the epoch."""
    for corpus in corpora if settings.split is not None else ():
        if not any(corpus.split(str(settings.split)).parts.get(settings.validation_part, {}).values()):
            logger.warning(
                "%s: no cell is in part %r of split %r: nothing chooses the best epoch, and the weights of the last are kept",
                corpus.path,
                settings.validation_part,
                settings.split,
            )


def _begin(
    folder: RunFolder,
    corpora: Sequence[Corpus],
    settings: LoopSettings,
    start_from: Path | None,
    fabric: Fabric,
    *,
    resume: bool,
    inputs: Mapping[str, str] | None,
) -> bool:
    """Begin the run on the first rank; what it refuses, all refuse, or they would wait for it."""
    finished, refusal = False, None
    if fabric.is_global_zero:
        try:
            finished = folder.begin(corpora, settings, start_from, resume=resume, inputs=inputs)
        except SpatiaError as error:
            refusal = error
    finished, refusal = fabric.broadcast((finished, refusal))
    if refusal is not None:
        raise refusal
    return finished


def _print(settings: LoopSettings, folder: RunFolder, fabric: Fabric) -> None:
    values = settings.model_dump(mode="json")
    single = {name: value for name, value in values.items() if not isinstance(value, dict)}
    for group, of_group in {
        "settings": single,
        **{k: v for k, v in values.items() if isinstance(v, dict) and v},
    }.items():
        logger.info("%s: %s", group, ", ".join(f"{name}={value}" for name, value in flatten(of_group).items()))
    ranks = fabric.world_size
    logger.info("%s: %d process(es) on %s, %s", folder.path, ranks, fabric.device.type, settings.precision)
    if fabric.device.type == "cpu" and settings.precision == "bf16-mixed":
        logger.warning(
            "precision=bf16-mixed is for GPUs: on a processor training is several times slower than with 32-true"
        )


def _make_stages(
    corpora: Sequence[Corpus], settings: TrainSettings, start_from: Path | None, folder: RunFolder
) -> list[Stage]:
    from spatia.training.stages import make_stages
    from spatia.training.start import start_model

    start = start_model(corpora, settings, start_from)
    folder.write(start=start.facts)
    return list(make_stages(corpora, settings, start=start))


def _write_model(stages: Sequence[Stage], corpora: Sequence[Corpus], folder: RunFolder, split: str | None) -> None:
    from spatia.models.checkpoint import save_model
    from spatia.training.reference import measure_reference

    levels = {name: {"size_um": level.size_um, "px": level.px} for name, level in corpora[0].levels.items()}
    facts = {"levels": levels, "split": split} | {
        name: folder.facts[name] for name in ("corpora", "seed", "start_from", "start", "stages")
    }
    model: Any = stages[-1].module.model
    batches: Any = stages[0].loader(0, 1)
    measure_reference(model, batches)
    save_model(folder.path, model, facts)


def _finish(folder: RunFolder) -> None:
    finished = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    folder.write(status="finished", finished=finished, peak_memory_bytes=folder.peak_memory())
    if folder.checkpoints.exists():  # none where every stage has 0 epochs
        rmtree(folder.checkpoints)  # several times the size of the model, and there is nothing left to resume
    logger.info("%s: finished after %s", folder.path, duration(folder.facts["seconds"]))
