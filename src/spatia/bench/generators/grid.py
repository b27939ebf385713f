"""The ablation of transitions as a grid: where the path begins × alignment of morphology × what surrounds the cell."""

from typing import Final, get_args

from spatia.bench.factorial import Factors, combinations, name_of, settings_of
from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import TRANSITION, Generator
from spatia.generation.settings import OF_TRANSITION, SELF, Coupling

# The embedding of the tissue window holds the niche, so that without the niche it is not told either.
SURROUNDINGS: Final = ("niche", "tissue")
ALONE: Final = tuple(name for name in OF_TRANSITION if name not in SURROUNDINGS)
FACTORS: Final[Factors] = {
    "coupling": {name: (f"coupling={name}",) for name in get_args(Coupling) if name != SELF},  # an edit has no factor
    "morphology": {"on": (), "off": ("weights.morphology=0",)},
    "niche": {"on": (), "off": (f"conditions=[{','.join(ALONE)}]",)},
}


def grid() -> list[Generator]:
    """Return the generators of all combinations."""
    return [
        Generator(
            name_of(levels),
            Flow(settings_of(FACTORS, levels)),
            "one of the grid",
            frozenset((TRANSITION,)),
            learns=True,
        )
        for levels in combinations(FACTORS)
    ]
