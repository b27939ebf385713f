"""Options that `spatia train` and `spatia train-generator` share."""

from pathlib import Path
from typing import Annotated

import typer

from spatia.errors import SettingsError

Config = Annotated[Path | None, typer.Option(help="YAML file of settings.")]
Values = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting, e.g. seed=1; repeat.")
]
Split = Annotated[str | None, typer.Option(help="Split to train on a part of; without one, all cells are trained on.")]
Part = Annotated[str | None, typer.Option(help="Part of the split to train on; default: train.")]
Seed = Annotated[int | None, typer.Option(help="Equal seeds give equal weights.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the run in the folder, with its settings unless others are given."),
]
Json = Annotated[bool, typer.Option("--json", help="Print run.json of the finished run.")]


def check_part(part: str | None, split: str | None) -> None:
    """Refuse a part of no split."""
    if part is not None and split is None:
        raise SettingsError(f"--part {part} names a part of a split: say which with --split.")
