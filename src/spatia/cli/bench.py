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
        list[Path] | None,
        typer.Argument(
            help="Corpus folders, or JSON files that name a corpus, labels and a split. None: simulated slides are made."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the results; what stands there is not run again.")
    ] = None,
    suite: Annotated[
        Suite, typer.Option(help="quick: small slides, without the slow rivals; full: larger ones, three seeds, all.")
    ] = Suite.quick,
    methods: Annotated[
        str, typer.Option(help="Baselines, comma-separated; all: every one of the suite; none.")
    ] = "all",
    tasks: Annotated[str, typer.Option(help="Tasks, comma-separated; all: every one the data can ask.")] = "all",
    spatia: Annotated[bool, typer.Option(help="Train our model on each split and compare it too.")] = False,
    model: Annotated[
        str | None, typer.Option(help="A model folder to compare as it is; tiny: the one that comes with spatia.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option("--from", help="With --spatia or --grid: fine-tune this model folder (or tiny) instead."),
    ] = None,
    label: Annotated[str, typer.Option(help="Name of this try of our model, beside other tries.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A training setting of our model.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(
            metavar="YAML",
            help="Train our model with every combination of settings: 'factor: {level: \\[name=value, …], …}'.",
        ),
    ] = None,
    embeddings: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TABLE",
            help="A rival that ran elsewhere: parquet or CSV with cell_id. NAME:genes or NAME:image says what it saw, NAME:zero-shot that "
            "nothing was fitted on these slides; {data} and {seed} in TABLE: one of each split (see --splits).",
        ),
    ] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="A published model by its local weights; 'list' says which."),
    ] = None,
    public: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="A public protocol on a local download; 'list' says which."),
    ] = None,
    draw: Annotated[
        int,
        typer.Option(
            metavar="IMAGES", help="Also draw cells; each network sees so many images (40000 is its default)."
        ),
    ] = 0,
    control: Annotated[
        list[str] | None,
        typer.Option(help="Also on copies with one input shuffled: images, genes, positions. May be given again."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Splits, held-out genes and draws.", show_default="3")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share data sets and seeds.", show_default="1; 2 without corpora"),
    ] = None,
    cell_type: Annotated[str | None, typer.Option(help="Column of types, for corpora given as folders.")] = None,
    domain: Annotated[str | None, typer.Option(help="Column of regions, for corpora given as folders.")] = None,
    outcome: Annotated[
        str | None, typer.Option(help="Column that is 0 or 1 for a donor, for corpora given as folders.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Table with cell_id and those columns.")] = None,
    split: Annotated[str, typer.Option(help="block, donor or section, for corpora given as folders.")] = "block",
    splits: Annotated[
        bool,
        typer.Option(
            "--splits",
            help="Only write which cells each split trains and tests on, to OUT/splits, for methods that are fitted elsewhere.",
        ),
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Say which tasks and methods there are.")] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Only write and print the tables of what stands in OUT; nothing is run.")
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Print what a task asks, how, and which leaks are guarded against."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compare embeddings on held-out cells: the same splits and the same simple predictors for every method."""
    if said := _only_said(list_, explain, published, public):
        typer.echo(said)
        return
    from spatia.errors import SettingsError

    if out is None:
        raise SettingsError("Give a folder for the results: spatia bench … -o OUT.")
    from spatia.bench.methods.registry import chosen_methods, methods_of_suite
    from spatia.bench.permute import chosen_controls
    from spatia.bench.protocols.registry import chosen_tasks
    from spatia.bench.run import Plan, of_different_splits, run
    from spatia.bench.split_tables import write_splits
    from spatia.cli.bench_parts import (
        draw_cells,
        factors_of,
        keep_what_rivals_are,
        methods_of_others,
        our_methods,
        public_data,
        read_data,
        shuffled_data,
        simulated_data,
    )
    from spatia.cli.bench_results import standing_rows, write_summary
    from spatia.cli.bench_tables import GivenTable, keep_what_tables_are
    from spatia.corpus.lock import only_writer_of

    factors = factors_of(grid, set_ or (), start_from)
    if tables:
        typer.echo(write_summary(standing_rows(out), out, factors, json=json))
        return
    names = [name.strip() for name in methods.split(",")]
    of_patches = {"colours", "pixels"} if public else set()  # encoders that public protocols alone know
    chosen = chosen_methods([name for name in names if name not in of_patches] or ["none"])
    if methods == "all":
        chosen = methods_of_suite(suite is Suite.quick)
    own_tables = [GivenTable.parse(text) for text in embeddings or ()]
    chosen += methods_of_others(own_tables, published or ())
    asked = chosen_tasks([name.strip() for name in tasks.split(",")])
    controls = chosen_controls(control or ())
    if not (chosen or spatia or factors or model or public or draw or splits) and corpora:
        raise SettingsError(
            f"--methods {methods}: there is nothing to compare. Name methods, or give --spatia, --grid, --model, --embeddings or --published."
        )
    with only_writer_of(out, "benchmark"):
        if not splits:
            keep_what_rivals_are(out, chosen, published or ())
        given = {"cell_type": cell_type, "domain": domain, "outcome": outcome, "labels": labels, "split": split}
        data = [read_data(path, given) for path in corpora or ()]
        own_data = not (data or public)
        if own_data:
            data = simulated_data(out, suite, seeds)
        if splits:
            written = write_splits(of_different_splits(Plan(data, (), (), seeds or 3).units), out)
            typer.echo("\n".join(map(str, written)))
            return
        chosen += our_methods(out, model, spatia, start_from, label, set_ or (), suite if own_data else None, factors)
        data += public_data(public or (), out, names, model, label, seeds, methods_of_others((), published or ()))
        data += [one for what in controls for one in shuffled_data(data, what, out)]
        plan = Plan(data, asked, chosen, seeds or 3, workers=workers or (2 if own_data else 1), named=tasks != "all")
        if own_tables:
            keep_what_tables_are(out, own_tables, of_different_splits(plan.units, say=False))
        rows = run(plan, out)
        if draw:  # of our own slides those that name transitions: the others hold the same cells
            rows = draw_cells([one for one in data if one.transitions or not own_data], seeds or 3, draw, out)
        typer.echo(write_summary(rows, out, factors, json=json))


def _only_said(list_: bool, explain: str | None, published: list[str] | None, public: list[str] | None) -> str:
    """Return what is only to be printed, "" where something is to be run."""
    if explain is not None:
        from spatia.bench.explain import explain as page

        return page(explain)
    if published == ["list"]:
        from spatia.bench.published.registry import PUBLISHED

        return "\n".join(f"{name}: {model.description}" for name, model in PUBLISHED.items())
    if public == ["list"]:
        from spatia.bench.public.registry import public_text

        return public_text()
    if not list_:
        return ""
    from spatia.bench.drawing import DRAWING_TASKS
    from spatia.bench.generators.registry import GENERATORS
    from spatia.bench.methods.registry import BASELINES
    from spatia.bench.protocols.registry import TASKS

    tasks = [f"  {task.name}: {task.question}" for task in TASKS.values()]
    drawing = [f"  {name}: {question}" for name, question in DRAWING_TASKS.items()]
    methods = [f"  {method.name}: {method.description}" for method in BASELINES.values()]
    drawn_by = "; ".join(GENERATORS)
    return "\n".join(
        [
            "tasks",
            *tasks,
            "tasks in which cells are drawn (--draw IMAGES)",
            *drawing,
            "methods",
            *methods,
            "of drawing",
            f"  {drawn_by}",
        ]
    )
