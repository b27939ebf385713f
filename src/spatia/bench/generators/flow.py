"""Generators of this package as entries of the benchmark: trained by `spatia train-generator` with some settings, then drawn."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.dataset import place_name, readable
from spatia.bench.generators.generator import TRANSITION, GenerationProblem, Images, Training
from spatia.bench.generators.wrong_pairs import with_wrong_partners
from spatia.config import read_settings_of
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import sha256
from spatia.errors import SettingsError
from spatia.generation.checkpoint import GENERATOR_FILE
from spatia.inference.asking import asking
from spatia.inference.drawing import Drawing
from spatia.inference.generator import Generator
from spatia.inference.real_cells import RealCells, real_cells_of
from spatia.inference.wanted import Wanted
from spatia.models.checkpoint import model_id
from spatia.pairing.pair import pair
from spatia.pairing.pairs import FACTS_FILE
from spatia.pairing.settings import PairSettings
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_train import train_generator

AT_ONCE: Final = 512
SOURCE, TARGET = "source", "target"


@dataclass(frozen=True)
class Flow:
    """One way to train, and to be told.

    Attributes
    ----------
    lines
        Settings ``name=value``, over those of all flows.
    labels
        Told the label of a cell.
    shuffle
        Told, when it draws, what is known of another cell.
    from_expression
        A transition starts from a generator of images from expression, of the same budget, which saw every training cell.
    wrong_partners
        Learns from pairs whose sources have swapped their partners.
    keep
        Drawings begin at real training cells, of which so much is kept (`Drawing.keep`); None: at noise.
    align
        Sections that training did not see are aligned to those that it saw (`Drawing.align`).
    """

    lines: tuple[str, ...] = ()
    labels: bool = False
    shuffle: bool = False
    from_expression: bool = False
    wrong_partners: bool = False
    keep: float | None = None
    align: bool = True

    def __call__(self, problem: GenerationProblem) -> Images:
        """Train where it was not trained yet, and draw the wanted cells."""
        maker = Generator.load(trained(problem, self), device="auto")
        return drawn(problem, maker, self)


def asked_of(problem: GenerationProblem) -> tuple[Training, Path]:
    """Return how to train and where to keep it."""
    if problem.training is None or problem.work is None:
        raise SettingsError("A network takes part where it is said how it is trained, and where it is kept.")
    return problem.training, problem.work


def trained(problem: GenerationProblem, flow: Flow) -> Path:
    """Return the generator's folder; a killed training goes on, and one that is finished is not repeated."""
    training, work = asked_of(problem)
    given: dict[str, Any] = {"seed": problem.seed}
    if problem.task == TRANSITION:
        given["task"] = TRANSITION
    labels = labels_of(problem, problem.train) if flow.labels else None
    pairs = pairs_of(problem) if problem.transition is not None else None
    if flow.wrong_partners and pairs is not None:
        pairs = with_wrong_partners(pairs, pairs.with_name(f"{pairs.name}-wrong"), problem.seed)
    first = trained(replace(problem, transition=None), Flow()) if flow.from_expression else None
    return train_once(
        problem.cells.corpus, training, work, flow.lines, given, pairs=pairs, labels=labels, start_from=first
    )


def train_once(
    corpus: Corpus,
    training: Training,
    work: Path,
    lines: tuple[str, ...],
    given: Mapping[str, Any],
    *,
    pairs: Path | None = None,
    labels: pd.DataFrame | None = None,
    start_from: Path | None = None,
) -> Path:
    """Train a generator where that was not done yet; its folder is named by all that decides what it learns.

    Parameters
    ----------
    lines
        Settings ``name=value`` of this generator, over those of all.
    given
        Settings by name: task and seed.
    """
    settings = flow_settings(training, lines, given)
    content = [
        settings.model_dump(mode="json"),
        model_id(training.model),
        None if labels is None else int(pd.util.hash_pandas_object(labels).sum()),
        None if pairs is None else sha256(pairs / FACTS_FILE),
        *([] if start_from is None else [sha256(start_from / GENERATOR_FILE)]),
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    out = work / "generators" / readable(f"{corpus.path.name}-{training.split}-{settings.seed}") / digest[:16]
    if not (out / GENERATOR_FILE).is_file():
        train_generator(corpus, out, training.model, settings, True, pairs=pairs, labels=labels, start_from=start_from)
    return out


def flow_settings(training: Training, lines: tuple[str, ...], given: Mapping[str, Any]) -> GeneratorSettings:
    """Return the settings of a training: those of all generators, then those of this one."""
    budget = (f"presentations.generator={training.images}", f"presentations.proxy={training.proxy_images}")
    of_all = {"split": training.split, "part": "train", "sample_rows": 0, **given}
    lines = (*budget, *training.settings, *lines)
    return read_settings_of(GeneratorSettings, "the benchmark of generators", None, lines, of_all)


def drawn(problem: GenerationProblem, maker: Generator, flow: Flow) -> Images:
    """Return images of the wanted cells, in their order."""
    wanted = wanted_of(problem)
    told = wanted.shuffled(problem.seed) if flow.shuffle else wanted
    labels = None
    if flow.labels:
        labels = labels_of(problem, problem.wanted)
        labels = labels[labels["label"].isin(maker.facts["labels"])]
    corpus, real, how = problem.cells.corpus, None, Drawing(seed=problem.seed, align=flow.align)
    if flow.keep is not None:
        pool = wanted_of(replace(problem, wanted=problem.train, transition=None))
        how = replace(how, keep=flow.keep)
        device = str(maker.network.device)
        real = real_cells_of(corpus, maker, pool, seed=problem.seed, device=device, align=flow.align)
    return draw_wanted(corpus, maker, wanted, how, told=told, labels=labels, real=real)


def draw_wanted(
    corpus: Corpus,
    maker: Generator,
    wanted: Wanted,
    how: Drawing,
    *,
    told: Wanted | None = None,
    labels: pd.DataFrame | None = None,
    real: RealCells | None = None,
) -> Images:
    """Return one image of each wanted row, in their order, with the channels of the corpus.

    Parameters
    ----------
    told
        Rows whose conditions are told in the place of their own.
    real
        Real cells to begin at.
    """
    told, parts = wanted if told is None else told, []
    device = str(maker.network.device)
    with asking(corpus, maker, wanted, device=device, labels=labels, real=real, how=how) as asker:
        for start in range(0, len(wanted), AT_ONCE):
            block = slice(start, start + AT_ONCE)
            parts.append(maker.draw(asker(wanted.take(block), told.take(block)), how).images[:, 0])
    order = [maker.channels.index(name) for name in corpus.channels]
    return np.concatenate(parts)[:, order]


def wanted_of(problem: GenerationProblem) -> Wanted:
    """Return the wanted cells as rows of their sections, with the transition they make."""
    corpus, cells = problem.cells.corpus, problem.cells
    sizes = [section.entry.n_cells for section in corpus.sections.values()]
    start = dict(zip(corpus.sections, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    sample = cells.sample[problem.wanted]
    rows = problem.wanted - np.array([start[name] for name in sample], np.int64)
    zeros = np.zeros(len(rows), np.int64)
    wanted = Wanted(sample, zeros, rows, cells.cell_ids[problem.wanted], {}).counted_in(list(corpus.sections))
    if problem.transition is None:
        return wanted
    return wanted.with_columns(transition=np.full(len(rows), problem.transition.name, object))


def labels_of(problem: GenerationProblem, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return the labels of some cells, those of unknown label left out."""
    assert problem.labels is not None
    table = _named(problem, rows).assign(label=problem.labels[rows])
    return table[table["label"] != ""].reset_index(drop=True)


def pairs_of(problem: GenerationProblem) -> Path:
    """Return the folder of pairs of training cells; made where it is not there yet."""
    assert problem.transition is not None
    training, work = asked_of(problem)
    transition = problem.transition
    out = work / "pairs" / f"{place_of(problem)}-{readable(transition.name)}"
    if (out / FACTS_FILE).is_file():
        return out
    ends = [
        _named(problem, transition.sources).assign(end=SOURCE),
        _named(problem, transition.targets).assign(end=TARGET),
    ]
    change = {"name": transition.name, "key": "end", "source": SOURCE, "target": TARGET}
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as folder:
        table = Path(folder) / "ends.parquet"
        pd.concat(ends, ignore_index=True).to_parquet(table, index=False)
        pair(problem.cells.corpus, [change], out, cells=table, settings=PairSettings(split=training.split))
    return out


def place_of(problem: GenerationProblem) -> str:
    """Return a name for files of one corpus, split and seed."""
    training, _ = asked_of(problem)
    return place_name(problem.cells.corpus, training.split, problem.seed)


def _named(problem: GenerationProblem, rows: NDArray[np.int64]) -> pd.DataFrame:
    return pd.DataFrame({"cell_id": problem.cells.cell_ids[rows], keys.SAMPLE: problem.cells.sample[rows]})
