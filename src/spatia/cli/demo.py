"""``spatia demo``: the main job on a simulated slide, from the vendor's folder to the report."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from spatia.simulate.settings import SimulationSettings

_Result = TypeVar("_Result")
SAMPLE = "demo"
# Half the default budget of training: enough to see what the model does, in minutes on two cores.
PRESENTATIONS = 20_000, 30_000
DRAWN = 20_000  # images that the demo's generator learns from: bodies, nuclei and stains, not yet fine texture


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to make: slide/, run/ with report.html, two pictures.")
    ],
    cells: Annotated[int, typer.Option(help="Cells of the simulated slide.")] = 3000,
    seed: Annotated[int, typer.Option(help="Everything random derives from this number.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of training, as in `spatia train`: NAME=VALUE.")
    ] = None,
    no_benchmark: Annotated[bool, typer.Option("--no-benchmark", help="Do not compare with simple methods.")] = False,
    generate: Annotated[int, typer.Option(help="Images that a generator is trained on; 0: draw no cells.")] = DRAWN,
) -> None:
    """Simulate a slide and do the main job on it, down to the report. Needs no data and no network."""
    from spatia.extras import require

    require("spatialdata", "io")
    from spatia.cli.run import tell_step
    from spatia.config import make_settings
    from spatia.io.source import Source
    from spatia.pipeline.run import run
    from spatia.pipeline.settings import RunSettings
    from spatia.simulate.settings import SimulationSettings
    from spatia.training.settings import read_settings

    slide = out / "slide"
    simulation = make_settings(SimulationSettings, {"n_cells": cells, "seed": seed}, where="spatia demo")
    budget = [f"presentations.cells={PRESENTATIONS[0]}", f"presentations.context={PRESENTATIONS[1]}"]
    training = (*budget, *(set_ or ()))
    read_settings(overrides=training)  # a wrong one is said now, and not after the build
    values = {
        "seed": seed,
        "train": training,
        "benchmark": not no_benchmark,
        "generate": generate,
        "annotations": out / "annotations.csv",
    }
    settings = make_settings(RunSettings, values, where="spatia demo")
    _step("simulate", slide, lambda: _simulate_once(slide, simulation))
    _write_annotations(slide, out / "annotations.csv", seed)
    result = run([Source(SAMPLE, slide)], out / "run", settings, command="spatia demo", tell=tell_step)
    for made, name in ((out / "run" / "qc.png", "slide.png"), (out / "run" / "figures" / "crops.png", "crops.png")):
        shutil.copyfile(made, out / name)
    typer.echo(f"report: {result.report}")
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _step(verb: str, path: Path, work: Callable[[], _Result]) -> _Result:
    """Do one step, and print what it was and how long it took."""
    started = time.monotonic()
    result = work()
    typer.echo(f"{verb:<12} {time.monotonic() - started:>7.1f} s  {path}")
    return result


def _simulate_once(slide: Path, settings: "SimulationSettings") -> None:
    """Simulate the slide, unless it is there already from an earlier demo with these settings."""
    from spatia.config import make_settings
    from spatia.errors import SettingsError
    from spatia.log import progress_by_name
    from spatia.simulate.slide import simulate

    record = slide / "truth" / "simulation.json"
    if not record.is_file():
        with progress_by_name() as progress:
            simulate(slide, settings, progress)
        return
    earlier = json.loads(record.read_text(encoding="utf-8"))["settings"]  # without those that change no pixel or count
    if make_settings(type(settings), earlier, where=str(record)) != settings:
        raise SettingsError(
            f"{slide}: holds a slide that was simulated with other settings. Give another folder with -o, or remove it."
        )


def _write_annotations(slide: Path, path: Path, seed: int) -> None:
    """Write the true types of a third of the cells, as somebody who annotated part of a slide would have them."""
    import numpy as np
    import pandas as pd

    if path.is_file():
        return
    truth = pd.read_parquet(slide / "truth" / "cells.parquet", columns=["cell_id", "type"])
    known = np.random.default_rng(seed).random(len(truth)) < 1 / 3
    truth[known].rename(columns={"type": "label"}).to_csv(path, index=False)
