"""Pictures of whole niches as a problem of the benchmark, and the ways to draw them: ours, and what it must beat."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.generators.flow import draw_wanted, train_once
from spatia.bench.generators.generator import Images, Rows, Training
from spatia.bench.generators.nearest_cell import COMPONENTS, nearest
from spatia.bench.generators.niche_split import split_of_niches
from spatia.bench.generators.problems import some
from spatia.bench.methods.pca import principal_components
from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.inference.drawing import Drawing
from spatia.inference.generator import Generator as Maker
from spatia.inference.wanted import Wanted
from spatia.tasks.generated_cells import CellIndex

NICHE: Final = "niche generation"
LEAST: Final = 20
AT_ONCE: Final = 256
MOST_AVERAGED: Final = 2000


@dataclass(frozen=True, eq=False)
class NicheProblem:
    """Draw the pictures of some niches.

    Attributes
    ----------
    index
        All niches of a corpus.
    split
        Whose training part holds the niches to learn from: no picture of one overlaps with that of a test niche.
    train, wanted
        Rows to learn from, and to draw. Of wanted niches a method may see the cells' counts and places, and no picture.
    work, training
        As for single cells: where networks are kept, and how they learn; None: none takes part.
    """

    index: CellIndex
    split: str
    train: Rows
    wanted: Rows
    seed: int = 0
    work: Path | None = None
    training: Training | None = None

    @property
    def corpus(self) -> Corpus:
        """Whose niches they are."""
        return self.index.corpus

    def pictures(self, rows: Rows) -> Images:
        """Return real pictures."""
        return self.index.images(rows, self.corpus.channels)


@dataclass(frozen=True)
class NicheGenerator:
    """One way to draw niches: a function from a problem to pictures (wanted, channels, y, x)."""

    name: str
    draw: Callable[[NicheProblem], Images]
    learns: bool = False

    def can(self, problem: NicheProblem) -> bool:
        """Say whether it takes part."""
        return not self.learns or (problem.training is not None and problem.work is not None)


def niche_problem(
    corpus: Corpus, split: str, seed: int, *, most: int, work: Path | None = None, training: Training | None = None
) -> NicheProblem:
    """Return what is to be drawn on one seed: niches that lie whole in the test part.

    Training niches whose picture overlaps with that of a test niche are left out, here and where networks learn.

    Raises
    ------
    SettingsError
        If there are too few niches with a picture.
    """
    index = CellIndex.of(corpus, "niche")
    apart = split_of_niches(index, split)
    train, test = (index.with_image(index.part(apart, part), corpus.channels) for part in ("train", "test"))
    for what, rows in (("training", train), ("test", test)):
        if len(rows) < LEAST:
            raise SettingsError(
                f"{corpus.path}: {len(rows)} {what} niches have a picture with all channels; at least {LEAST} are needed."
            )
    training = None if training is None else replace(training, split=apart)
    return NicheProblem(index, apart, train, some(test, most, seed), seed, work, training)


def draw_mean(problem: NicheProblem) -> Images:
    """Return the mean picture of training niches."""
    rows = some(problem.train, MOST_AVERAGED, problem.seed)
    mean = problem.pictures(rows).mean(axis=0).round().astype(np.uint8)
    return np.repeat(mean[None], len(problem.wanted), axis=0)


def draw_random(problem: NicheProblem) -> Images:
    """Return pictures of training niches drawn at random."""
    rng = np.random.default_rng(problem.seed)
    return problem.pictures(rng.choice(problem.train, len(problem.wanted)))


def draw_nearest(problem: NicheProblem) -> Images:
    """Return pictures of the training niches nearest in expression: components of the log-normalised sum of their cells' counts."""
    rows = np.concatenate([problem.train, problem.wanted])
    train = np.arange(len(problem.train))
    place = principal_components(pooled_expression(problem.index, rows), train, problem.seed, COMPONENTS)
    return problem.pictures(problem.train[nearest(place[len(train) :], place[train])])


def pooled_expression(index: CellIndex, rows: Rows) -> NDArray[np.float32]:
    """Return log-normalised sums of the counts of niches' cells, (niches, genes that every section measures)."""
    vocabulary = Vocabulary.of([index.corpus])
    reader = RowReader([index.corpus], "niche", vocabulary=vocabulary, read=("counts",))
    number = {sample: place for place, sample in enumerate(index.starts)}
    out = np.zeros((len(rows), len(vocabulary.genes)), np.float32)
    shared = np.ones(len(vocabulary.genes), bool)
    for sample, start in index.starts.items():
        at = np.flatnonzero(index.samples[rows] == sample)
        for first in range(0, len(at), AT_ONCE):
            some_of = at[first : first + AT_ONCE]
            batch = reader(number[sample], rows[some_of] - start)
            sums = torch.zeros(len(some_of), len(vocabulary.genes))
            sums.index_add_(0, batch.member_niche, batch.cells.counts[batch.member_cell].float())
            out[some_of] = sums.numpy()
            shared &= batch.cells.panel_measured.all(dim=0).numpy()
    out = out[:, shared]
    total = np.maximum(out.sum(axis=1, keepdims=True), 1)
    return np.log1p(out / total * 1e4, dtype=np.float32)


def draw_ours(problem: NicheProblem, *, shuffle: bool = False) -> Images:
    """Train `spatia train-generator --set level=niche` where it was not trained yet, and draw."""
    if problem.training is None or problem.work is None:
        raise SettingsError("A network takes part where it is said how it is trained, and where it is kept.")
    folder = train_once(
        problem.corpus,
        problem.training,
        problem.work,
        ("level=niche", "weights.morphology=0"),
        {"seed": problem.seed},
    )
    maker = Maker.load(folder, device="auto")
    wanted = wanted_niches(problem)
    told = wanted.shuffled(problem.seed) if shuffle else None
    return draw_wanted(problem.corpus, maker, wanted, Drawing(seed=problem.seed), told=told)


def draw_shuffled(problem: NicheProblem) -> Images:
    """The same, each niche told what is known of another one."""
    return draw_ours(problem, shuffle=True)


def wanted_niches(problem: NicheProblem) -> Wanted:
    """Return the wanted niches as rows of their sections."""
    index, rows = problem.index, problem.wanted
    sample = index.samples[rows]
    start = np.array([index.starts[str(name)] for name in sample], np.int64)
    wanted = Wanted(sample, np.zeros(len(rows), np.int64), rows - start, index.cell_ids[rows], {})
    return wanted.counted_in(list(index.starts))


def niche_store(problem: NicheProblem, name: str, images: Images) -> ad.AnnData:
    """Return the table that `spatia generate` would write; pictures of a wrong shape are a bug, and raise."""
    level = problem.corpus.levels["niche"]
    expected = (len(problem.wanted), len(problem.corpus.channels), level.px, level.px)
    if images.shape != expected or images.dtype != np.uint8:
        raise ValueError(f"{name}: drew {images.dtype} {images.shape}; expected uint8 {expected}")
    obs = pd.DataFrame(
        {
            keys.CELL_ID: problem.index.cell_ids[problem.wanted],
            keys.SAMPLE: problem.index.samples[problem.wanted],
            "draw": 0,
            "synthetic": True,
        },
        index=[str(number) for number in range(len(images))],
    )
    table = ad.AnnData(obs=obs)
    table.obsm[keys.CELL_IMAGES] = images
    table.uns["spatia"] = {
        "synthetic": True,
        "task": "expression-to-image",
        "level": "niche",
        "generator": name,
        "seed": problem.seed,
        "channels": list(problem.corpus.channels),
        "um_per_px": level.um_per_px,
    }
    return table


NICHE_GENERATORS: Final = (
    NicheGenerator("mean picture", draw_mean),
    NicheGenerator("random training niche", draw_random),
    NicheGenerator("nearest real niche", draw_nearest),
    NicheGenerator("ours", draw_ours, learns=True),
    NicheGenerator("ours, conditions shuffled", draw_shuffled, learns=True),
)
