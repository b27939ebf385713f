"""A flow from noise to the target image that is told all that ours is: what beginning at the cell is worth."""

from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import TRANSITION, Generator

NOISE_FLOW = Generator(
    "noise → image flow",
    Flow(("coupling=noise", "weights.morphology=0")),
    "flow from noise to the target image, told all that ours is",
    frozenset((TRANSITION,)),
    learns=True,
)
