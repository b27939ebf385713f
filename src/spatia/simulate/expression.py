"""Counts: negative binomial around gene programmes, then spill-over to neighbours.

.. math:: \\mu_{cg} = l_c\\,(b_g + \\sum_p A_{cp} P_{cp} L_{pg})\\,d_g, \\quad
          C_{cg} \\sim \\mathrm{Poisson}(\\mu_{cg} G_{cg}), \\quad G_{cg} \\sim \\Gamma(r_g, 1/r_g)

The latent expression :math:`(b + (A \\circ P) L) G`, before library size and capture, is what drives the picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.simulate.celltypes import CODE, STATES, type_table
from spatia.simulate.genes import DRIVERS, PROGRAMS, Panel, type_activities
from spatia.simulate.randomness import Stream, generator

SPILL_NEIGHBOURS = 6
PROGRAM_SD = 0.6  # SD of the log of each cell's own factor on each programme


@dataclass(frozen=True)
class Expression:
    """How the counts of one section come about; arrays per gene or per programme.

    Parameters
    ----------
    effect
        Donor and capture factor of each gene, (genes,); genes that the section's panel lacks have 0.
    scale
        Factor that brings the typical cell to the wanted number of counts.
    """

    panel: Panel
    effect: NDArray[np.float64]
    scale: float
    seed: int
    section: int
    spill_share: float


@dataclass(frozen=True)
class BlockCounts:
    """Counts of one block of cells, all (cells, genes): what stayed, and what was assigned to a neighbour."""

    latent: NDArray[np.float64]
    rate: NDArray[np.float64]
    kept: NDArray[np.int64]
    moved: NDArray[np.int64]


def activities(kind: NDArray[np.int8], states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the activity of every programme in every cell, (n, programmes).

    Notes
    -----
    States switch their own programme on, EMT switches the epithelial programme off, and activated fibroblasts turn on
    contractile genes.
    """
    table = type_activities()[kind]
    row = {name: number for number, name in enumerate(PROGRAMS)}
    state = {name: states[:, number].astype(np.float64) for number, name in enumerate(STATES)}
    table[:, row["epithelial"]] *= 1 - 0.8 * state["emt"]
    table[:, row["emt"]] += 1.3 * state["emt"]
    table[:, row["proliferation"]] += 1.5 * state["proliferation"]
    table[:, row["activation"]] += 1.3 * state["activation"]
    table[:, row["hypoxia"]] += 1.2 * state["hypoxia"]
    table[:, row["pericyte"]] += 0.5 * state["activation"] * (kind == CODE["fibroblast"])
    return table


def make_expression(
    panel: Panel,
    *,
    seed: int,
    section: int,
    donor: int,
    donor_effect: float,
    panel_effect: float,
    panel_share: float,
    counts_per_cell: float,
    spill_share: float,
) -> Expression:
    """Draw the donor's and the section's effects on every gene."""
    n_genes = len(panel.symbols)
    donor_log = donor_effect * generator(seed, Stream.DONOR, donor, 0).standard_normal(n_genes)
    rng = generator(seed, Stream.PANEL, section)
    effect = np.exp(donor_log + panel_effect * rng.standard_normal(n_genes))
    lost = rng.permutation(n_genes)[: n_genes - round(panel_share * n_genes)]
    effect[lost] = 0.0
    weights = np.array([0.35, 0.06, 0.03, 0.2, 0.06, 0.03, 0.09, 0.1, 0.05, 0.03])
    typical = panel.baseline.sum() + weights @ (type_activities() @ panel.loadings.sum(1))
    return Expression(panel, effect, counts_per_cell / typical, seed, section, spill_share)


def library_size(rng: np.random.Generator, kind: NDArray[np.int8]) -> NDArray[np.float32]:
    """Draw the library size of every cell, (n,), 1 for a typical one."""
    return (type_table("library")[kind] * rng.lognormal(-0.1, 0.45, len(kind))).astype(np.float32)


@dataclass(frozen=True)
class OwnNoise:
    """What is each cell's own: fluctuation of each gene (cells, genes) and programme (cells, programmes), mean 1."""

    gene: NDArray[np.float64]
    program: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> "OwnNoise":
        """Return the noise of some of the cells."""
        return OwnNoise(self.gene[rows], self.program[rows])


def own_noise(expression: Expression, block: int, n_cells: int) -> OwnNoise:
    """Draw the noise of one block of cells; the same call always gives the same."""
    rng = generator(expression.seed, Stream.COUNTS, expression.section, block, 0)
    shape = expression.panel.dispersion
    gene = rng.standard_gamma(shape, (n_cells, len(shape))) / shape
    program = rng.lognormal(-(PROGRAM_SD**2) / 2, PROGRAM_SD, (n_cells, len(PROGRAMS)))
    return OwnNoise(gene, program)


def latent_expression(
    expression: Expression, kind: NDArray[np.int8], states: NDArray[np.float32], own: OwnNoise
) -> NDArray[np.float64]:
    """Return expression before library size, donor and capture, (n, genes)."""
    panel = expression.panel
    return (panel.baseline + (activities(kind, states) * own.program) @ panel.loadings) * own.gene


def draw_counts(
    expression: Expression,
    block: int,
    kind: NDArray[np.int8],
    states: NDArray[np.float32],
    library: NDArray[np.float32],
) -> BlockCounts:
    """Draw the counts of one block; the same call always gives the same counts."""
    latent = latent_expression(expression, kind, states, own_noise(expression, block, len(kind)))
    rate = latent * expression.effect * expression.scale * library[:, None]
    rng = generator(expression.seed, Stream.COUNTS, expression.section, block, 1)
    counts = rng.poisson(rate)
    moved = rng.binomial(counts, expression.spill_share)
    return BlockCounts(latent, rate, counts - moved, moved)


def driver_scores(panel: Panel, latent: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return z of every driver gene, (n, drivers): the log ratio to its reference, saturating at ± 2.5."""
    reference = np.array([driver.reference for driver in DRIVERS])
    own = latent[:, panel.columns(tuple(driver.gene for driver in DRIVERS))]
    return (2.5 * np.tanh(np.log((own + 0.05) / reference) / 2.5)).astype(np.float32)
