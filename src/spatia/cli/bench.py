"""``spatia bench``: every task, every method, on the user's corpora or ours."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Suite(StrEnum):
    """How much is run."""

    quick = "quick"
    full = "full"


def bench(
    corpora: Annotated[
        list[Path], typer.Argument(help="Corpus folders, or JSON files that name a corpus, labels and a split.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of the results; what stands there is not run again.")
    ],
    suite: Annotated[Suite, typer.Option(help="quick leaves out scvi and vit-b/16; full is everything.")] = Suite.quick,
    methods: Annotated[
        str, typer.Option(help="Baselines, comma-separated; all: every one of the suite; none.")
    ] = "all",
    tasks: Annotated[str, typer.Option(help="Tasks, comma-separated; all: every one the data can ask.")] = "all",
    spatia: Annotated[bool, typer.Option(help="Train our model on each split and compare it too.")] = False,
    model: Annotated[Path | None, typer.Option(help="A model folder to compare instead, as it is.")] = None,
    label: Annotated[str, typer.Option(help="Name of this try of our model, beside other tries.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A training setting of our model.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Splits, held-out genes and draws.")] = 3,
    cell_type: Annotated[str | None, typer.Option(help="Column of types, for corpora given as folders.")] = None,
    domain: Annotated[str | None, typer.Option(help="Column of regions, for corpora given as folders.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Table with cell_id and those columns.")] = None,
    split: Annotated[str, typer.Option(help="block, donor or section, for corpora given as folders.")] = "block",
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compare embeddings on held-out cells: the same splits and the same simple predictors for every method."""
    from spatia.bench.dataset import DataSet
    from spatia.bench.methods.registry import SLOW, chosen_methods
    from spatia.bench.protocols.registry import chosen_tasks
    from spatia.bench.run import Plan, one_at_a_time, run
    from spatia.bench.tables import markdown, summary
    from spatia.config import make_settings

    data = []
    for path in corpora:
        one = DataSet.read(path)
        if path.is_dir():
            given = {"cell_type": cell_type, "domain": domain, "labels": labels, "split": split}
            one = make_settings(DataSet, {**one.model_dump(), **given}, where="spatia bench")
        data.append(one)
    chosen = chosen_methods([name.strip() for name in methods.split(",")])
    if suite is Suite.quick and methods == "all":
        chosen = [method for method in chosen if method.name not in SLOW]
    if model is not None or spatia:
        from spatia.bench.methods.spatia_model import SpatiaSource, spatia_methods

        chosen += spatia_methods(SpatiaSource(label, tuple(set_ or ()), model))
    plan = Plan(data, chosen_tasks([name.strip() for name in tasks.split(",")]), chosen, seeds)
    with one_at_a_time(out):
        rows = run(plan, out)
    typer.echo(summary(rows).to_json(orient="records") if json else markdown(rows))
