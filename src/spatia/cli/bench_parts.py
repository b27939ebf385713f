"""What an invocation of ``spatia bench`` asks for: its data sets, the methods of others and ours, and what is drawn."""

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
from spatia.bench.methods.method import BOTH, GENES, IMAGE, Method
from spatia.bench.methods.spatia_model import SpatiaSource, spatia_methods
from spatia.bench.permute import Control, shuffled
from spatia.bench.public.protocol import PublicOptions
from spatia.bench.public.registry import read_public
from spatia.bench.published.embeddings_file import embeddings_method
from spatia.bench.published.registry import published_method
from spatia.bench.rows import RowStore
from spatia.bench.suites import SIZES, suite_data
from spatia.cli.bench import Suite
from spatia.config import make_settings
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import read_json, write_json
from spatia.errors import SettingsError
from spatia.models.checkpoint import model_id
from spatia.models.shipped import model_folder
from spatia.training.settings import read_settings
from spatia.training.sizes import check_sizes

QUICK = ("presentations.cells=4000", "presentations.context=4000")  # of fine-tuning in the quick suite
OURS_FILE = "ours.json"  # in the results folder: what each name of ours stands for
LEFT_OUT = (", cell", ", niche", ", tissue")  # levels alone, which the full suite asks too
# Of each combination of a grid the levels are asked as they add up: the cell, with its niche, with the tissue.
LEFT_OUT_OF_GRID = (", niche", ", tissue", " smoothed", ", expected counts")


def read_data(path: Path, given: Mapping[str, object]) -> DataSet:
    """Return a data set of the user; options of the command line count for corpora given as folders."""
    one = DataSet.read(path)
    return make_settings(DataSet, {**one.model_dump(), **given}, where="spatia bench") if path.is_dir() else one


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


def methods_of_others(embeddings: list[str] | tuple[()], published: list[str] | tuple[()]) -> list[Method]:
    """Return rivals that ran elsewhere, and published models."""
    tables = []
    for text in embeddings:
        name, path = _pair(text, "--embeddings")
        sees = name.rpartition(":")[2]
        reads = {"image": IMAGE, "genes": GENES}.get(sees if ":" in name else "", BOTH)
        tables.append(embeddings_method(name, path, reads))
    return tables + [published_method(*_pair(text, "--published")) for text in published]


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
    _keep_what_they_are(out / OURS_FILE, [*sources, *of_grid])
    methods = [method for source in sources for method in spatia_methods(source)]
    if suite is Suite.quick:
        methods = [method for method in methods if not method.name.endswith(LEFT_OUT)]
    levels_asked = [method for source in of_grid for method in spatia_methods(source)]
    return methods + [method for method in levels_asked if not method.name.endswith(LEFT_OUT_OF_GRID)]


def _keep_what_they_are(path: Path, sources: Sequence[SpatiaSource]) -> None:
    """Write what each name of ours stands for, and refuse a name that stands there for something else: its rows would be taken for this."""
    stand = read_json(path, SettingsError) if path.is_file() else {}
    for source in sources:
        name = f"spatia {source.label}".strip()
        is_now = {
            "settings": sorted(source.settings),
            "model": None if source.model is None else model_id(source.model),
            "from": None if source.start_from is None else model_id(source.start_from),
        }
        was = stand.setdefault(name, is_now)
        if other := [what for what in is_now if was.get(what) != is_now[what]]:
            raise SettingsError(
                f"{path}: {name!r} stands there with {other[0]} {was.get(other[0])}, but {is_now[other[0]]} is asked for: its rows would be "
                "taken for these. Give another --label, or another results folder with -o."
            )
    if sources:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, stand)


def public_data(
    public: list[str] | tuple[()],
    out: Path,
    methods: list[str],
    model: str | None,
    label: str,
    seeds: int | None,
    extra: list[Method],
) -> list[DataSet]:
    """Run protocols that run by themselves, and return the data sets of the others."""
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


def draw_cells(data: list[DataSet], seeds: int, images: int, out: Path) -> pd.DataFrame:
    """Draw cells on data sets and return all rows."""
    plan = DrawingPlan(list(GENERATORS.values()), images=images, proxy_images=min(images, 12_000))
    rows, command = RowStore(out), shlex.join(["spatia", *sys.argv[1:]])
    for one in data:
        run_drawing(one, seeds_of(one.only_seed, range(seeds)), plan, rows, out, command)
    return rows.frame()
