"""Our generator with its defaults, told everything, and the same told what is known of another cell."""

from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import TRANSITION, Generator

OURS_EDITED = Generator(
    "ours, edited",
    Flow(("coupling=self",)),
    "the cell itself, edited until it measures what the transition asks: learnt from every training cell, and no pair",
    tasks=frozenset((TRANSITION,)),
    learns=True,
)
OURS = Generator("ours", Flow(), "spatia train-generator, told all that the task has", learns=True)
# What it draws must get worse: what does not change with the conditions does not know the cell.
OURS_SHUFFLED = Generator(
    "ours, conditions shuffled",
    Flow(shuffle=True),
    "the same, each cell told what is known of another one",
    learns=True,
)
OURS_FROM_EXPRESSION = Generator(
    "ours, from expression",
    Flow(from_expression=True),
    "a transition that starts from a generator of images from expression, which saw every training cell",
    tasks=frozenset((TRANSITION,)),
    learns=True,
)
