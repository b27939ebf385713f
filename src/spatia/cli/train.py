"""``spatia train``: corpora to a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from spatia.cli import train_options as options


def train(
    corpora: Annotated[list[Path], typer.Argument(help="Corpus folders; panels and channels may differ.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Model folder to make.")],
    preset: Annotated[str | None, typer.Option(help="Size of the model: tiny, base or large.")] = None,
    config: options.Config = None,
    set_: options.Values = None,
    split: options.Split = None,
    part: options.Part = None,
    seed: options.Seed = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", help="Model folder to fine-tune; tiny: the one that comes with spatia.")
    ] = None,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Train a model on corpora, or fine-tune one. A killed or interrupted run goes on with --resume."""
    from json import dumps

    from spatia.corpus.corpus import Corpus
    from spatia.training.run_folder import read_run
    from spatia.training.settings import read_settings

    options.check_part(part, split)
    given = {"preset": preset, "split": split, "part": part, "seed": seed}
    before = read_run(out) if resume else None
    settings = read_settings(
        config,
        set_ or (),
        {name: value for name, value in given.items() if value is not None},
        base=before["settings"] if before else None,
    )
    opened = [Corpus.open(corpus) for corpus in corpora]  # a mistyped path is refused before torch is imported
    from spatia.nn.distributed import world
    from spatia.plotting.curves import plot_curves
    from spatia.training.train import train as run

    folder = run(opened, out, settings, resume, start_from=start_from, draw=plot_curves)
    if world()[0] == 0:  # of several processes, one has the result
        typer.echo(dumps(read_run(folder)) if json else str(folder))
