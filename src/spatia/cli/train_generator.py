"""``spatia train-generator``: a corpus and a model to a generator folder."""

from pathlib import Path
from typing import Annotated

import typer

from spatia.cli import train_options as options


def train_generator(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder.")],
    *,
    model: Annotated[Path, typer.Option("--model", "-m", help="Model folder, as `spatia train` writes it.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Generator folder to make.")],
    pairs: Annotated[
        Path | None, typer.Option(help="Pairs, as `spatia pair` writes them: learn transitions of state.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help=".csv, .tsv or .parquet with cell_id and label, for --set conditions=\\[label].")
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Generator to start from, e.g. one of images from expression, before transitions are learnt."
        ),
    ] = None,
    config: options.Config = None,
    set_: options.Values = None,
    split: options.Split = None,
    part: options.Part = None,
    seed: options.Seed = None,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Train what draws cells from their expression, or (with pairs) after a change of state. A killed run goes on with --resume."""
    from json import dumps

    from spatia.cli.label_table import read_label_table
    from spatia.config import read_settings_of
    from spatia.corpus.corpus import Corpus
    from spatia.training.run_folder import read_run

    options.check_part(part, split)
    opened = Corpus.open(corpus)  # a mistyped path is refused before torch is imported
    before = read_run(out) if resume else None

    from spatia.nn.distributed import world
    from spatia.plotting.curves import plot_curves
    from spatia.plotting.generated_cells import plot_samples
    from spatia.training.generator_settings import GeneratorSettings
    from spatia.training.generator_train import train_generator as run

    given = {"split": split, "part": part, "seed": seed, "task": None if pairs is None else "transition"}
    settings = read_settings_of(
        GeneratorSettings,
        "spatia train-generator",
        config,
        set_ or (),
        {name: value for name, value in given.items() if value is not None},
        base=before["settings"] if before else None,
    )
    table = None if labels is None else read_label_table(labels, "--labels")
    folder = run(
        opened,
        out,
        model,
        settings,
        resume,
        pairs=pairs,
        labels=table,
        start_from=start_from,
        draw=plot_curves,
        draw_samples=plot_samples,
    )
    if world()[0] == 0:
        typer.echo(dumps(read_run(folder)) if json else str(folder))
