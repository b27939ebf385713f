"""``spatia bench``: every task, every method, on the user's corpora or ours."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from spatia.bench.dataset import DataSet
    from spatia.bench.factorial import Factors
    from spatia.bench.methods.method import Method
    from spatia.bench.permute import Control


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
        str | None, typer.Option("--from", help="With --spatia: fine-tune this model folder (or tiny) instead.")
    ] = None,
    label: Annotated[str, typer.Option(help="Name of this try of our model, beside other tries.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A training setting of our model.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(
            metavar="YAML",
            help="Train our model with every combination of settings: 'factor: {level: [name=value, …], …}'.",
        ),
    ] = None,
    embeddings: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TABLE",
            help="A rival that ran elsewhere: parquet or CSV with cell_id. NAME:genes or NAME:image says what it saw.",
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
    from spatia.bench.methods.registry import chosen_methods, methods_of_suite
    from spatia.bench.permute import chosen_controls
    from spatia.bench.protocols.registry import chosen_tasks
    from spatia.bench.run import Plan, one_at_a_time, run
    from spatia.errors import SettingsError

    if out is None:
        raise SettingsError("Give a folder for the results: spatia bench … -o OUT.")
    factors = _grid(grid, start_from)
    if tables:
        typer.echo(_summary(_standing(out), out, factors, json=json))
        return
    names = [name.strip() for name in methods.split(",")]
    of_patches = {"colours", "pixels"} if public else set()  # encoders that public protocols alone know
    chosen = chosen_methods([name for name in names if name not in of_patches] or ["none"])
    if methods == "all":
        chosen = methods_of_suite(suite is Suite.quick)
    chosen += _others(embeddings or (), published or ())
    asked = chosen_tasks([name.strip() for name in tasks.split(",")])
    controls = chosen_controls(control or ())
    if not (chosen or spatia or factors or model or public or draw) and corpora:
        raise SettingsError(
            f"--methods {methods}: there is nothing to compare. Name methods, or give --spatia, --grid, --model, --embeddings or --published."
        )
    with one_at_a_time(out):
        given = {"cell_type": cell_type, "domain": domain, "outcome": outcome, "labels": labels, "split": split}
        data = [_read(path, given) for path in corpora or ()]
        own_data = not (data or public)
        if own_data:
            data = _simulated(out, suite, seeds)
        chosen += _ours(model, spatia, start_from, label, set_ or (), suite if own_data else None, factors)
        data += _public(public or (), out, names, model, label, seeds, _others((), published or ()))
        data += [one for what in controls for one in _shuffled(data, what, out)]
        plan = Plan(data, asked, chosen, seeds or 3, workers=workers or (2 if own_data else 1))
        rows = run(plan, out)
        if draw:  # of our own slides those that name transitions: the others hold the same cells
            rows = _draw([one for one in data if one.transitions or not own_data], seeds or 3, draw, out)
        typer.echo(_summary(rows, out, factors, json=json))


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


def _read(path: Path, given: Mapping[str, object]) -> "DataSet":
    from spatia.bench.dataset import DataSet
    from spatia.config import make_settings

    one = DataSet.read(path)
    return make_settings(DataSet, {**one.model_dump(), **given}, where="spatia bench") if path.is_dir() else one


def _simulated(out: Path, suite: Suite, seeds: int | None) -> list["DataSet"]:
    from dataclasses import replace

    from spatia.bench.dataset import DataSet
    from spatia.bench.suites import SIZES, suite_data

    size = SIZES[suite.value]
    if seeds is not None:  # slides of seeds that nobody asks for are not simulated
        size = replace(size, seeds=min(seeds, size.seeds))
    return [DataSet.read(path) for path in suite_data(out / "data", size)]


def _others(embeddings: list[str] | tuple[()], published: list[str] | tuple[()]) -> list["Method"]:
    from spatia.bench.methods.method import BOTH, GENES, IMAGE
    from spatia.bench.published.embeddings_file import embeddings_method
    from spatia.bench.published.registry import published_method

    tables = []
    for text in embeddings:
        name, path = _pair(text, "--embeddings")
        sees = name.rpartition(":")[2]
        reads = {"image": IMAGE, "genes": GENES}.get(sees if ":" in name else "", BOTH)
        tables.append(embeddings_method(name, path, reads))
    return tables + [published_method(*_pair(text, "--published")) for text in published]


def _pair(text: str, option: str) -> tuple[str, Path]:
    from spatia.errors import SettingsError

    name, _, path = text.partition("=")
    if not (name and path):
        raise SettingsError(f"{option} {text!r}: expected NAME=PATH.")
    return name, Path(path)


def _ours(
    model: str | None,
    train: bool,
    start_from: str | None,
    label: str,
    settings: list[str] | tuple[()],
    suite: Suite | None,
    factors: "Factors",
) -> list["Method"]:
    """Return our model as asked for; on our own data it always takes part: as it comes, and fine-tuned or trained."""
    from spatia.bench.factorial import combinations, name_of, settings_of
    from spatia.bench.methods.spatia_model import SpatiaSource, spatia_methods
    from spatia.models.shipped import model_folder

    sources = []
    if suite is not None and model is None and not (train or factors):
        model, train, start_from = "tiny", True, "tiny" if suite is Suite.quick else None
        settings = [*QUICK, *settings] if suite is Suite.quick else settings
    if model is not None:
        both = "as it comes" if train and not label else label
        sources.append(SpatiaSource(both, model=model_folder(model)))
    start = None if start_from is None else model_folder(start_from)
    if train:
        sources.append(SpatiaSource(label, tuple(settings), start_from=start))
    methods = [method for source in sources for method in spatia_methods(source)]
    if suite is Suite.quick:
        methods = [method for method in methods if not method.name.endswith(LEFT_OUT)]
    for levels in combinations(factors) if factors else ():
        lines = (*settings, *settings_of(factors, levels))
        of_grid = spatia_methods(SpatiaSource(f"{label} {name_of(levels)}".strip(), lines, start_from=start))
        methods += [method for method in of_grid if not method.name.endswith(LEFT_OUT_OF_GRID)]
    return methods


def _grid(path: Path | None, start_from: str | None) -> "Factors":
    """Return the factors of a grid of settings; a wrong setting is refused before anything is trained."""
    from spatia.bench.factorial import combinations, read_factors, settings_of
    from spatia.errors import SettingsError
    from spatia.models.config import preset
    from spatia.training.settings import read_settings
    from spatia.training.start import resized

    if path is None:
        return {}
    factors = read_factors(path)
    for levels in combinations(factors):
        settings = read_settings(None, settings_of(factors, levels))
        resized(preset(settings.preset), settings.sizes)
        if start_from is not None and settings.sizes:
            raise SettingsError(f"{path} with --from {start_from}: sizes cannot change in fine-tuning.")
    return factors


QUICK = ("presentations.cells=4000", "presentations.context=4000")  # of fine-tuning in the quick suite
LEFT_OUT = (", cell", ", niche", ", tissue")  # levels alone, which the full suite asks too
# Of each combination of a grid the levels are asked as they add up: the cell, with its niche, with the tissue.
LEFT_OUT_OF_GRID = (", niche", ", tissue", " smoothed", ", expected counts")


def _public(
    public: list[str] | tuple[()],
    out: Path,
    methods: list[str],
    model: str | None,
    label: str,
    seeds: int | None,
    extra: list["Method"],
) -> list["DataSet"]:
    """Run protocols that run by themselves, and return the data sets of the others."""
    import shlex
    import sys

    from spatia.bench.dataset import DataSet
    from spatia.bench.public.protocol import PublicOptions
    from spatia.bench.public.registry import read_public
    from spatia.models.shipped import model_folder

    data = []
    for text in public:
        protocol, folder = read_public(text)
        if protocol.run is None:
            assert protocol.prepare is not None  # one of the two
            data += [DataSet.read(path) for path in protocol.prepare(folder, out / "data")]
            continue
        options = PublicOptions(
            methods=tuple(methods),
            extra=tuple(extra),
            model=None if model is None else model_folder(model),
            label=label,
            seeds=seeds or 5,
            command=shlex.join(["spatia", *sys.argv[1:]]),
        )
        protocol.run(folder, out, options)
    return data


def _shuffled(data: list["DataSet"], what: "Control", out: Path) -> list["DataSet"]:
    from spatia.bench.permute import shuffled
    from spatia.corpus.corpus import Corpus

    return [
        shuffled(one, what, out / "controls") for one in data if what != "images" or Corpus.open(one.corpus).channels
    ]


def _draw(data: list["DataSet"], seeds: int, images: int, out: Path) -> "pd.DataFrame":
    """Draw cells on data sets and return all rows."""
    import shlex
    import sys

    from spatia.bench.drawing import DrawingPlan, run_drawing
    from spatia.bench.generators.problems import seeds_of
    from spatia.bench.generators.registry import GENERATORS
    from spatia.bench.rows import RowStore

    plan = DrawingPlan(list(GENERATORS.values()), images=images, proxy_images=min(images, 12_000))
    rows, command = RowStore(out), shlex.join(["spatia", *sys.argv[1:]])
    for one in data:
        run_drawing(one, seeds_of(one.only_seed, range(seeds)), plan, rows, out, command)
    return rows.frame()


def _summary(rows: "pd.DataFrame", out: Path, factors: "Factors", *, json: bool) -> str:
    """Write tables and the figure of ranks beside the rows, and return what is printed."""
    from spatia.bench.factorial import main_effects
    from spatia.bench.ranks import markdown as ranks_table
    from spatia.bench.ranks import models_of, rank, wins
    from spatia.bench.tables import DETAIL, costs, markdown, summary
    from spatia.corpus.files import write_text
    from spatia.plotting.ranks import plot_ranks

    text = markdown(rows)
    ranking = rank(rows)
    if len(ranking.mean_rank) > 1 and ranking.n_questions:
        text += f"\n### Mean ranks\n\n{ranks_table(ranking)}\n"
        ours = [name for name in ranking.mean_rank.index if name.startswith("spatia")]
        plot_ranks(
            {str(name): float(value) for name, value in ranking.mean_rank.items()},
            ranking.critical_difference,
            out / "ranks.png",
            ours=ours,
            n_questions=ranking.n_questions,
        )
    for name in models_of(rows["method"].unique()):
        if len(outcome := wins(rows, fixed=name)):
            text += f"\n`{name}`, the one embedding fixed in advance for each task, against the best of the others, {_counted(outcome)}.\n"
    if len(outcome := wins(rows)):
        text += f"\nThe best of all our embeddings, chosen on these test cells, against the best of the others, {_counted(outcome)}.\n"
    if factors and len(effects := main_effects(rows, factors)):
        text += f"\n## Mean of each level over the other factors\n\n{markdown(effects)}"
    write_text(out / "summary.md", text)
    of_details = rows[rows["metric"].str.contains(DETAIL, regex=False)]
    write_text(out / "details.md", f"# Details\n\n{markdown(of_details, details=True)}\n# Cost\n\n{costs(rows)}\n")
    if json:
        return str(summary(rows).to_json(orient="records"))
    return text + f"\nRows, tables (details and cost in details.md) and the figure of ranks are in {out}."


def _standing(out: Path) -> "pd.DataFrame":
    """Return the rows of a results folder."""
    from spatia.bench.rows import ROWS_FILE, RowStore
    from spatia.errors import SettingsError

    if not (out / ROWS_FILE).is_file():
        raise SettingsError(
            f"{out}: no {ROWS_FILE} there. Name a folder that `spatia bench -o` wrote, or leave --tables out."
        )
    return RowStore(out).frame()


def _counted(outcome: "pd.DataFrame") -> str:
    counts = outcome["outcome"].value_counts()
    said = ", ".join(f"{name} {counts.get(name, 0)}" for name in ("first", "tied", "behind"))
    return f"{len(outcome)} questions: {said}"
