"""The loop: stages of epochs of steps, with a checkpoint from which each goes on as if nothing had happened."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric import Fabric

from spatia.errors import TrainingError
from spatia.log import duration, logger, progress
from spatia.training.checkpoint import Checkpoint, read_checkpoint, seed_generators, write_checkpoint
from spatia.training.evaluation import Validation
from spatia.training.interruption import StopRequest
from spatia.training.journal import Journal, LoggedStep
from spatia.training.parallel import sum_over_ranks
from spatia.training.run_folder import RunFolder
from spatia.training.settings import LoopSettings
from spatia.training.stage import Stage
from spatia.training.stage_training import StageTraining

WARM_UP_STEPS: Final = 2  # the first steps allocate memory and choose kernels
TIMED_STEPS: Final = 8
CURVES_EVERY_S: Final = 60.0

DrawCurves = Callable[[Path, Path], None]  # log.jsonl, the PNG to write


def run_stages(
    stages: Sequence[Stage],
    folder: RunFolder,
    settings: LoopSettings,
    fabric: Fabric,
    *,
    resume: bool = False,
    draw: DrawCurves | None = None,
) -> None:
    """Train the stages in order; each begins with the weights in which the one before ended.

    Parameters
    ----------
    stages
        Their modules share the model. In the end it has the weights of the best epoch of the last stage.
    folder
        Of a run that has begun.
    resume
        Go on from the newest checkpoint in the folder, where there is one.
    draw
        Draws the curves of a log now and then.

    Raises
    ------
    TrainingError
        If a loss or a gradient is not finite, or the checkpoint is not one of this run.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after a checkpoint.
    """
    saved = read_checkpoint(folder.checkpoints) if resume else None
    _check_ranks(saved, fabric)
    run = _Run(folder, settings, fabric, draw, saved)
    with StopRequest() as stop, run.journal:
        for number, stage in enumerate(stages):
            if stage.epochs == 0 or (saved is not None and number < saved.state["stage"]):
                continue
            seed_generators(settings.seed, number, fabric.global_rank)
            training = StageTraining(stage, settings, fabric)
            if saved is not None:
                training.load(saved.tensors, saved.state["training"])
                saved = None
            run.enter(number, len(stages), training)
            with progress(f"training {stage.name}", run.total_steps, "steps", done=run.steps_of_stage) as advance:
                while not training.finished:
                    for batch in training.batches():
                        step, wanted = training.step(batch, run.step + 1, [stop.requested, run.checkpoint_is_due()])
                        advance(1, run.count(step))
                        epoch_ends = training.batch == len(training.loader)
                        if any(wanted) and not epoch_ends:
                            run.save()
                        if wanted[0] and not epoch_ends:
                            raise KeyboardInterrupt
                    run.end_epoch(training.finish_epoch(run.step))
                    run.save()
                    if run.any_rank(stop.requested):
                        raise KeyboardInterrupt
            training.finish()
            run.leave()


@dataclass
class _Pace:
    """Times the first steps of a stage, to say how long it will take."""

    steps: int = 0
    began: float = 0.0

    def seconds_a_step(self) -> float | None:
        """Count a step; the mean after some of them, once."""
        self.steps += 1
        if self.steps == WARM_UP_STEPS:
            self.began = time.perf_counter()
        if self.steps != WARM_UP_STEPS + TIMED_STEPS:
            return None
        return (time.perf_counter() - self.began) / TIMED_STEPS


class _Run:
    """What the loop keeps beside the stage: where it stands, what it has written, when it last saved."""

    def __init__(
        self,
        folder: RunFolder,
        settings: LoopSettings,
        fabric: Fabric,
        draw: DrawCurves | None,
        saved: Checkpoint | None,
    ) -> None:
        self._folder, self._settings, self._fabric, self._draw = folder, settings, fabric, draw
        self._first = fabric.is_global_zero
        state: Any = {"step": 0, "seconds": 0.0, "stages": [], "warnings": []} if saved is None else saved.state
        self.step: int = state["step"]
        self._summaries: list[dict[str, Any]] = list(state["stages"])
        self._warnings: list[str] = list(state["warnings"])
        self.journal = Journal(
            folder.log,
            every=settings.log_every,
            length=0 if saved is None else saved.state["journal"]["length"],
            steps_done=self.step,
            tensorboard=folder.path / "tensorboard" if settings.tensorboard else None,
            writes=self._first,
        )
        if saved is not None:
            self.journal.load(saved.state["journal"])
            self._say("resuming after step %s", f"{self.step:,}")
        now = time.monotonic()
        self._seconds_before, self._began = float(state["seconds"]), now
        self._last_save = self._last_drawing = now
        if saved is not None and self._first:
            self._record()  # a run that was killed between checkpoint and run.json, and has no step left, saves no more
        self._pace = _Pace()
        self._number: int
        self._training: StageTraining

    @property
    def seconds(self) -> float:
        """Time of the run so far, over all its parts that a checkpoint holds."""
        return self._seconds_before + time.monotonic() - self._began

    @property
    def total_steps(self) -> int:
        """Steps of the stage, if no epoch is longer than this one and none is saved by patience."""
        return len(self._training.loader) * self._training.stage.epochs

    @property
    def steps_of_stage(self) -> int:
        """Steps of the stage that are done."""
        return len(self._training.loader) * self._training.epoch + self._training.batch

    def enter(self, number: int, of: int, training: StageTraining) -> None:
        """Begin with a stage, or go on with it."""
        self._number, self._training, self._pace = number, training, _Pace()
        counts = training.parameters
        self._say(
            "stage %r (%d of %d): %s of %s parameters learn, %s epochs of %s steps",
            training.stage.name, number + 1, of, f"{counts['trained']:,}", f"{counts['parameters']:,}",
            f"{training.stage.epochs:,}", f"{len(training.loader):,}",
        )  # fmt: skip

    def count(self, step: LoggedStep) -> str:
        """Count a step; returns what to show beside the bar."""
        self.step += 1
        self.journal.add(step)
        if (seconds := self._pace.seconds_a_step()) is not None:
            left = seconds * (self.total_steps - self.steps_of_stage)
            self._say(
                "stage %r: %.3g s a step, about %s left, validation not counted",
                self._training.stage.name, seconds, duration(left),
            )  # fmt: skip
        if not self.journal.line_is_due(self.step, last=self._training.batch == len(self._training.loader)):
            return ""
        place = self._place(self._training.epoch + 1)
        line = self.journal.write_steps(place, self._training.weights, step.learning_rate)
        terms = " ".join(f"{name} {value:.3g}" for name, value in line["terms"].items() if value is not None)
        return f"loss {line['loss']:.4g} ({terms}), {line['rows_per_s']:,.0f} cells/s"

    def end_epoch(self, result: Validation) -> None:
        """Write down the validation of an epoch, and warn where the embedding has collapsed."""
        epoch, best = self._training.epoch, self._training.best
        self.journal.write_validation(self._place(epoch), result.facts() | {"best_epoch": best.epoch or None})
        shown = (
            [] if result.loss is None else [f"validation {result.loss:.4g}, best {best.loss:.4g} (epoch {best.epoch})"]
        )
        if (spread := result.spread) is not None:
            shown.append(f"effective rank {spread.effective_rank:.1f} of {spread.most}")
            if spread.share < self._settings.collapse_share:
                self._warn(
                    f"stage {self._training.stage.name!r}, epoch {epoch}: the embedding has collapsed to an effective rank "
                    f"of {spread.effective_rank:.1f} of {spread.most} dimensions, below the share of "
                    f"{self._settings.collapse_share:g} (collapse_share). Raise weights.contrastive, or lower lr."
                )
        if shown:
            self._say("epoch %d of %d: %s", epoch, self._training.stage.epochs, "; ".join(shown))
        summary = {
            "name": self._training.stage.name,
            "epochs": epoch,
            "step": self.step,
            "best_epoch": best.epoch or None,
            "best_loss": best.loss,
            **self._training.parameters,
            "effective_rank": None if spread is None else spread.effective_rank,
            "effective_rank_most": None if spread is None else spread.most,
        }
        self._summaries = [one for one in self._summaries if one["name"] != summary["name"]] + [summary]
        if self._first and self._draw is not None and time.monotonic() - self._last_drawing > CURVES_EVERY_S:
            self._draw(self._folder.log, self._folder.curves)
            self._last_drawing = time.monotonic()

    def leave(self) -> None:
        """Finish a stage."""
        if self._training.epoch < self._training.stage.epochs:
            self._say("no better validation loss in %d epochs: the stage ends early", self._settings.patience)

    def checkpoint_is_due(self) -> bool:
        """Say whether a checkpoint should follow the coming step; the first rank watches the clock for all."""
        every = self._settings.checkpoint_every_steps
        by_steps = every is not None and (self.step + 1) % every == 0
        return self._first and (by_steps or time.monotonic() - self._last_save > self._settings.checkpoint_every_s)

    def save(self) -> None:
        """Write a checkpoint and bring run.json up to date."""
        tensors = self._training.tensors()  # every rank takes part in gathering
        if self._first:
            state = {
                "stage": self._number,
                "step": self.step,
                "seconds": self.seconds,
                "world_size": self._fabric.world_size,
                "stages": self._summaries,
                "warnings": self._warnings,
                "journal": self.journal.state(),
                "training": self._training.state(),
            }
            write_checkpoint(self._folder.checkpoints, tensors, state)
            self._record()
        self._last_save = time.monotonic()

    def any_rank(self, wish: bool) -> bool:
        """Say whether any rank wishes it."""
        return bool(sum_over_ranks(torch.tensor(float(wish), device=self._fabric.device), self._fabric))

    def _record(self) -> None:
        """Bring run.json up to date."""
        self._folder.write(
            steps=self.step,
            seconds=round(self.seconds, 1),
            peak_memory_bytes=self._folder.peak_memory(),
            stages=self._summaries,
            warnings=self._warnings,
        )

    def _place(self, epoch: int) -> dict[str, Any]:
        return {"stage": self._training.stage.name, "epoch": epoch, "step": self.step}

    def _say(self, message: str, *values: Any) -> None:
        if self._first:
            logger.info(message, *values)

    def _warn(self, message: str) -> None:
        self._warnings.append(message)
        if self._first:
            logger.warning(message)


def _check_ranks(saved: Checkpoint | None, fabric: Fabric) -> None:
    if saved is not None and saved.state["world_size"] != fabric.world_size:
        raise TrainingError(
            f"{saved.path}: written by {saved.state['world_size']} process(es), but there are {fabric.world_size} now, "
            "which would be given other batches. Resume with as many processes."
        )
