"""``spatia build``: slides to a corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spatia.cli import slide_options as options

if TYPE_CHECKING:
    from spatia.corpus.build import BuildResult

LEVELS = options.LEVELS
RUNNING = "How it runs"


def build(
    slides: options.Slides = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Corpus folder; sections are added to what stands there.")],
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
    niche: Annotated[str, typer.Option(help="grid, adaptive, radius or knn.", rich_help_panel=LEVELS)] = "grid",
    radius_um: Annotated[float, typer.Option(help="radius: reach of a niche, µm.", rich_help_panel=LEVELS)] = 27.2,
    neighbours: Annotated[int, typer.Option(help="knn: cells beside the cell itself.", rich_help_panel=LEVELS)] = 12,
    cells_per_niche: Annotated[int, typer.Option(help="adaptive: mean cells a niche.", rich_help_panel=LEVELS)] = 16,
    cell_um: Annotated[float, typer.Option(help="Side of a cell's crop, µm.", rich_help_panel=LEVELS)] = 27.2,
    cell_px: Annotated[int, typer.Option(help="Side of a cell's crop, pixels.", rich_help_panel=LEVELS)] = 64,
    niche_um: Annotated[float, typer.Option(help="Side of a niche, µm.", rich_help_panel=LEVELS)] = 54.4,
    niche_px: Annotated[int, typer.Option(help="Side of a niche's image, pixels.", rich_help_panel=LEVELS)] = 64,
    tissue_um: Annotated[float, typer.Option(help="Side of a tissue window, µm.", rich_help_panel=LEVELS)] = 435.2,
    tissue_px: Annotated[int, typer.Option(help="Side of its image, pixels.", rich_help_panel=LEVELS)] = 256,
    nuclei: options.Nuclei = "outlines",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask.distributed scheduler.", rich_help_panel=RUNNING)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Local threads; default: one a core.", rich_help_panel=RUNNING)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Record refusals that are safe to record, instead of refusing.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check slides and build a corpus of cells, niches and tissue windows. A killed build continues where it was."""
    from spatia.extras import require

    require("spatialdata", "io")
    from spatia.config import make_settings
    from spatia.corpus.build import build as run
    from spatia.corpus.settings import BuildSettings

    sources = options.sources_of(
        samplesheet,
        slides,
        counts=counts,
        image=image,
        um_per_px=um_per_px,
        outlines=outlines,
        labels=labels,
        channels=channels,
        image_origin_um=image_origin_um,
        measure=measure,
        no_image=no_image,
        platform=platform,
    )
    values = {
        "cell": {"size_um": cell_um, "px": cell_px},
        "niche": {"size_um": niche_um, "px": niche_px},
        "tissue": {"size_um": tissue_um, "px": tissue_px},
        "niches": {
            "definition": niche,
            "radius_um": radius_um,
            "neighbours": neighbours,
            "cells_per_niche": cells_per_niche,
        },
        "nuclei": nuclei,
    }
    settings = make_settings(BuildSettings, values, where="spatia build")
    result = run(sources, out, settings, scheduler=scheduler, n_workers=workers, force=force)
    _print(result, as_json=json_)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _print(result: "BuildResult", *, as_json: bool) -> None:
    from dataclasses import asdict
    from json import dumps

    from spatia.corpus.corpus import CORPUS_FILE, Corpus

    if as_json:
        typer.echo(dumps({**asdict(result), "corpus": str(result.corpus), "exit_code": result.exit_code}))
        return
    for section in result.sections:
        cells = f", {section.n_cells:,} cells" if section.n_cells else ""
        warned = f", {len(section.warnings)} warnings (`spatia inspect` lists them)" if section.warnings else ""
        typer.echo(
            f"{section.sample}: {section.status}{cells}{warned}{f': {section.message}' if section.message else ''}"
        )
    built = sum(section.status in ("built", "unchanged") for section in result.sections)
    held = len(Corpus.open(result.corpus).sections) if (result.corpus / CORPUS_FILE).is_file() else 0
    more = f"; with those of earlier builds the corpus holds {held}" if held > built else ""
    if result.warning:
        typer.echo(f"warning: {result.warning}", err=True)
    typer.echo(f"{result.corpus}: {built} of {len(result.sections)} sections stand{more}")
