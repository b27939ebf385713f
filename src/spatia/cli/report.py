"""``spatia report``: make the report of a run again from its files."""

from pathlib import Path
from typing import Annotated

import typer


def report(out: Annotated[Path, typer.Argument(help="Folder that `spatia run` wrote.")]) -> None:
    """Make report.html again from the files of a run; an unfinished run says what it lacks."""
    from spatia.report.render import write_report

    typer.echo(write_report(out))
