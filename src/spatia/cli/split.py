"""``spatia split``: train, validation and test parts of a corpus, with a proof that they are disjoint."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SplitBy(StrEnum):
    """What is kept whole on one side."""

    donor = "donor"
    section = "section"
    block = "block"


def split(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder.")],
    by: Annotated[SplitBy, typer.Option(help="What is kept whole: donors, sections, or spatial blocks.")],
    name: Annotated[str | None, typer.Option(help="Name of the split; default: the value of --by.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
    test: Annotated[float, typer.Option(help="Share of the test part.")] = 0.2,
    validation: Annotated[float, typer.Option(help="Share of the validation part.")] = 0.1,
    block_um: Annotated[float, typer.Option(help="Side of a block, µm.")] = 435.2,
    margin_um: Annotated[float, typer.Option(help="Least distance between cells of different parts, µm.")] = 435.2,
    json: Annotated[bool, typer.Option("--json", help="Print the proof as JSON.")] = False,
) -> None:
    """Split a corpus by donor, section or spatial block; writes splits/NAME.json with its proof."""
    from json import dumps, loads

    from spatia.config import make_settings
    from spatia.corpus.corpus import Corpus
    from spatia.corpus.splits import SplitSettings, make_split

    values = {"validation": validation, "test": test, "block_um": block_um, "margin_um": margin_um}
    settings = make_settings(SplitSettings, values, where="spatia split")
    path = make_split(Corpus.open(corpus), by.value, name=name, seed=seed, settings=settings)
    proof = loads(path.read_text(encoding="utf-8"))["proof"]
    if json:
        typer.echo(dumps({"path": str(path), **proof}))
        return
    cells = ", ".join(f"{part} {n:,}" for part, n in proof["n_cells"].items())
    distance = proof["least_distance_um"]
    typer.echo(f"{path}: {cells} cells" + (f"; parts at least {distance:g} µm apart" if distance is not None else ""))
