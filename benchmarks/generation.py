"""Generated cells against baselines: expression → image, and transitions of state. Rows in OUT/rows.parquet, tables printed.

    python benchmarks/generation.py expression DATA.json ... --out OUT          data sets as `spatia bench` takes them
    python benchmarks/generation.py transition DATA.json --state state_emt --of tumour --simulated "emt: 0→1" --slides FOLDER --out OUT

Beside the baselines of `spatia.bench.generators` stands any store that `spatia generate` wrote for the test part of the same split:
`--store "NAME=images.zarr"`. What stands in OUT is not run again.

    python benchmarks/generation.py expression DATA.json --out OUT --most 400 --ids cells.txt            the test cells that will be judged
    spatia generate CORPUS -g GENERATOR -o ours.zarr --split SPLIT --part test --cells cells.txt
    python benchmarks/generation.py expression DATA.json --out OUT --most 400 --intervals 200 --store ours=ours.zarr
"""

import argparse
import shlex
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.dataset import DataSet, part_rows
from spatia.bench.generation_trial import Trial, run_generator, score_table
from spatia.bench.generators.generator import GenerationProblem, KnownTransition, generate
from spatia.bench.generators.registry import chosen_generators
from spatia.bench.rows import RowStore
from spatia.bench.tables import markdown
from spatia.log import configure
from spatia.metrics.bootstrap import Estimate
from spatia.tasks.evaluate_generation import Evaluation, evaluate_generation
from spatia.tasks.generation_group import GENERATED
from spatia.tasks.generation_reference import EvaluationSettings, Reference
from spatia.tasks.generation_table import bracket
from spatia.tasks.generation_table import markdown as table_of

NAME = "low→high"
LOW, HIGH = 0.35, 0.65  # of a state: sources below, targets above


def parts_of(cells: BenchCells, split: str, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return usable training rows, and at most so many test rows."""
    train, test = (part_rows(cells.corpus, split, part) for part in ("train", "test"))
    train, test = (rows[cells.usable[rows]] for rows in (train, test))
    if len(test) > most:
        test = np.sort(np.random.default_rng(seed).choice(test, most, replace=False))
    return train, test


def names_of(column: pd.Series) -> np.ndarray:
    """Return labels as text, empty where unknown."""
    return np.array(["" if pd.isna(one) else str(one) for one in column], object)


def problem_of(arguments: argparse.Namespace, cells: BenchCells, split: str, seed: int) -> GenerationProblem:
    """Return what is to be drawn on one seed."""
    kind = cells.data.cell_type
    labels = None if kind is None else names_of(cells.labels[kind])
    if arguments.task == "expression":
        train, test = parts_of(cells, split, arguments.most, seed)
        return GenerationProblem(cells, train, test, seed=seed, labels=labels)
    train, test = parts_of(cells, split, len(cells), seed)
    value = cells.labels[arguments.state].to_numpy(np.float64)
    able = np.ones(len(cells), bool) if labels is None else labels == arguments.of
    ends = np.full(len(cells), "", object)
    ends[able & (value < LOW)], ends[able & (value > HIGH)] = "low", "high"
    transition = KnownTransition(NAME, train[ends[train] == "low"], train[ends[train] == "high"])
    return GenerationProblem(cells, train, test[ends[test] == "low"][: arguments.most], seed, transition, ends)


HEADER = (
    "", "N", "Fréchet", "KID", "precision", "coverage", "Wasserstein (sd)", "state recognised", "own cell", "own, within its type", "pixels",
    "copies",
)  # fmt: skip


def estimates(evaluation: Evaluation) -> list[tuple[int, list[Estimate | None]]]:
    """Return, for each group, N and the estimates of `HEADER`, on the measured features."""
    found = []
    for group in evaluation.groups:
        row, name = group.rows[GENERATED], next(iter(group.rows[GENERATED].spaces))
        space, pairs = row.spaces[name], group.pairs
        values = [space.frechet, space.kid, space.manifold["precision"], space.manifold["coverage"]]
        values += [row.features.mean_wasserstein, row.state.get(name), pairs.recognised[name]]
        values += [pairs.recognised_within.get(name), pairs.pixel_rmse, group.memorisation["pixels"].copies]
        found.append((group.n_cells, values))
    return found


def with_intervals(stores: Iterable[tuple[str, ad.AnnData]], reference: Reference, truth: dict[str, Any]) -> str:
    """Score stores and return the table; nothing is kept in OUT."""
    lines = []
    for name, store in stores:
        for n, values in estimates(evaluate_generation(store, reference, **truth)):
            lines.append([name, str(n), *("" if one is None else bracket(one) for one in values)])
            print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    return table_of(HEADER, lines)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("expression", "transition"))
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--generators", default="all", help="names, comma-separated")
    parser.add_argument("--store", action="append", default=[], help="NAME=images.zarr of the test part")
    parser.add_argument("--model", type=Path, help="folder of a model trained on the training part: its image encoder")
    parser.add_argument("--most", type=int, default=1000, help="most test cells")
    parser.add_argument("--ids", type=Path, help="write the ids of the test cells there, and stop")
    parser.add_argument("--intervals", type=int, default=0, help="so many resamples: one table with intervals, no rows")
    parser.add_argument("--state", default="state_emt")
    parser.add_argument("--of", default="tumour", help="type whose cells make the transition")
    parser.add_argument("--simulated", help="the simulator's transition, e.g. 'emt: 0→1'")
    parser.add_argument("--slides", type=Path, help="folder of simulated slides, one a section")
    arguments = parser.parse_args()
    configure()
    rows = RowStore(arguments.out)
    command = shlex.join(["python", "benchmarks/generation.py", *sys.argv[1:]])
    for path in arguments.data:
        data = DataSet.read(path)
        for seed in arguments.seeds if data.only_seed is None else [data.only_seed]:
            split, cells = data.split_name(seed), load_cells(data)
            problem = problem_of(arguments, cells, split, seed)
            if arguments.ids is not None:
                arguments.ids.write_text("\n".join(map(str, cells.cell_ids[problem.wanted])) + "\n", "utf-8")
                continue
            table = None
            if problem.labels is not None:
                table = pd.DataFrame({"cell_id": cells.cell_ids, "sample": cells.sample, "label": problem.labels})
                table = table[table["label"] != ""]
            settings = EvaluationSettings(
                split=split, max_cells=arguments.most, resamples=arguments.intervals, seed=seed
            )
            reference = Reference(data.corpus, settings, labels=table, model=arguments.model)
            truth: dict[str, object] = {}
            if arguments.simulated:
                slides = {sample: arguments.slides / sample for sample in cells.corpus.sections}
                truth = {"slides": slides, "simulated": {NAME: arguments.simulated}}
            generators = [one for one in chosen_generators(arguments.generators.split(",")) if one.can(problem)]
            if arguments.intervals:
                drawn = ((one.name, generate(one, problem)) for one in generators)
                given = ((one.partition("=")[0], ad.read_zarr(one.partition("=")[2])) for one in arguments.store)
                print(f"{data.name}, seed {seed}\n\n{with_intervals(chain(drawn, given), reference, truth)}\n")
                continue
            facts = (problem.task, data.name)
            sizes = (seed, len(problem.wanted), len(problem.train), command)
            for generator in generators:
                if not rows.has(*facts, generator.name, seed):
                    trial = Trial(*facts, generator.name, *sizes)
                    rows.add(run_generator(generator, problem, reference, trial, **truth))
            for one in arguments.store:
                name, _, store = one.partition("=")
                if not rows.has(*facts, name, seed):
                    rows.add(score_table(ad.read_zarr(store), reference, Trial(*facts, name, *sizes), 0.0, **truth))
    if arguments.ids is not None or arguments.intervals:
        return
    print(markdown(rows.frame()))
    print(markdown(rows.frame(), details=True))


if __name__ == "__main__":
    main()
