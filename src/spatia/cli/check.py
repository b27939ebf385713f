"""`spatia check`: look at slides before anything is built on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spatia.cli import slide_options as options
from spatia.errors import SettingsError

if TYPE_CHECKING:
    from spatia.io.findings import Report
    from spatia.io.source import Source

COLOURS = {"refused": "bold red", "warning": "yellow", "ok": "green"}  # in the order of the table


def check(
    slides: options.Slides = None,
    *,
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
    json_: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw outlines and centroids over the image into this PNG.")
    ] = None,
) -> None:
    """Judge slides: pixel size, axes, alignment, raw counts, ids, files. Exit code 0 fine, 2 refused."""
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
    if figure is not None and len(sources) > 1:
        raise SettingsError(f"--figure draws one slide; {len(sources)} were named. Check them one by one.")
    reports = [_check_one(source, figure) for source in sources]
    if json_:
        import json

        typer.echo(json.dumps([report.to_json() for report in reports], indent=1, ensure_ascii=False))
    else:
        for report in reports:
            print_report(report)
    if any(report.refused for report in reports):
        raise typer.Exit(2)


def _check_one(source: "Source", figure: Path | None) -> "Report":
    from spatia.extras import require

    require("spatialdata", "io")
    from spatia.io.check import check_slide

    if figure is None:
        return check_slide(source)
    return _check_and_draw(source, figure)


def _check_and_draw(source: "Source", figure: Path) -> "Report":
    from spatia.io.check import check_slide
    from spatia.io.read import read_slide
    from spatia.log import logger
    from spatia.plotting.slide_qc import plot_slide_qc

    report = check_slide(source)
    readable = report.find("slide-readable")
    if readable is not None and readable.severity == "ok":
        plot_slide_qc(read_slide(source), report, figure)
        logger.info("figure: %s", figure)
    else:
        logger.warning("no figure: the slide cannot be opened")
    return report


def print_report(report: "Report") -> None:
    """Print a report as a table on stdout; text from the slide is shown as it is, never taken as markup."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from spatia.io.findings import safe_text

    def plain(text: str) -> str:
        return escape(safe_text(text, longest=2_000))

    table = Table(title=plain(f"{report.sample}: {verdict(report)}"), title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "looked at", "found", "expected", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in sorted(report.findings, key=lambda finding: list(COLOURS).index(finding.severity)):
        colour = COLOURS[finding.severity]
        cells = (finding.what, finding.found, finding.expected, finding.remedy)
        table.add_row(f"[{colour}]{finding.severity}[/]", *map(plain, cells))
    Console(width=None if Console().is_terminal else 160).print(table)


def verdict(report: "Report") -> str:
    """Return the report in one line."""
    refused, warned = len(report.of_severity("refused")), len(report.of_severity("warning"))
    warnings = f"{warned} warning{'' if warned == 1 else 's'}" if warned else "no warnings"
    return f"refused ({refused} of {len(report.findings)} findings), {warnings}" if refused else f"fine, {warnings}"
