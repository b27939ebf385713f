"""The space in which cells are compared: points whose squared distance is the cost of pairing them, median 1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.errors import PairingError
from spatia.pairing.cells import Cells, Measured
from spatia.pairing.plans import Floats, costs
from spatia.pairing.settings import CostSettings

_LEAST_GENES = 5
_SAMPLE = 1_000  # cells of each side that the median cost is measured on


@dataclass(frozen=True)
class Members:
    """Rows of the cells that are sources and targets of one transition, ascending."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]

    @property
    def both(self) -> NDArray[np.int64]:
        """Sources and targets together."""
        return np.concatenate([self.source, self.target])


@dataclass(frozen=True)
class Points:
    """Places of sources (n, d) and targets (m, d), and what one unit of cost is in squared distance before scaling."""

    source: Floats
    target: Floats
    median_cost: float
    n_genes: int


def place(
    cells: Cells, measured: Measured, train: Members, part: Members, settings: CostSettings, *, name: str
) -> Points:
    """Place the cells of one part of one transition.

    Components and the unit of cost come from the training cells alone; another part has a say in which genes can be used
    (those that its sections measure too), and only for itself.

    Parameters
    ----------
    train, part
        Cells of the training part, and of the part to place (which may be the same).
    name
        Of the transition, for messages.
    """
    if settings.space == "embedding":
        fitted, own, n_genes = _embedded(cells, train, name), _embedded(cells, part, name), 0
    else:
        genes = _genes(measured, train, part, settings.n_genes, name)
        centre, axes = _components(measured, train.both, genes, settings.n_components)
        n_genes = len(genes)

        def scores(rows: NDArray[np.int64]) -> Floats:
            return np.asarray(measured.expression[measured.place(rows)][:, genes] @ axes) - centre @ axes

        fitted = (scores(train.source), scores(train.target))
        own = (scores(part.source), scores(part.target))
    median = float(np.median(costs(_some(fitted[0]), _some(fitted[1]))))
    if not median > 0:
        raise PairingError(
            f"Transition {name!r}: half of the training sources and targets do not differ at all; nothing to pair by."
        )
    placed = [points / np.sqrt(median) for points in own]
    if settings.spatial_weight > 0:
        per_um = np.sqrt(settings.spatial_weight) / settings.spatial_um
        placed = [
            np.hstack([points, cells.position_um[rows] * per_um])
            for points, rows in zip(placed, (part.source, part.target), strict=True)
        ]
    return Points(placed[0], placed[1], median, n_genes)


def _embedded(cells: Cells, members: Members, name: str) -> tuple[Floats, Floats]:
    assert cells.embedding is not None
    found = (cells.embedding[members.source], cells.embedding[members.target])
    bad = sum(int((~np.isfinite(values)).any(axis=1).sum()) for values in found)
    if bad:
        raise PairingError(
            f"Transition {name!r}: {bad:,} of its cells have no finite embedding. Embed all cells of the corpus, or narrow the states."
        )
    return found


def _genes(measured: Measured, train: Members, part: Members, n_most: int, name: str) -> NDArray[np.int64]:
    """Return the most variable genes (over training cells) that all sections concerned measure."""
    sections = np.unique(measured.section[measured.place(np.concatenate([train.both, part.both]))])
    shared = np.flatnonzero(measured.measures[sections].all(axis=0))
    if len(shared) < _LEAST_GENES:
        raise PairingError(
            f"Transition {name!r}: the panels of its {len(sections)} sections share {len(shared)} genes, expected at least "
            f"{_LEAST_GENES}. Pair within sections (scope: section), or by an embedding."
        )
    own = measured.expression[measured.place(np.sort(train.both))][:, shared]
    mean = np.asarray(own.mean(axis=0)).ravel()
    variance = np.asarray(own.multiply(own).mean(axis=0)).ravel() - mean**2
    return np.sort(shared[np.argsort(-variance, kind="stable")[:n_most]])


def _components(
    measured: Measured, rows: NDArray[np.int64], genes: NDArray[np.int64], n_components: int
) -> tuple[Floats, Floats]:
    """Return mean (genes,) and principal axes (genes, components) of some cells; nothing dense but genes × genes."""
    own = measured.expression[measured.place(np.sort(rows))][:, genes].astype(np.float64)
    mean = np.asarray(own.mean(axis=0)).ravel()
    second = np.asarray((own.T @ own).todense()) / own.shape[0]
    axes = np.linalg.eigh(second - np.outer(mean, mean))[1][:, ::-1]
    return mean, axes[:, : min(n_components, len(genes))]


def _some(points: Floats) -> Floats:
    """Return at most ``_SAMPLE`` rows, evenly spaced along the first axis, so that the order of cells does not matter."""
    if len(points) <= _SAMPLE:
        return points
    return points[np.argsort(points[:, 0], kind="stable")[np.linspace(0, len(points) - 1, _SAMPLE).astype(int)]]
