"""Render a report: templates with autoescape on, styles and images inside the one file, no script, no network."""

from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from spatia.corpus.files import write_text
from spatia.report import words
from spatia.report.contents import RunFolder
from spatia.report.page import make_page
from spatia.version import __version__

REPORT_FILE: Final = "report.html"


def write_report(out: Path) -> Path:
    """Make ``OUT/report.html`` from the files of a run's folder; figures are drawn anew into ``OUT/figures``.

    Parameters
    ----------
    out
        The folder that ``spatia run`` wrote, finished or not: what is absent is said.

    Returns
    -------
    Path of the report.

    Raises
    ------
    ReportError
        If the folder is not one of a run, or a result file in it is damaged.
    """
    path = out / REPORT_FILE
    write_text(path, render(RunFolder(out)))
    return path


def render(folder: RunFolder) -> str:
    """Return the page as HTML."""
    environment = _environment()
    page = make_page(folder)
    return environment.get_template("report.html.j2").render(page=page, run=folder.run, version=__version__)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("spatia.report"),
        autoescape=True,  # every name comes from a slide
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        duration=words.duration,
        size=words.size,
        some=words.some,
        listed=lambda names: words.listed(list(names)),
    )
    return environment
