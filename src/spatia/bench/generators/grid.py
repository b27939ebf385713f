"""The ablation of transitions as a grid: where the path begins × alignment of morphology × what surrounds the cell."""

from collections.abc import Iterator
from itertools import product
from typing import Final, get_args

import pandas as pd

from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import TRANSITION, Generator
from spatia.generation.settings import OF_TRANSITION, SELF, Coupling

COUPLINGS: Final = tuple(name for name in get_args(Coupling) if name != SELF)  # an edit has none of the factors
COUPLING, MORPHOLOGY, NICHE = "coupling", "morphology", "niche"
ON, OFF = "on", "off"
FACTORS: Final[dict[str, tuple[str, ...]]] = {COUPLING: COUPLINGS, MORPHOLOGY: (ON, OFF), NICHE: (ON, OFF)}
# The embedding of the tissue window holds the niche, so that without the niche it is not told either.
SURROUNDINGS: Final = ("niche", "tissue")
ALONE: Final = tuple(name for name in OF_TRANSITION if name not in SURROUNDINGS)


def grid() -> list[Generator]:
    """Return the generators of all combinations."""
    return [_generator(dict(zip(FACTORS, levels, strict=True))) for levels in product(*FACTORS.values())]


def _generator(levels: dict[str, str]) -> Generator:
    lines = [f"coupling={levels[COUPLING]}"]
    if levels[MORPHOLOGY] == OFF:
        lines.append("weights.morphology=0")
    if levels[NICHE] == OFF:
        lines.append(f"conditions=[{','.join(ALONE)}]")
    return Generator(name_of(levels), Flow(tuple(lines)), "one of the grid", frozenset((TRANSITION,)), learns=True)


def name_of(levels: dict[str, str]) -> str:
    """Return the name of a combination.

    Examples
    --------
    >>> name_of({"coupling": "ot", "morphology": "on", "niche": "off"})
    'ot, morphology on, niche off'
    """
    return f"{levels[COUPLING]}, morphology {levels[MORPHOLOGY]}, niche {levels[NICHE]}"


def levels_of(name: str) -> dict[str, str]:
    """Return the levels that a name says: what :func:`name_of` undoes."""
    coupling, *others = name.split(", ")
    return {COUPLING: coupling, **dict(one.split(" ") for one in others)}


def main_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each level of a factor over the combinations of the others, from the rows of the grid.

    A seed enters a factor where it has every combination, so that no level has easier company than another.

    Returns
    -------
    Rows in the form of a benchmark's: ``method`` is "factor: level", one row for each seed.
    """
    names = {generator.name for generator in grid()}
    own = rows[rows["method"].isin(names) & (rows["status"] == "ok")]
    parts = [_of_seed(table) for _, table in own.groupby(["task", "data", "seed", "metric"], sort=False)]
    return pd.concat([rows.iloc[:0], *parts], ignore_index=True) if parts else rows.iloc[:0]


def _of_seed(table: pd.DataFrame) -> pd.DataFrame:
    if len(table) < len(grid()):
        return table.iloc[:0]
    return pd.DataFrame(list(_means(table)))


def _means(table: pd.DataFrame) -> Iterator[dict[str, object]]:
    levels = pd.DataFrame([levels_of(name) for name in table["method"]], index=table.index)
    for factor, values in FACTORS.items():
        for level in values:
            same = table[levels[factor] == level]
            first: dict[str, object] = {str(key): value for key, value in same.iloc[0].items()}
            yield {**first, "method": f"{factor}: {level}", "value": float(same["value"].mean())}
