"""Generated cells against baselines: rows in OUT/rows.parquet, one for each seed and measure; tables printed from them.

    python benchmarks/generation.py simulated  --work WORK --models RESULTS --out OUT     expression → image, another donor
    python benchmarks/generation.py breast     --work WORK --models RESULTS --out OUT     the same on Xenium breast, blocks
    python benchmarks/generation.py transition --work WORK --models RESULTS --out OUT     a state of tumour cells, with the truth
    python benchmarks/generation.py ablation   --work WORK --models RESULTS --out OUT     coupling × morphology × niche
    python benchmarks/generation.py tables OUT ...                                        of any number of results, runs nothing
    python benchmarks/generation.py expression DATA.json ... | transition DATA.json ...   any data sets of `spatia bench`

WORK holds data sets as `spatia bench` takes them (simulated_2500_0_donor.json, breast.json) and simulated slides beside their corpora
(simulated_2500_0_slides). RESULTS/models/spatia holds representation models as `spatia bench` trains them; one that is missing is trained.
Networks see `--images` images each; 0 leaves them out. What stands in OUT is not run again, and a killed training goes on; another budget
needs another OUT. Two runs may not share an OUT, but their rows: `tables OUT_A OUT_B`.

A store that `spatia generate` wrote for the test part takes part with `--store NAME=images.zarr`:

    python benchmarks/generation.py expression DATA.json --out OUT --most 400 --ids cells.txt            the test cells that will be judged
    spatia generate CORPUS -g GENERATOR -o ours.zarr --split SPLIT --part test --cells cells.txt
    python benchmarks/generation.py expression DATA.json --out OUT --most 400 --intervals 200 --store ours=ours.zarr
"""

import argparse
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.choosing import choose
from spatia.bench.dataset import DataSet
from spatia.bench.drawing import DrawingPlan, draw_rows, make_reference, model_of, truth_of
from spatia.bench.factorial import main_effects
from spatia.bench.generation_trial import Trial, score_table
from spatia.bench.generators.generator import GenerationProblem, Generator, Training, generate
from spatia.bench.generators.grid import FACTORS, grid
from spatia.bench.generators.problems import StateChange, make_problem, seeds_of
from spatia.bench.generators.registry import GENERATORS
from spatia.bench.rows import RowStore, read_rows
from spatia.bench.tables import markdown
from spatia.corpus.files import write_json
from spatia.corpus.lock import only_writer_of
from spatia.errors import SettingsError, SpatiaError
from spatia.log import configure, logger
from spatia.metrics.bootstrap import Estimate
from spatia.tasks.evaluate_generation import Evaluation, evaluate_generation
from spatia.tasks.generation_group import GENERATED
from spatia.tasks.generation_reference import Reference
from spatia.tasks.generation_table import bracket
from spatia.tasks.generation_table import markdown as table_of
from spatia.training.generator_settings import GeneratorSettings

SUITES = ("expression", "simulated", "breast", "transition", "ablation", "tables")
OF_STATES = ("transition", "ablation")


def data_paths(arguments: argparse.Namespace) -> list[Path]:
    """Return the data sets of a suite, those named on the command line first."""
    if arguments.data:
        return arguments.data
    if arguments.suite == "expression":
        raise SettingsError("expression: name a data set (a JSON file as `spatia bench` takes it).")
    if arguments.suite == "breast":
        return [arguments.work / "breast.json"]
    return [arguments.work / f"simulated_{arguments.cells}_{seed}_donor.json" for seed in arguments.seeds]


def change_of(arguments: argparse.Namespace) -> StateChange | None:
    """Return the transition of a suite, None: expression → image."""
    if arguments.suite not in OF_STATES:
        return None
    if arguments.types:
        source, _, target = arguments.types.partition("→")
        return StateChange(types=(source, target))
    return StateChange(arguments.state, arguments.of)


def generators_of(arguments: argparse.Namespace, problem: GenerationProblem) -> list[Generator]:
    """Return those that take part."""
    known = {one.name: one for one in grid()} if arguments.suite == "ablation" else GENERATORS
    return [one for one in choose(arguments.generators.split(";"), known, "generator") if one.can(problem)]


OF_SET = ("", "N", "Fréchet", "KID", "precision", "coverage", "Wasserstein (sd)", "state recognised")
HEADER = (*OF_SET, "own cell", "own, within its type", "pixels", "copies")
HEADER_OF_STATES = (
    *OF_SET, "shift r", "copies", "truth: pixels in the cell", "truth: morphology (sd)", "truth: error of the state", "truth: effect r",
    "truth: shift r",
)  # fmt: skip


def estimates(evaluation: Evaluation) -> list[tuple[int, list[Estimate | None]]]:
    """Return, for each group, N and the estimates of `HEADER`, of a transition those of `HEADER_OF_STATES`, on the measured features."""
    found = []
    truth = {one.name: one.rows[GENERATED] for one in evaluation.counterfactual}
    for group in evaluation.groups:
        row, name = group.rows[GENERATED], next(iter(group.rows[GENERATED].spaces))
        space, pairs, copies = row.spaces[name], group.pairs, group.memorisation["pixels"].copies
        values: list[Estimate | None] = [
            space.frechet,
            space.kid,
            space.manifold["precision"],
            space.manifold["coverage"],
        ]
        values += [row.features.mean_wasserstein, row.state.get(name)]
        if group.shift is None:
            values += [pairs.recognised[name], pairs.recognised_within.get(name), pairs.pixel_rmse, copies]
        else:
            own = truth.get(group.name)
            of_truth = [None] * 5 if own is None else [
                own.pixel_rmse_in_cell, own.morphology_error, own.state_error, own.effect_correlation, own.shift_correlation
            ]  # fmt: skip
            values += [group.shift.correlation, copies, *of_truth]
        found.append((group.n_cells, values))
    return found


def with_intervals(stores: Iterable[tuple[str, ad.AnnData]], reference: Reference, truth: dict[str, Any]) -> str:
    """Score stores and return the table; nothing is kept in OUT."""
    lines = []
    for name, store in stores:
        for n, values in estimates(evaluate_generation(store, reference, **truth)):
            lines.append([name, str(n), *("" if one is None else bracket(one) for one in values)])
            print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    of_states = bool(lines) and len(lines[0]) == len(HEADER_OF_STATES)
    return table_of(HEADER_OF_STATES if of_states else HEADER, lines)


def stores_of(arguments: argparse.Namespace) -> Iterator[tuple[str, ad.AnnData]]:
    """Yield the stores named on the command line."""
    for one in arguments.store:
        name, _, path = one.partition("=")
        yield name, ad.read_zarr(path)


def problem_of(arguments: argparse.Namespace, cells: BenchCells, seed: int) -> tuple[GenerationProblem, Path | None]:
    """Return what is to be drawn on one seed, and the representation model."""
    split = cells.data.split_name(seed)
    model = arguments.model if arguments.models is None else model_of(cells, split, seed, arguments.models)
    training = None
    if model is not None and arguments.images:
        training = Training(split, model, arguments.images, arguments.proxy_images, tuple(arguments.set))
    change = change_of(arguments)
    return make_problem(
        cells, split, seed, most=arguments.most, change=change, work=arguments.out, training=training
    ), model


def run_seed(arguments: argparse.Namespace, cells: BenchCells, seed: int, rows: RowStore, command: str) -> None:
    """Run a data set on one seed: what stands in the rows is not run again."""
    data, change = cells.data, change_of(arguments)
    split = data.split_name(seed)
    problem, model = problem_of(arguments, cells, seed)
    if arguments.ids is not None:
        arguments.ids.write_text("\n".join(map(str, cells.cell_ids[problem.wanted])) + "\n", "utf-8")
        return
    reference = make_reference(cells, problem, split, arguments.most, model=model, resamples=arguments.intervals)
    generators = generators_of(arguments, problem)
    truth = truth_of(cells, change, arguments.slides, arguments.simulated)
    if arguments.intervals:
        drawn = ((one.name, generate(one, problem)) for one in generators)
        table = with_intervals(chain(drawn, stores_of(arguments)), reference, truth)
        print(f"{data.name}, seed {seed}\n\n{table}\n")
        return
    task = arguments.suite if arguments.suite == "ablation" else problem.task
    draw_rows(DrawingPlan(generators, task=task), problem, reference, rows, command, **truth)
    sizes = (seed, len(problem.wanted), len(problem.train), command, cells.corpus.corpus_id)
    for name, store in stores_of(arguments):
        if not rows.has(task, data.name, name, seed):
            rows.add(score_table(store, reference, Trial(task, data.name, name, *sizes), 0.0, **truth))


def check_plan(arguments: argparse.Namespace) -> None:
    """Refuse rows of two budgets in one table."""
    path, names = arguments.out / "generation_plan.json", ("images", "proxy_images", "set", "most")
    plan = {name: getattr(arguments, name) for name in names}
    plan["defaults"] = GeneratorSettings().model_dump(mode="json")  # which change between versions
    if path.is_file():
        import json

        before = json.loads(path.read_text("utf-8"))
        if other := [name for name, value in plan.items() if before.get(name, value) != value]:
            was = "; ".join(f"{name}: {before[name]}, now {plan[name]}" for name in other)
            raise SettingsError(f"{path}: what stands there was run with other settings. Name another --out. {was}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(path, plan)


def tables(rows: pd.DataFrame) -> str:
    """Return every table as a function of the rows; larger is better in all of them."""
    parts = [markdown(rows), markdown(rows, details=True)]
    effects = main_effects(rows, FACTORS)
    if len(effects):
        parts.append("#### Means of each level over the other factors\n\n" + markdown(effects))
    return "\n\n".join(parts)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, or these words of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("data", nargs="*", type=Path, help="data sets; of `tables`: results")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path(), help="folder of the suites' data sets")
    parser.add_argument(
        "--cells", type=int, default=2500, help="simulated cells of a section: 2500 (2 × 2,500) or 10000"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--generators", default="all", help="names, separated by semicolons")
    parser.add_argument("--store", action="append", default=[], help="NAME=images.zarr of the test part")
    parser.add_argument("--models", type=Path, help="results folder whose models are used; missing ones are trained")
    parser.add_argument(
        "--model", type=Path, help="one model trained on the training part: its image encoder, and networks"
    )
    parser.add_argument("--images", type=int, default=40_000, help="training images of each network; 0: no network")
    parser.add_argument("--proxy-images", type=int, default=12_000, help="the same of what reads morphology")
    parser.add_argument("--set", action="append", default=[], help="setting of every flow, name=value")
    parser.add_argument("--most", type=int, default=1000, help="most test cells")
    parser.add_argument("--ids", type=Path, help="write the ids of the test cells there, and stop")
    parser.add_argument("--intervals", type=int, default=0, help="so many resamples: one table with intervals, no rows")
    parser.add_argument("--state", default="state_emt")
    parser.add_argument("--of", default="tumour", help="type whose cells make the transition")
    parser.add_argument("--types", help="instead of a state: SOURCE→TARGET, two types")
    parser.add_argument("--simulated", help="the simulator's transition, e.g. 'emt: 0→1'")
    parser.add_argument("--slides", type=Path, help="folder of simulated slides, one a section")
    arguments = parser.parse_args(words)
    if arguments.out is None and arguments.suite != "tables":
        parser.error("--out is needed")
    return arguments


def main() -> None:
    """Run what is asked for."""
    arguments = parse()
    configure()
    if arguments.suite == "tables":
        print(tables(read_rows(arguments.data)))
        return
    command = shlex.join(["python", "benchmarks/generation.py", *sys.argv[1:]])
    lost: list[str] = []
    with only_writer_of(arguments.out, "benchmark"):
        if not (arguments.ids or arguments.intervals):
            check_plan(arguments)
        rows = RowStore(arguments.out)
        for path in data_paths(arguments):
            cells = load_cells(DataSet.read(path))
            for seed in seeds_of(cells.data.only_seed, arguments.seeds):
                try:
                    run_seed(arguments, cells, seed, rows, command)
                except SpatiaError as error:  # this seed cannot be drawn; the others can
                    lost.append(f"{cells.data.name}, seed {seed}: {error}")
                    logger.warning(lost[-1])
    if not (arguments.ids or arguments.intervals):
        print(tables(rows.frame()))
    if lost:
        raise SpatiaError("Not run: " + " ".join(lost))


if __name__ == "__main__":
    try:
        main()
    except SpatiaError as error:
        sys.exit(str(error))
