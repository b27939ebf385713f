"""A flow from noise that is told a label and no gene: of the cell, or of the state it changes into."""

from typing import Final

from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import EXPRESSION, TRANSITION, GenerationProblem, Generator, Images, Task

_FLOWS: Final[dict[Task, Flow]] = {
    EXPRESSION: Flow(("conditions=[label]", "weights.morphology=0"), labels=True),
    TRANSITION: Flow(("coupling=noise", "conditions=[transition]", "weights.morphology=0")),
}


def draw(problem: GenerationProblem) -> Images:
    """Draw cells of the type that the user names, or of the target state."""
    return _FLOWS[problem.task](problem)


CLASS_CONDITIONAL = Generator(
    "class-conditional flow",
    draw,
    "flow from noise, told the type or the transition alone",
    needs_labels=True,
    learns=True,
)
