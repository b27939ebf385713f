"""One section, simulated: every cell with its type, states, morphology and outline, in memory (some 400 bytes a cell)."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatia.simulate.celltypes import CODE, TYPE_NAMES
from spatia.simulate.expression import Expression, draw_counts, driver_scores, library_size, make_expression
from spatia.simulate.genes import make_panel
from spatia.simulate.morphology import draw_features
from spatia.simulate.outlines import Irregularity, Outlines, draw_irregularity, neighbour_limits, shape
from spatia.simulate.placement import Placement, place_cells
from spatia.simulate.randomness import Stream, blocks, generator
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.states import draw_states
from spatia.simulate.tissue import GLASS_UM, make_tissue

POLARISED = (CODE["luminal"],)


@dataclass(frozen=True)
class Cells:
    """All cells of a section; the first axis is the cell.

    Parameters
    ----------
    centre_um
        Where the cell was put, (n, 2), (x, y); the outlines are star-shaped around it.
    kind, domain
        Codes into ``TYPE_NAMES`` and ``DOMAINS``, (n,).
    axis
        Direction of the long axis, radians, (n,).
    states, features, scores
        (n, states), (n, features), (n, drivers).
    library
        Library size, 1 for a typical cell, (n,).
    """

    centre_um: NDArray[np.float64]
    kind: NDArray[np.int8]
    domain: NDArray[np.int8]
    axis: NDArray[np.float64]
    states: NDArray[np.float32]
    features: NDArray[np.float32]
    scores: NDArray[np.float32]
    library: NDArray[np.float32]
    outlines: Outlines

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.kind)

    def take(self, rows: NDArray[np.int64]) -> "Cells":
        """Return some of the cells, copied."""
        outlines = Outlines(self.outlines.cell[rows], self.outlines.nucleus[rows], self.outlines.limit[rows])
        arrays = {part.name: getattr(self, part.name)[rows] for part in fields(self) if part.name != "outlines"}
        return Cells(**arrays, outlines=outlines)


@dataclass(frozen=True)
class Section:
    """Cells, how their counts come about, and the size of the glass (a square of ``side_um``)."""

    cells: Cells
    expression: Expression
    side_um: float
    number: int
    donor: int


def section_expression(settings: SimulationSettings, number: int) -> Expression:
    """Return the count model of a section."""
    return make_expression(
        make_panel(settings.n_genes, settings.seed),
        seed=settings.seed,
        section=number,
        donor=settings.donor_of(number),
        donor_effect=settings.donor_effect,
        panel_effect=settings.panel_effect,
        panel_share=settings.panel_share,
        counts_per_cell=settings.counts_per_cell,
        spill_share=settings.spill_share,
    )


def simulate_section(settings: SimulationSettings, number: int) -> Section:
    """Simulate the cells of section ``number`` (from 0)."""
    donor, seed = settings.donor_of(number), settings.seed
    tilt = generator(seed, Stream.DONOR, donor, 1).standard_normal(1 + len(TYPE_NAMES))
    side_um = float(np.sqrt(settings.n_cells / settings.cells_per_mm2 * 1e6)) * 1.02 + 2 * GLASS_UM
    tissue = make_tissue(generator(seed, Stream.LAYOUT, number), side_um, tilt[0])
    rng = generator(seed, Stream.PLACEMENT, number)
    placement = place_cells(rng, tissue, settings.n_cells, np.exp(0.25 * tilt[1:]))
    states = draw_states(generator(seed, Stream.STATES, number), tissue, placement)
    expression = section_expression(settings, number)
    library = library_size(generator(seed, Stream.FEATURES, number, 0), placement.kind)
    scores = np.concatenate(
        [
            driver_scores(
                expression.panel, draw_counts(expression, block, placement.kind[s], states[s], library[s]).latent
            )
            for block, s in enumerate(blocks(settings.n_cells))
        ]
    )
    features = draw_features(generator(seed, Stream.FEATURES, number, 1), placement.kind, states, scores)
    outlines = _draw_outlines(settings, number, placement, features)
    cells = Cells(
        placement.centre_um,
        placement.kind,
        placement.domain,
        placement.axis,
        states,
        features,
        scores,
        library,
        outlines,
    )
    return Section(cells, expression, side_um, number, donor)


def irregularity(settings: SimulationSettings, number: int, block: int, kind: NDArray[np.int8]) -> Irregularity:
    """Draw the unevenness of one block of cells; the same call always gives the same."""
    rng = generator(settings.seed, Stream.OUTLINES, number, block)
    return draw_irregularity(rng, len(kind), np.isin(kind, POLARISED))


def _draw_outlines(
    settings: SimulationSettings, number: int, placement: Placement, features: NDArray[np.float32]
) -> Outlines:
    tree = cKDTree(placement.centre_um)
    parts = []
    for block, chosen in enumerate(blocks(len(features))):
        limit = neighbour_limits(placement.centre_um, features, placement.axis, chosen, tree)
        own = irregularity(settings, number, block, placement.kind[chosen])
        cell, nucleus = shape(features[chosen], placement.axis[chosen], limit, own)
        parts.append((cell, nucleus, limit))
    return Outlines(*(np.concatenate(part) for part in zip(*parts, strict=True)))
