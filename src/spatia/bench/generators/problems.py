"""What is to be drawn on a data set: its test cells, or the cells of one state as they would be in another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.cells import BenchCells
from spatia.bench.dataset import part_rows
from spatia.bench.generators.generator import GenerationProblem, KnownTransition, Rows, Training
from spatia.errors import SettingsError

LOW, HIGH = 0.35, 0.65  # of a continuous state: sources below, targets above


@dataclass(frozen=True)
class StateChange:
    """A transition by a continuous state of one type of cells, or from one type to another.

    Attributes
    ----------
    state, of
        Column of the state, and the type whose cells have it; or
    types
        (source, target) types.
    """

    state: str | None = None
    of: str | None = None
    types: tuple[str, str] | None = None

    @property
    def sides(self) -> tuple[str, str]:
        """Names of source and target; pairs and rows are kept by them, so they name the state and whose it is."""
        if self.types is not None:
            return self.types
        state = str(self.state).removeprefix("state_") + ("" if self.of is None else f" of {self.of}")
        return f"low {state}", f"high {state}"

    @property
    def name(self) -> str:
        """As stores and tables have it."""
        return "→".join(self.sides)

    def ends(self, cells: BenchCells) -> NDArray[np.object_]:
        """Return the end that each cell is at: the two sides of the name, "" elsewhere."""
        source, target = self.sides
        found = np.full(len(cells), "", object)
        kinds = label_names(cells)
        if self.types is not None:
            if missing := sorted(set(self.types) - set([] if kinds is None else kinds)):
                raise SettingsError(f"{cells.data.name}: no cell has the type {missing[0]!r}.")
            found[kinds == source], found[kinds == target] = source, target
            return found
        value = cells.labels[self.state].to_numpy(np.float64)
        able = np.ones(len(cells), bool) if kinds is None or self.of is None else kinds == self.of
        found[able & (value < LOW)], found[able & (value > HIGH)] = source, target
        return found


def label_names(cells: BenchCells) -> NDArray[np.object_] | None:
    """Return the type of each cell as text, "" where unknown; None where the data set has none."""
    kind = cells.data.cell_type
    if kind is None:
        return None
    return np.array(["" if pd.isna(one) else str(one) for one in cells.labels[kind]], object)


def parts_of(cells: BenchCells, split: str) -> tuple[Rows, Rows]:
    """Return the usable rows of the training and of the test part."""
    train, test = (part_rows(cells.corpus, split, part) for part in ("train", "test"))
    return train[cells.usable[train]], test[cells.usable[test]]


def some(rows: Rows, most: int, seed: int) -> Rows:
    """Return at most so many of some rows, ascending, drawn at random."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def make_problem(
    cells: BenchCells,
    split: str,
    seed: int,
    *,
    most: int,
    change: StateChange | None = None,
    work: Path | None = None,
    training: Training | None = None,
) -> GenerationProblem:
    """Return what is to be drawn on one seed.

    Parameters
    ----------
    most
        Most test cells.
    change
        None: expression → image.

    Raises
    ------
    SettingsError
        If there are too few cells of a state.
    """
    train, test = parts_of(cells, split)
    if change is None:
        return GenerationProblem(cells, train, some(test, most, seed), seed, None, label_names(cells), work, training)
    ends = change.ends(cells)
    source, target = change.sides
    transition = KnownTransition(change.name, train[ends[train] == source], train[ends[train] == target])
    wanted = some(test[ends[test] == source], most, seed)
    _check_sizes(
        change.name,
        {"training source": transition.sources, "training target": transition.targets, "test source": wanted},
    )
    return GenerationProblem(cells, train, wanted, seed, transition, ends, work, training)


def _check_sizes(name: str, rows: dict[str, Rows], least: int = 20) -> None:
    for what, found in rows.items():
        if len(found) < least:
            raise SettingsError(f"{name}: {len(found)} {what} cells; at least {least} are needed.")


def label_table(problem: GenerationProblem) -> pd.DataFrame | None:
    """Return the labels of all cells as `evaluate_generation` takes them."""
    if problem.labels is None:
        return None
    cells = problem.cells
    table = pd.DataFrame({"cell_id": cells.cell_ids, keys.SAMPLE: cells.sample, "label": problem.labels})
    return table[table["label"] != ""]


def seeds_of(only: int | None, seeds: Sequence[int]) -> list[int]:
    """Return those seeds that a data set takes part in."""
    return [seed for seed in seeds if only in (None, seed)]
