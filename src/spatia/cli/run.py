"""``spatia run``: the main job, from a slide to a report."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spatia.cli import slide_options as options

if TYPE_CHECKING:
    from spatia.pipeline.run import RunResult
    from spatia.report.schema import StepRecord

MODEL = "The model"
RESULTS = "What is made of it"


def run(
    slides: options.Slides = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run; it is taken up where it stopped.")],
    samplesheet: options.Samplesheet = None,
    counts: options.Counts = None,
    image: options.Image = None,
    um_per_px: options.UmPerPx = None,
    outlines: options.Outlines = None,
    labels: options.Labels = None,
    channels: options.Channels = None,
    image_origin_um: options.Origin = (0.0, 0.0),
    measure: options.Measure = "counts",
    no_image: options.NoImage = False,
    platform: options.Platform = None,
    nuclei: options.Nuclei = "outlines",
    niche: Annotated[str, typer.Option(help="Niches: knn or radius (one around every cell), grid, adaptive.")] = "knn",
    model: Annotated[
        Path | None, typer.Option(help="Use this model as it is: nothing is trained.", rich_help_panel=MODEL)
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Start training from this model; tiny: the one that comes with spatia. Default: from random weights.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Size of the model: tiny, base or large.", rich_help_panel=MODEL)
    ] = "tiny",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of training, as in `spatia train`: NAME=VALUE.", rich_help_panel=MODEL),
    ] = None,
    labels_key: Annotated[
        str | None, typer.Option(help="Column of the slide with labels of some cells.", rich_help_panel=RESULTS)
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="CSV, TSV or parquet with cell_id and label, for some cells.", rich_help_panel=RESULTS),
    ] = None,
    no_benchmark: Annotated[
        bool, typer.Option("--no-benchmark", help="Do not compare with simple methods.", rich_help_panel=RESULTS)
    ] = False,
    generate: Annotated[
        int,
        typer.Option(
            help="Also train a generator on so many images, and draw held-out cells from their genes; 40000 is a fair number.",
            rich_help_panel=RESULTS,
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Everything random derives from this number.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Record refusals that are safe to record, instead of refusing.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the steps as JSON.")] = False,
) -> None:
    """From a slide to a report: check, build, train, embed, cluster, annotate, evaluate. A killed run continues where it was."""
    from spatia.config import make_settings
    from spatia.errors import SettingsError
    from spatia.extras import require

    require("spatialdata", "io")
    from spatia.pipeline.run import run as do
    from spatia.pipeline.settings import RunSettings
    from spatia.training.settings import read_settings

    if labels_key is not None and annotations is not None:
        raise SettingsError("Give either --labels-key or --annotations, not both: which labels should count?")
    given = {"counts": counts, "image": image, "um_per_px": um_per_px, "outlines": outlines, "labels": labels}
    more = {"image_origin_um": image_origin_um, "measure": measure, "no_image": no_image, "platform": platform}
    sources = options.sources_of(samplesheet, slides, channels=channels, **given, **more)
    values: dict[str, Any] = {
        "seed": seed,
        "preset": preset,
        "model": model,
        "start_from": start_from,
        "train": tuple(set_ or ()),
        "build": {"niches": {"definition": niche}, "nuclei": nuclei},
        "labels_key": labels_key,
        "annotations": annotations,
        "benchmark": not no_benchmark,
        "generate": generate,
        "force": force,
    }
    read_settings(overrides=set_ or ())  # a wrong one is said now, and not after the build
    settings = make_settings(RunSettings, values, where="spatia run")
    command = shlex.join(["spatia", *sys.argv[1:]])
    result = do(sources, out, settings, command=command, tell=tell_nothing if json_ else tell_step)
    _print(result, as_json=json_)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def tell_step(step: "StepRecord", done_now: bool) -> None:
    """Print a step when it ends: what it was, how long it took, and what came of it."""
    time = f"{step.seconds:.1f} s" if done_now else "(there)"
    status = "" if step.status == "done" else f"{step.status}: "
    typer.echo(f"{step.name:<12} {time:>9}  {status}{step.message}")


def tell_nothing(step: "StepRecord", done_now: bool) -> None:
    """Print nothing: stdout carries JSON."""
    del step, done_now


def _print(result: "RunResult", *, as_json: bool) -> None:
    from dataclasses import asdict
    from json import dumps

    if as_json:
        steps = [asdict(step) for step in result.steps]
        typer.echo(dumps({"out": str(result.out), "report": str(result.report), "steps": steps}))
    else:
        typer.echo(f"report: {result.report}")
