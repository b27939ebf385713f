"""The control itself, unchanged: what a transition must beat."""

from spatia.bench.generators.generator import TRANSITION, GenerationProblem, Generator, Images


def draw(problem: GenerationProblem) -> Images:
    """Return the wanted cells' own images."""
    return problem.cells.images[problem.wanted]


COPY_CONTROL = Generator("copy the control", draw, "the source cell as it is", frozenset((TRANSITION,)))
