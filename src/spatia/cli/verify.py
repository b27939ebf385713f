"""``spatia verify``: is every file of a corpus what its build wrote?"""

from pathlib import Path
from typing import Annotated

import typer


def verify(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Re-check the digests, rows and splits of a corpus; name the first bad file."""
    from dataclasses import asdict
    from json import dumps

    from spatia.corpus.verify import verify as check

    found = check(corpus)
    if json:
        typer.echo(dumps(asdict(found)))
        return
    splits = f", splits {', '.join(found.splits)}" if found.splits else ""
    typer.echo(
        f"{corpus}: fine. {found.n_sections} sections, {found.n_cells:,} cells, {found.n_files:,} files, "
        f"{found.n_bytes / 1e6:,.1f} MB{splits}"
    )
