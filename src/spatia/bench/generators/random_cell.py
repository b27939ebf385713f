"""A real training cell drawn at random: perfect pictures that know nothing of the cell, or its label only."""

import numpy as np

from spatia.bench.generators.generator import EXPRESSION, GenerationProblem, Generator, Images


def draw_any(problem: GenerationProblem) -> Images:
    """Return random training cells (of the target state, for a transition)."""
    rng = np.random.default_rng(problem.seed)
    return problem.cells.images[rng.choice(problem.pool, len(problem.wanted))]


def draw_of_label(problem: GenerationProblem) -> Images:
    """Return random training cells of each wanted cell's label: class-conditional generation by the real distribution."""
    assert problem.labels is not None
    rng = np.random.default_rng(problem.seed)
    rows = rng.choice(problem.train, len(problem.wanted))
    wanted, known = problem.labels[problem.wanted], problem.labels[problem.train]
    for label in sorted(set(wanted) & set(known)):
        mine = np.flatnonzero(wanted == label)
        rows[mine] = rng.choice(problem.train[known == label], len(mine))
    return problem.cells.images[rows]


RANDOM_CELL = Generator("random training cell", draw_any, "any training cell, or any of the target state")
RANDOM_OF_TYPE = Generator(
    "random cell of the type",
    draw_of_label,
    "a random training cell of the same type: what a perfect class-conditional generator gives",
    frozenset((EXPRESSION,)),
    needs_labels=True,
)
