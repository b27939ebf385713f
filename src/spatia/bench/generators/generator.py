"""What a generator of the benchmark is: a function from cells, and what may be seen of them, to one image each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.cells import BenchCells

Task = Literal["expression-to-image", "transition"]
EXPRESSION: Final[Task] = "expression-to-image"
TRANSITION: Final[Task] = "transition"
BOTH_TASKS: Final[frozenset[Task]] = frozenset((EXPRESSION, TRANSITION))
Rows = NDArray[np.int64]
Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class KnownTransition:
    """A transition with its training cells.

    Attributes
    ----------
    name
        As users name it.
    sources, targets
        Rows of the **training** cells in the source and in the target state.
    """

    name: str
    sources: Rows
    targets: Rows


@dataclass(frozen=True)
class Training:
    """How networks learn to draw: the same for all of them, so that they differ in what they are.

    Attributes
    ----------
    split
        Of the corpus; they learn from its part "train".
    model
        Folder of a representation model trained on that part.
    images
        Budget: training images that each sees, rounded up to whole passes over the data.
    proxy_images
        The same of what reads morphology off an image.
    settings
        Lines ``name=value`` of `spatia train-generator`, for all flows.
    """

    split: str
    model: Path
    images: int = 40_000
    proxy_images: int = 12_000
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class GenerationProblem:
    """Draw the images of some cells.

    Attributes
    ----------
    cells
        All cells of a data set. Of test cells a generator may see expression and position; their images only as the control
        of a transition.
    train
        Rows to learn from.
    wanted
        Rows to draw: themselves (expression → image), or as they would be after the transition.
    transition
        None: expression → image.
    labels
        (n,) type or state of every cell, "" where unknown, None without. A generator may read those of wanted cells: a
        class-conditional one does nothing else.
    seed
        Of everything that is drawn.
    work
        Folder for what is costly to make again; None: nothing is kept.
    training
        How networks learn; None: they take no part.
    """

    cells: BenchCells
    train: Rows
    wanted: Rows
    seed: int = 0
    transition: KnownTransition | None = None
    labels: NDArray[np.object_] | None = None
    work: Path | None = None
    training: Training | None = None

    @property
    def task(self) -> Task:
        """Which of the two tasks this is."""
        return EXPRESSION if self.transition is None else TRANSITION

    @property
    def pool(self) -> Rows:
        """Training cells that may stand for a wanted one: in the target state, or all."""
        return self.train if self.transition is None else self.transition.targets


@dataclass(frozen=True)
class Generator:
    """One way to draw cells.

    Attributes
    ----------
    name
        As the tables show it.
    draw
        From a problem to images (wanted, channels, y, x).
    description
        One line.
    tasks
        Which it can do.
    needs_labels
        Takes no part where there are none.
    learns
        Is a network, and takes no part where none is to be trained.
    """

    name: str
    draw: Callable[[GenerationProblem], Images]
    description: str
    tasks: frozenset[Task] = BOTH_TASKS
    needs_labels: bool = False
    learns: bool = False

    def can(self, problem: GenerationProblem) -> bool:
        """Say whether it takes part."""
        lacks_labels = self.needs_labels and problem.labels is None
        lacks_training = self.learns and (problem.training is None or problem.work is None)
        return problem.task in self.tasks and not lacks_labels and not lacks_training


def generate(generator: Generator, problem: GenerationProblem) -> ad.AnnData:
    """Draw and return the table that `spatia generate` would write; images of a wrong shape are a bug, and raise."""
    images = generator.draw(problem)
    level = problem.cells.corpus.levels["cell"]
    channels = problem.cells.corpus.channels
    expected = (len(problem.wanted), len(channels), level.px, level.px)
    if images.shape != expected or images.dtype != np.uint8:
        raise ValueError(f"{generator.name}: drew {images.dtype} {images.shape}; expected uint8 {expected}")
    obs = pd.DataFrame(
        {
            "cell_id": problem.cells.cell_ids[problem.wanted],
            keys.SAMPLE: problem.cells.sample[problem.wanted],
            "draw": np.zeros(len(images), np.int64),
            "synthetic": True,
        },
        index=[str(number) for number in range(len(images))],
    )
    if problem.transition is not None:
        obs["transition"] = problem.transition.name
    table = ad.AnnData(obs=obs)
    table.obsm[keys.CELL_IMAGES] = images
    table.uns["spatia"] = {
        "synthetic": True,
        "task": problem.task,
        "generator": generator.name,
        "seed": problem.seed,
        "channels": list(channels),
        "um_per_px": level.um_per_px,
    }
    return table
