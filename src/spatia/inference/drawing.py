"""How images are asked for, and what comes back."""

import math
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from spatia.config import make_settings
from spatia.errors import SettingsError
from spatia.generation.settings import Precision, SolverSettings


@dataclass(frozen=True)
class GeneratedImages:
    """Images of some cells.

    Attributes
    ----------
    images
        (cells, draws, channels, y, x) uint8, intensities as in the training corpus.
    channels, um_per_px
        What they are.
    evaluations
        Of the network for each image, the most of any; with guidance each is two passes.
    synthetic
        Always True: they are drawn, not measured.
    cell_ids
        Of the cells: as they were asked for, or the index of the profiles that they were drawn from.
    samples
        Sections of the cells; none of cells drawn from profiles, which are in no corpus.
    """

    images: NDArray[np.uint8]
    channels: tuple[str, ...]
    um_per_px: float
    evaluations: int
    synthetic: bool = True
    cell_ids: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """How images are made: what of the generator's settings is overruled.

    Attributes
    ----------
    draws
        Images of each cell. Where paths begin at noise each has noise of its own. A transition that begins at the cell asks with one draw for the
        mean change of the training pairs, with several for that of as many resamples of the training cells, the same for all cells.
    seed
        Equal seeds draw equal images, in any batch.
    solver, guidance
        Those of the generator where None.
    drop
        Conditions to withhold.
    precision
        In which the network computes; the path itself is walked in 32 bits.
    keep
        Of drawings that begin at real cells: what share of the way from noise to the real cell they begin at. 1: the real cell as it is;
        near 0 all that the conditions decide is drawn anew.
    align
        Whether what is told of the cells of a section that training did not see is moved to where the training section most like it lay.
    """

    draws: int = 1
    seed: int = 0
    solver: SolverSettings | None = None
    guidance: float | None = None
    drop: tuple[str, ...] = ()
    precision: Precision = "32-true"
    keep: float = 0.2
    align: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise SettingsError(
                f"keep is {self.keep:g}; expected a share above 0, and at most 1 (the real cell as it is)."
            )
        if self.precision not in get_args(Precision):
            raise SettingsError(f"precision is {self.precision!r}; expected one of {', '.join(get_args(Precision))}.")
        if isinstance(self.drop, str):
            raise SettingsError(f"drop is {self.drop!r}; expected a tuple of names of conditions, as ({self.drop!r},).")
        if self.draws < 1:
            raise SettingsError(f"draws is {self.draws}; expected at least 1 image of each cell.")
        if self.guidance is not None and not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise SettingsError(f"guidance is {self.guidance:g}; expected a number: 0 (nothing is told), 1, or more.")
        if not isinstance(self.solver, SolverSettings | None):
            raise SettingsError(
                f"solver is {self.solver!r}; expected SolverSettings. Where a generator is asked to draw, a name will do, as solver='heun'."
            )


def make_drawing(
    own: SolverSettings,
    *,
    solver: SolverSettings | str | None = None,
    evaluations: int | None = None,
    **options: Any,
) -> Drawing:
    """Return how to draw from what a user gave: a solver by its name, a number of evaluations, and fields of :class:`Drawing`.

    Parameters
    ----------
    own
        The solver of the generator: what is not given is as there.

    Raises
    ------
    SettingsError
        If an option is unknown or out of range.

    Examples
    --------
    >>> make_drawing(SolverSettings(), solver="euler", evaluations=5).solver.kind
    'euler'
    """
    names = [field.name for field in fields(Drawing)]
    if unknown := [name for name in options if name not in names]:
        raise SettingsError(
            f"{unknown[0]!r} is no option of a drawing; there are: {', '.join(sorted([*names, 'evaluations']))}."
        )
    if isinstance(solver, str) or evaluations is not None:
        base = solver if isinstance(solver, SolverSettings) else own
        given = {"kind": solver if isinstance(solver, str) else None, "evaluations": evaluations}
        changed = {name: value for name, value in given.items() if value is not None}
        solver = make_settings(SolverSettings, {**base.model_dump(), **changed}, where="solver")
    return Drawing(solver=solver, **options)
