"""What the simulator promises about tissue, states, genes and pictures."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from spatia.simulate.celltypes import CODE, DOMAIN_CODE, FEATURES, STATES, TYPE_NAMES
from spatia.simulate.expression import draw_counts, make_expression
from spatia.simulate.genes import DRIVERS, PROGRAMS, make_panel
from spatia.simulate.morphology import explained_features
from spatia.simulate.placement import Placement
from spatia.simulate.randomness import Stream, blocks, generator
from spatia.simulate.section import Section, simulate_section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.states import TYPES_WITH, draw_states, neighbour_shares
from spatia.simulate.tables import spill
from spatia.simulate.tissue import make_tissue


@pytest.mark.parametrize("n_cells", [50, 300, 2_000])
def test_there_are_exactly_as_many_cells_as_asked_for(n_cells: int) -> None:
    section = simulate_section(SimulationSettings(n_cells=n_cells), 0)
    assert len(section.cells) == n_cells
    assert section.cells.centre_um.min() > 0
    assert section.cells.centre_um.max() < section.side_um


def test_all_types_and_domains_occur_where_they_belong(tissue_section: Section) -> None:
    cells = tissue_section.cells
    assert np.bincount(cells.kind, minlength=len(TYPE_NAMES)).min() > 20
    share = {
        name: np.bincount(cells.domain[cells.kind == CODE[name]], minlength=6) / (cells.kind == CODE[name]).sum()
        for name in TYPE_NAMES
    }
    tumour = share["tumour"][[DOMAIN_CODE["tumour_core"], DOMAIN_CODE["tumour_margin"]]].sum()
    assert tumour > 0.95
    assert share["luminal"][DOMAIN_CODE["normal_epithelium"]] > 0.8
    assert share["b_cell"][DOMAIN_CODE["immune_aggregate"]] > 0.5


def test_density_is_the_one_asked_for(tissue_section: Section) -> None:
    area_mm2 = (tissue_section.side_um - 50) ** 2 / 1e6
    assert 0.85 * 7_000 < 6_000 / area_mm2 < 1.1 * 7_000


def test_cells_keep_their_distance(tissue_section: Section) -> None:
    distance, _ = cKDTree(tissue_section.cells.centre_um).query(tissue_section.cells.centre_um, k=2)
    assert np.quantile(distance[:, 1], 0.001) > 2.0


def test_states_lie_in_their_range_and_only_types_that_have_one_show_it(tissue_section: Section) -> None:
    cells = tissue_section.cells
    assert 0 <= cells.states.min() <= cells.states.max() <= 1
    for column, state in enumerate(STATES):
        able = np.isin(cells.kind, [CODE[name] for name in TYPES_WITH[state]])
        assert (cells.states[~able, column] == 0).all()
        assert (cells.states[able, column] > 0.5).mean() > 0.005


def test_states_follow_the_neighbourhood() -> None:
    """The same cells among other neighbours have other states, and in the stated direction."""
    section = simulate_section(SimulationSettings(n_cells=1_500, seed=2), 0)
    cells = section.cells
    tissue = make_tissue(generator(2, Stream.LAYOUT, 0), section.side_um, 0.0)
    target = int(np.argmin(np.abs(cells.centre_um - section.side_um / 2).sum(1)))
    near = cKDTree(cells.centre_um).query(cells.centre_um[target], k=16)[1][1:]
    emt = {}
    for neighbour in ("tumour", "fibroblast"):
        kind = cells.kind.copy()
        kind[near], kind[target] = CODE[neighbour], CODE["tumour"]
        placement = Placement(cells.centre_um, kind, cells.domain, cells.axis)
        emt[neighbour] = draw_states(np.random.default_rng(0), tissue, placement)[target, STATES.index("emt")]
    assert emt["fibroblast"] > emt["tumour"] + 0.3


def test_t_cells_are_more_active_beside_tumour(tissue_section: Section) -> None:
    cells = tissue_section.cells
    shares = neighbour_shares(Placement(cells.centre_um, cells.kind, cells.domain, cells.axis))
    t_cells = cells.kind == CODE["t_cell"]
    tumour, active = shares[t_cells, CODE["tumour"]], cells.states[t_cells, STATES.index("activation")]
    assert active[tumour > 0.4].mean() > active[tumour < 0.1].mean() + 0.2


def test_programmes_show_in_the_counts_of_their_type(tissue_section: Section) -> None:
    expression, cells = tissue_section.expression, tissue_section.cells
    block = blocks(len(cells))[2]
    counts = draw_counts(expression, 2, cells.kind[block], cells.states[block], cells.library[block])
    genes = expression.panel.loadings[list(PROGRAMS).index("t_cell")] > 0
    t_cells = cells.kind[block] == CODE["t_cell"]
    kept = counts.kept[:, genes].mean(1)
    assert kept[t_cells].mean() > 5 * kept[~t_cells].mean()


def test_counts_vary_more_than_poisson(tissue_section: Section) -> None:
    """NB: variance = mean + mean² / shape, measured over draws at one rate."""
    expression = replace(tissue_section.expression, spill_share=0.0)
    n = 4_000
    kind, states = np.full(n, CODE["tumour"], np.int8), np.zeros((n, 4), np.float32)
    counts = draw_counts(expression, 0, kind, states, np.ones(n, np.float32)).kept
    mean, variance = counts.mean(0), counts.var(0)
    busy = mean > 1
    floor = mean + mean**2 / expression.panel.dispersion  # the cells' own programme factors add to it
    assert (variance[busy] > 0.85 * floor[busy]).all()
    programme = (expression.panel.loadings > 0).any(0)
    np.testing.assert_allclose(variance[busy & ~programme], floor[busy & ~programme], rtol=0.25)


def test_spilled_transcripts_go_to_near_neighbours_and_none_is_lost(tissue_section: Section) -> None:
    cells = tissue_section.cells
    tree = cKDTree(cells.centre_um)
    spilled = spill(tissue_section, tree)
    moved = sum(
        draw_counts(tissue_section.expression, k, cells.kind[b], cells.states[b], cells.library[b]).moved.sum()
        for k, b in enumerate(blocks(len(cells)))
    )
    assert len(spilled.target) == moved
    distance = np.linalg.norm(cells.centre_um[spilled.target] - cells.centre_um[spilled.source], axis=1)
    sixth = tree.query(cells.centre_um[spilled.source], k=7)[0][:, -1]
    assert (distance > 0).all()
    assert (distance <= sixth + 1e-9).all()


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: f"{driver.gene}-{driver.feature}")
def test_a_driver_moves_its_feature_and_no_other(driver: object) -> None:
    column = DRIVERS.index(driver)  # type: ignore[arg-type]
    kind, states = np.array([CODE["tumour"]], np.int8), np.zeros((1, 4), np.float32)
    low, high = np.zeros((1, len(DRIVERS)), np.float32), np.zeros((1, len(DRIVERS)), np.float32)
    high[0, column] = 1
    shift = (explained_features(kind, states, high) - explained_features(kind, states, low))[0]
    assert shift[FEATURES.index(DRIVERS[column].feature)] == pytest.approx(DRIVERS[column].effect)
    assert (np.delete(shift, FEATURES.index(DRIVERS[column].feature)) == 0).all()


def test_drivers_are_seen_in_the_features_of_cells(tissue_section: Section) -> None:
    """Within one type, each feature correlates with its driver in the stated direction."""
    cells = tissue_section.cells
    tumour = cells.kind == CODE["tumour"]
    for column, driver in enumerate(DRIVERS):
        feature = cells.features[tumour, FEATURES.index(driver.feature)]
        assert np.corrcoef(cells.scores[tumour, column], feature)[0, 1] * np.sign(driver.effect) > 0.1


def test_donors_differ_and_sections_of_one_donor_less_so() -> None:
    panel = make_panel(300, seed=0)
    common = {"donor_effect": 0.3, "panel_effect": 0.1, "panel_share": 1.0, "counts_per_cell": 150, "spill_share": 0.05}
    first, same, other = (
        np.log(make_expression(panel, seed=0, section=section, donor=donor, **common).effect)
        for section, donor in ((0, 0), (1, 0), (2, 1))
    )
    assert np.std(first - same) < 0.6 * np.std(first - other)


@pytest.mark.parametrize("n_genes", [60, 300, 700])
def test_panels_of_any_size_hold_the_drivers(n_genes: int) -> None:
    panel = make_panel(n_genes, seed=1)
    assert len(set(panel.symbols)) == len(set(panel.gene_ids)) == n_genes
    assert {driver.gene for driver in DRIVERS} <= set(panel.symbols)


def test_a_symbol_has_the_same_id_in_every_study_and_panel() -> None:
    small, large = make_panel(60, seed=1), make_panel(700, seed=2)
    known = dict(zip(large.symbols, large.gene_ids, strict=True))
    assert all(known[symbol] == gene_id for symbol, gene_id in zip(small.symbols, small.gene_ids, strict=True))
