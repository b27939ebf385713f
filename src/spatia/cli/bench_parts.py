"""What an invocation of ``spatia bench`` asks for: its data sets, the methods of others and ours, and what is drawn."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from spatia.bench.dataset import DataSet
from spatia.bench.drawing import DrawingPlan, run_drawing
from spatia.bench.factorial import Factors, combinations, name_of, read_factors, settings_of
from spatia.bench.generators.problems import seeds_of
from spatia.bench.generators.registry import GENERATORS
from spatia.bench.method_record import Named, keep_what_names_are, of_files, ours, standing_values
from spatia.bench.methods.method import Method
from spatia.bench.methods.registry import BASELINES, OF_WEIGHTS
from spatia.bench.methods.spatia_model import SpatiaSource, spatia_methods
from spatia.bench.methods.vit import VIT
from spatia.bench.permute import Control, shuffled
from spatia.bench.public.protocol import PublicOptions, PublicProtocol
from spatia.bench.public.registry import read_public
from spatia.bench.published.files import digest_of
from spatia.bench.published.registry import published_method
from spatia.bench.rows import RowStore
from spatia.bench.suites import SIZES, suite_data
from spatia.cli.bench import Suite
from spatia.cli.bench_tables import OPTION, GivenTable, methods_of_tables
from spatia.config import make_settings
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.models.shipped import model_folder
from spatia.training.settings import read_settings
from spatia.training.sizes import check_sizes

QUICK = ("presentations.cells=4000", "presentations.context=4000")  # of fine-tuning in the quick suite
LEFT_OUT = (", cell", ", niche", ", tissue")  # levels alone, which the full suite asks too
# Of each combination of a grid the levels are asked as they add up: the cell, with its niche, with the tissue.
LEFT_OUT_OF_GRID = (", niche", ", tissue", " smoothed", ", expected counts")


def read_data(path: Path, given: Mapping[str, object]) -> DataSet:
    """Return a data set of the user; options of the command line count for corpora given as folders."""
    one = DataSet.read(path)
    if not path.is_dir():
        return one
    asked = {name: value for name, value in given.items() if value is not None}
    return make_settings(DataSet, {**one.model_dump(exclude_unset=True), **asked}, where="spatia bench")


def simulated_data(out: Path, suite: Suite, seeds: int | None) -> list[DataSet]:
    """Return the data sets of a suite, simulated where they are not there yet."""
    size = SIZES[suite.value]
    if seeds is not None:  # slides of seeds that nobody asks for are not simulated
        size = replace(size, seeds=min(seeds, size.seeds))
    return [DataSet.read(path) for path in suite_data(out / "data", size)]


def shuffled_data(data: list[DataSet], what: Control, out: Path) -> list[DataSet]:
    """Return copies with one input shuffled; those without images have none to shuffle."""
    return [
        shuffled(one, what, out / "controls") for one in data if what != "images" or Corpus.open(one.corpus).channels
    ]


def methods_of_others(tables: Sequence[GivenTable], published: Sequence[str]) -> list[Method]:
    """Return rivals that ran elsewhere, and published models.

    Raises
    ------
    SettingsError
        If two have one name, or that of a method that is here already: rows are known by the name, so the second would not be run.
    """
    methods = methods_of_tables(tables) + [published_method(*_pair(text, "--published")) for text in published]
    for at, name in enumerate(names := [method.name for method in methods]):
        if name in BASELINES or name in names[:at]:
            what = "is a method of spatia bench" if name in BASELINES else "is given twice"
            raise SettingsError(
                f"{OPTION}, --published: {name!r} {what}, and rows are known by the name. Give a name of its own "
                "(of a published model with a colon: uni:second=FOLDER)."
            )
    return methods


def keep_what_rivals_are(out: Path, methods: Sequence[Method], published: Sequence[str] = ()) -> None:
    """Write by a digest which files published models are made of.

    Parameters
    ----------
    methods
        All that take part: some of them take weights that the environment names, or random ones.
    published
        ``NAME=PATH``, as the command line takes it.

    Raises
    ------
    SettingsError
        If rows of one stand in ``out`` that were made of other files.
    """
    rows = standing_values(out)
    models = [_pair(text, "--published") for text in published]
    weights = [
        (name, Path(given) if (given := os.environ.get(OF_WEIGHTS[name])) else None)
        for name in (method.name for method in methods)
        if name in OF_WEIGHTS
    ]
    keep_what_names_are(
        out,
        [of_files(name, path, out, rows, f"Give it another name ({name}:second=…)") for name, path in models]
        + [of_files(name, path, out, rows, f"Set {OF_WEIGHTS[name]} as it was") for name, path in weights],
    )


def _pair(text: str, option: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not (name and path):
        raise SettingsError(f"{option} {text!r}: expected NAME=PATH.")
    return name, Path(path)


def factors_of(path: Path | None, settings: Sequence[str], start_from: str | None) -> Factors:
    """Return the factors of a grid of settings; a wrong setting is refused before anything is trained.

    Parameters
    ----------
    settings
        Those of every combination (``--set``).
    """
    if path is None:
        return {}
    factors = read_factors(path)
    for levels in combinations(factors):
        source = SpatiaSource(name_of(levels), (*settings, *settings_of(factors, levels)))
        sizes = read_settings(None, source.settings).sizes
        check_sizes(sizes)
        if start_from is not None and sizes:
            raise SettingsError(f"{path} with --from {start_from}: sizes cannot change in fine-tuning.")
    return factors


def our_methods(
    out: Path,
    model: str | None,
    train: bool,
    start_from: str | None,
    label: str,
    settings: list[str] | tuple[()],
    suite: Suite | None,
    factors: Factors,
) -> list[Method]:
    """Return our model as asked for; on our own data it always takes part: as it comes, and fine-tuned or trained.

    Raises
    ------
    SettingsError
        If rows of the same name stand in ``out`` and were made with other settings.
    """
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
    of_grid = [
        SpatiaSource(f"{label} {name_of(levels)}".strip(), (*settings, *settings_of(factors, levels)), start_from=start)
        for levels in (combinations(factors) if factors else ())
    ]
    keep_what_names_are(out, [ours(source) for source in (*sources, *of_grid)])
    methods = [method for source in sources for method in spatia_methods(source)]
    if suite is Suite.quick:
        methods = [method for method in methods if not method.name.endswith(LEFT_OUT)]
    levels_asked = [method for source in of_grid for method in spatia_methods(source)]
    return methods + [method for method in levels_asked if not method.name.endswith(LEFT_OUT_OF_GRID)]


def public_data(
    public: list[str] | tuple[()],
    out: Path,
    methods: list[str],
    model: str | None,
    label: str,
    seeds: int | None,
    extra: list[Method],
) -> list[DataSet]:
    """Run protocols that run by themselves, and return the data sets of the others.

    Raises
    ------
    SettingsError
        If rows of a protocol stand in ``out`` that were measured on another download, or of a ViT with other weights.
    """
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
        _keep_what_public_data_are(protocol, folder, out, options)
        protocol.run(folder, out, options)
    return data


def _keep_what_public_data_are(protocol: PublicProtocol, folder: Path, out: Path, options: PublicOptions) -> None:
    """Keep of which download the rows of a protocol are, and of which weights those of a ViT, whose name there is its folder's."""
    rows, asked = standing_values(out), []
    if folder.is_dir():  # else the protocol says what to download
        files, owned = {"files": digest_of(folder, without=out)}, any(map(protocol.owns, rows["data"].unique()))
        remedy = "Name the download that it was"
        asked.append(Named(f"--public {protocol.name}", files, str(folder), remedy, owned))
    if (vit := options.vit_folder) is not None and {"all", VIT.name} & set(options.methods):
        asked.append(of_files(f"vit {vit.name}", vit, out, rows, "Give its folder another name"))
    keep_what_names_are(out, asked)


def draw_cells(data: list[DataSet], seeds: int, images: int, out: Path) -> pd.DataFrame:
    """Draw cells on data sets and return all rows."""
    plan = DrawingPlan(list(GENERATORS.values()), images=images, proxy_images=min(images, 12_000))
    rows, command = RowStore(out), shlex.join(["spatia", *sys.argv[1:]])
    for one in data:
        run_drawing(one, seeds_of(one.only_seed, range(seeds)), plan, rows, out, command)
    return rows.frame()
