"""The numbers of docs/benchmarks.md, section Model: rivals and our model on real and simulated cells, ablation, speed.

    python benchmarks/model.py real       --work WORK      Xenium breast and MELC: image, expression, both
    python benchmarks/model.py tables     --work WORK      cells without images: imputation, neighbourhood, types, regions
    python benchmarks/model.py simulated  --work WORK      slides of two donors [--cells 10000]
    python benchmarks/model.py ablation   --work WORK      {image, genes, both} × {cell, + niche, + tissue} × contrastive
    python benchmarks/model.py summary    --work WORK      what stands there, tasks down, as in docs/benchmarks.md
    python benchmarks/model.py ranks      --work WORK      mean ranks over all of that; --figure PNG, --also OTHER_WORK
    python benchmarks/model.py growth     --work WORK      building and embedding of 10,000, 100,000 and 1,000,000 simulated cells
    python benchmarks/model.py speed      --work WORK      beside a ViT-B/16; memory at 20,000 and 500,000 cells

Corpora and results stay in WORK and are not made again. Rows: WORK/results/<subcommand>/rows.parquet.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import model_data as data
import model_speed
import model_summary
import pandas as pd

from spatia.bench.dataset import DataSet
from spatia.bench.methods.registry import SLOW, chosen_methods
from spatia.bench.methods.spatia_model import SMOOTHED, SpatiaSource, spatia_methods
from spatia.bench.protocols.registry import chosen_tasks
from spatia.bench.run import Plan, run
from spatia.bench.tables import markdown
from spatia.corpus.lock import only_writer_of
from spatia.log import configure


def compare(arguments: argparse.Namespace, paths: list[Path], *, tasks: str = "all") -> pd.DataFrame:
    """Run baselines and, unless told otherwise, our model."""
    methods = chosen_methods(arguments.methods.split(","))
    if not arguments.slow and arguments.methods == "all":
        methods = [method for method in methods if method.name not in SLOW]
    if not arguments.baselines_only:
        methods += spatia_methods(SpatiaSource(arguments.label, tuple(arguments.set), arguments.model))
    return _run(arguments, paths, methods, tasks)


def ablate(arguments: argparse.Namespace, paths: list[Path]) -> pd.DataFrame:
    """Modalities × levels × contrastive term on or off."""
    methods = []
    for label, settings in (("", ()), ("no contrast", ("weights.contrastive=0",))):
        source = SpatiaSource(label, (*arguments.set, *settings))
        methods += [method for method in spatia_methods(source) if method.embed is not None]
    chosen = [method for method in methods if not method.name.endswith((", niche", ", tissue", SMOOTHED))]
    return _run(arguments, paths, chosen, "all")


def _run(arguments: argparse.Namespace, paths: list[Path], methods: list, tasks: str) -> pd.DataFrame:
    command = shlex.join(["python", "benchmarks/model.py", *_without_work(sys.argv[1:])])
    asked = arguments.tasks if arguments.tasks != "all" else tasks
    sets = [DataSet.read(path) for path in paths]
    plan = Plan(sets, chosen_tasks(asked.split(",")), methods, arguments.seeds, command)
    out = arguments.work / "results" / arguments.what
    with only_writer_of(out, "benchmark"):
        rows = run(plan, out)
    return rows[rows["data"].isin([one.name for one in sets])]


def _without_work(words: list[str]) -> list[str]:
    """Leave out where the cache lies: it is a path of one machine."""
    if "--work" in words:
        at = words.index("--work")
        words = words[:at] + words[at + 2 :]
    return [word for word in words if not word.startswith("--work=")]


def _real(arguments: argparse.Namespace) -> pd.DataFrame:
    return compare(arguments, data.breast(arguments.work) + data.melc(arguments.work))


def _tables(arguments: argparse.Namespace) -> pd.DataFrame:
    makers: list[Callable[[Path], list[Path]]] = [data.starmap, data.osmfish, data.cosmx_lung]
    if arguments.slow:
        makers.append(data.mouse_brain)
    return compare(arguments, [path for make in makers for path in make(arguments.work)])


def _simulated(arguments: argparse.Namespace) -> pd.DataFrame:
    paths = data.simulated(arguments.work, arguments.cells, arguments.seeds)
    if not arguments.blocks:
        paths = [path for path in paths if path.stem.endswith("_donor")]
    return compare(arguments, paths)


def _ablation(arguments: argparse.Namespace) -> pd.DataFrame:
    paths = data.simulated(arguments.work, arguments.cells, arguments.seeds)
    donors = [path for path in paths if path.stem.endswith("_donor")]
    return ablate(arguments, data.breast(arguments.work) + donors)


COMMANDS = {"real": _real, "tables": _tables, "simulated": _simulated, "ablation": _ablation}


def main() -> None:
    """Print the tables of one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*COMMANDS, "summary", "ranks", "speed", "growth"])
    parser.add_argument("--work", type=Path, required=True, help="cache of corpora, models and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=2_500, help="simulated: cells of each of the two sections")
    parser.add_argument("--blocks", action="store_true", help="simulated: also blocks within both donors")
    parser.add_argument("--methods", default="all", help="baselines, comma-separated; all; none")
    parser.add_argument("--slow", action="store_true", help="also scvi, vit-b/16, and the table of 36,602 cells")
    parser.add_argument("--tasks", default="all")
    parser.add_argument("--baselines-only", action="store_true")
    parser.add_argument("--model", type=Path, help="a trained model, used as it is")
    parser.add_argument("--label", default="", help="name of this try of our model")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="training setting")
    parser.add_argument("--many", type=int, default=500_000, help="speed: cells of the larger corpus")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="growth: cells")
    parser.add_argument("--also", type=Path, action="append", default=[], help="ranks: another WORK")
    parser.add_argument("--figure", type=Path, help="ranks: PNG to draw")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    configure()
    if arguments.what == "summary":
        print(model_summary.summary(arguments.work))
        return
    if arguments.what == "ranks":
        print(model_summary.ranks([arguments.work, *arguments.also], arguments.figure))
        return
    if arguments.what == "growth":
        print(model_speed.grow(arguments.work, arguments.sizes))
        return
    if arguments.what == "speed":
        print(model_speed.measure(arguments.work, arguments.model, data.breast(arguments.work)[0], arguments.many))
        return
    print(markdown(COMMANDS[arguments.what](arguments)))


if __name__ == "__main__":
    main()
