"""As CellFlux: a flow from any control cell to any target cell, told the transition alone.

Zhang et al., *CellFlux: Simulating Cellular Morphology Changes via Flow Matching* (2025): the idea, with our network and loop.
"""

from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import TRANSITION, Generator

CELLFLUX = Generator(
    "CellFlux-like flow",
    Flow(("coupling=control", "conditions=[transition]", "weights.morphology=0")),
    "flow from any control to any target cell, told the transition alone",
    frozenset((TRANSITION,)),
    learns=True,
)
