"""``spatia demo``: the main job on a simulated slide, from the vendor's folder to a verified corpus and its pictures."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from spatia.corpus.build import BuildResult
    from spatia.io.findings import Report
    from spatia.io.source import Source
    from spatia.simulate.settings import SimulationSettings

_Result = TypeVar("_Result")
SAMPLE = "demo"
THIS_IS_A_BUG = "A simulated slide must pass: please report this."


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make: slide/, corpus/ and two pictures.")],
    cells: Annotated[int, typer.Option(help="Cells of the simulated slide.")] = 3000,
    seed: Annotated[int, typer.Option(help="Everything random derives from this number.")] = 0,
) -> None:
    """Simulate a slide, check it, build a corpus, verify and draw it. Needs no data and no network."""
    from spatia.extras import require

    require("spatialdata", "io")
    from spatia.cli.inspect import inspect
    from spatia.config import make_settings
    from spatia.corpus.build import build
    from spatia.corpus.verify import verify
    from spatia.io.check import check_slide
    from spatia.io.source import Source
    from spatia.plotting.crop_sheet import plot_crop_sheet
    from spatia.simulate.settings import SimulationSettings

    settings = make_settings(SimulationSettings, {"n_cells": cells, "seed": seed}, where="spatia demo")
    slide, corpus = out / "slide", out / "corpus"
    source = Source(SAMPLE, slide)

    _step("simulate", slide, lambda: _simulate_once(slide, settings))
    report = _step("check", slide, lambda: check_slide(source))
    _require_fine(report)
    _step("draw", out / "slide.png", lambda: _draw_slide(source, report, out / "slide.png"))
    _require_built(_step("build", corpus, lambda: build([source], corpus)))
    _step("verify", corpus, lambda: verify(corpus))
    _step("draw", out / "crops.png", lambda: plot_crop_sheet(corpus, SAMPLE, out / "crops.png"))
    inspect(corpus)


def _step(verb: str, path: Path, work: Callable[[], _Result]) -> _Result:
    """Do one step, and print what it was and how long it took."""
    started = time.monotonic()
    result = work()
    typer.echo(f"{verb:<9} {path}  {time.monotonic() - started:.1f} s")
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


def _draw_slide(source: "Source", report: "Report", figure: Path) -> None:
    from spatia.io.read import read_slide
    from spatia.plotting.slide_qc import plot_slide_qc

    plot_slide_qc(read_slide(source), report, figure)


def _require_fine(report: "Report") -> None:
    from spatia.errors import SlideError

    for finding in report.of_severity("refused"):
        raise SlideError(f"{finding.what}: found {finding.found}, expected {finding.expected}. {THIS_IS_A_BUG}")


def _require_built(result: "BuildResult") -> None:
    from spatia.errors import CorpusError

    for section in result.sections:
        if section.status not in ("built", "unchanged"):
            raise CorpusError(f"{result.corpus}: {section.sample} {section.status}: {section.message} {THIS_IS_A_BUG}")
