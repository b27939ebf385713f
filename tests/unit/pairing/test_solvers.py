"""Plans: exact where they can be compared with POT's exact plan, with the right marginals, or an error."""

from itertools import pairwise

import numpy as np
import ot
import pytest

from spatia.errors import PairingError
from spatia.pairing import solvers
from spatia.pairing.plans import Problem, TransportPlan, costs, rows_of
from spatia.pairing.settings import SolverSettings
from spatia.pairing.solvers import Block, blocks_of, marginal_errors, solve

METHODS = {
    "exact": SolverSettings(method="exact"),
    "sinkhorn": SolverSettings(),
    "small epsilon": SolverSettings(epsilon=0.002, tolerance=1e-3),
    "unbalanced": SolverSettings(balance="unbalanced"),
    "blocks": SolverSettings(max_cells=20),
    "exact blocks": SolverSettings(method="exact", max_cells=20),
    "unbalanced blocks": SolverSettings(balance="unbalanced", max_cells=20),
    "low rank": SolverSettings(large="low_rank", max_cells=20, rank=10),
}
SLOW_LOW_RANK = [pytest.param(name, marks=pytest.mark.slow) if name == "low rank" else name for name in METHODS]


def problem(n: int = 96, m: int = 64, seed: int = 0, d: int = 4) -> Problem:
    """Clusters that move by a shift, in units of the median cost."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(4, d))
    x = centres[rng.integers(0, 4, n)] + 0.4 * rng.normal(size=(n, d))
    y = centres[rng.integers(0, 4, m)] + 0.4 * rng.normal(size=(m, d)) + 1.0
    unit = np.sqrt(np.median(costs(x, y)))
    return Problem(x / unit, y / unit)


def dense(plan: TransportPlan, m: int) -> np.ndarray:
    """The whole plan, of a solve that kept all partners."""
    P = np.zeros((len(plan.rows.partner), m))
    at, rank = np.nonzero(plan.rows.partner >= 0)
    P[at, plan.rows.partner[at, rank]] = plan.rows.probability[at, rank]
    return P / len(P)


def exact_cost(one: Problem) -> float:
    n, m = len(one.source), len(one.target)
    return float(ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), ot.dist(one.source, one.target)))


def test_costs_are_squared_distances() -> None:
    one = problem()
    np.testing.assert_allclose(costs(one.source, one.target), ot.dist(one.source, one.target), atol=1e-10)
    assert costs(one.source, one.source).min() >= 0


def test_the_exact_plan_is_that_of_pot() -> None:
    one = problem()
    plan = solve(one, METHODS["exact"], 64)
    assert plan.convergence.cost == pytest.approx(exact_cost(one), rel=1e-9)
    np.testing.assert_allclose(dense(plan, 64), ot.emd([], [], ot.dist(one.source, one.target)), atol=1e-12)


def test_the_entropic_plan_is_that_of_pots_log_domain_solver() -> None:
    one = problem()
    a, b = np.full(96, 1 / 96), np.full(64, 1 / 64)
    C = ot.dist(one.source, one.target)
    for epsilon in (0.2, 0.01):
        wanted = ot.sinkhorn(a, b, C, epsilon, method="sinkhorn_log", numItermax=100_000, stopThr=1e-12)
        found = dense(solve(one, SolverSettings(epsilon=epsilon, tolerance=1e-9), 64), 64)
        np.testing.assert_allclose(found, wanted, atol=1e-8)


def test_small_epsilon_approaches_the_exact_plan() -> None:
    one = problem(60, 60)
    best = exact_cost(one)
    found = [solve(one, SolverSettings(epsilon=e, tolerance=1e-3), 5) for e in (0.5, 0.1, 0.02, 0.004, 0.0008)]
    gap = [plan.convergence.cost / best - 1 for plan in found]
    assert all(after < before for before, after in pairwise(gap))
    assert gap[0] > 0.3
    assert gap[-1] < 2e-3
    assert found[-1].rows.confidence.mean() > 0.8
    assert found[0].rows.confidence.mean() < 0.3


def test_an_epsilon_that_underflows_plain_scaling_is_solved() -> None:
    one = problem()
    far = Problem(one.source * 40, one.target * 40)  # C / ε up to 10⁵, where exp(-C / ε) is 0
    assert np.exp(-costs(far.source, far.target).min(axis=1).max() / 0.05) == 0
    plan = solve(far, SolverSettings(tolerance=1e-2), 5)
    assert plan.convergence.source_error <= 1e-2


@pytest.mark.parametrize("name", [name for name in METHODS if "unbalanced" not in name])
def test_marginals(name: str) -> None:
    plan = solve(problem(), METHODS[name], 64)
    P = dense(plan, 64)
    errors = marginal_errors(P)
    assert errors[0] <= METHODS[name].tolerance + 1e-12
    # a row that the solver leaves a little more than its mass is shares of that
    assert errors[1] == pytest.approx(plan.convergence.target_error, abs=1e-6)
    assert plan.convergence.mass == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(plan.rows.mass, 96 * P.sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("name", SLOW_LOW_RANK)
def test_the_order_of_cells_does_not_matter(name: str) -> None:
    one = problem()
    a, b = np.random.default_rng(1).permutation(96), np.random.default_rng(2).permutation(64)
    straight = dense(solve(one, METHODS[name], 64), 64)
    shuffled = dense(solve(Problem(one.source[a], one.target[b]), METHODS[name], 64), 64)
    # the start of the low-rank solver is a k-means, which is free to differ
    tolerance = 2e-3 if name == "low rank" else 1e-6
    np.testing.assert_allclose(shuffled, straight[a][:, b], atol=tolerance)


@pytest.mark.parametrize("name", SLOW_LOW_RANK)
def test_a_shift_of_all_targets_changes_no_plan_between_equal_masses(name: str) -> None:
    one = problem()
    moved = dense(solve(Problem(one.source, one.target + 0.3), METHODS[name], 64), 64)
    same = np.allclose(dense(solve(one, METHODS[name], 64), 64), moved, atol=2e-3)
    assert same == ("unbalanced" not in name)


def test_blocks_cost_little_more_than_the_whole_and_far_less_than_random_ones() -> None:
    one = problem(400, 400, d=6)
    best = exact_cost(one)
    settings = SolverSettings(method="exact", max_cells=100)
    gap = solve(one, settings, 5).convergence.cost / best - 1
    rows = np.random.default_rng(0).permutation(400).reshape(4, 100)
    at_random = np.mean([exact_cost(Problem(one.source[own], one.target[own[::-1]])) for own in rows]) / best - 1
    assert 0 <= gap < 0.2
    assert gap < at_random
    assert solve(one, SolverSettings(method="exact", max_cells=200), 5).convergence.cost / best - 1 <= gap


def test_blocks_hold_each_cell_once_and_are_small() -> None:
    one = problem(333, 70)
    blocks = blocks_of(one, 50**2)
    assert sorted(np.concatenate([block.source for block in blocks]).tolist()) == list(range(333))
    assert sorted(np.concatenate([block.target for block in blocks]).tolist()) == list(range(70))
    assert max(len(block.source) * len(block.target) for block in blocks) <= 50**2


@pytest.mark.parametrize(("n", "m"), [(333, 70), (70, 333), (1000, 3), (3, 1000), (81, 80)])
def test_blocks_have_the_right_marginals_up_to_whole_cells(n: int, m: int) -> None:
    found = solve(problem(n, m), SolverSettings(method="exact", max_cells=30), 3).convergence
    assert found.parts > 1
    assert found.target_error <= found.parts / (2 * max(n, m)) < 0.06


def test_a_cut_that_gives_targets_the_wrong_mass_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the plan of every block has the right marginals."""

    def uneven(_: Problem, block: Block) -> list[Block]:
        targets = np.split(block.target, [len(block.target) // 4])
        return [Block(*pair) for pair in zip(np.array_split(block.source, 2), targets, strict=True)]

    monkeypatch.setattr(solvers, "_halves", uneven)
    with pytest.raises(PairingError, match=r"'exact, blocks' did not converge: .* its marginal error is 2.50e-01"):
        solve(problem(40, 40), SolverSettings(method="exact", max_cells=30), 3)


def test_a_single_target_takes_all() -> None:
    rows = solve(problem(30, 1), SolverSettings(max_cells=8), 3).rows
    assert (rows.partner == [0, -1, -1]).all()
    np.testing.assert_allclose(rows.confidence, 1)
    np.testing.assert_allclose(rows.entropy, 0, atol=1e-12)


@pytest.mark.slow
def test_low_rank_is_near_where_there_are_clusters() -> None:
    one = problem(400, 300)
    plan = solve(one, SolverSettings(large="low_rank", max_cells=50, rank=20, epsilon=0.01), 5)
    assert plan.convergence.solver == "low rank"
    assert plan.convergence.cost / exact_cost(one) < 1.3


def test_unbalanced_lets_go_of_what_fits_nothing() -> None:
    one = problem()
    source = np.vstack([one.source, one.source[:5] + 6.0])
    mass = solve(Problem(source, one.target), METHODS["unbalanced"], 5).rows.mass
    assert mass[-5:].max() < 0.05 < 0.3 < mass[:-5].min()
    heavy = solve(one, SolverSettings(balance="unbalanced", mass_penalty=1e4, tolerance=1e-3), 64)
    np.testing.assert_allclose(dense(heavy, 64), dense(solve(one, SolverSettings(), 64), 64), atol=1e-4)


def test_shares_of_an_unbalanced_plan_are_shares_also_where_a_source_is_given_more_than_its_mass() -> None:
    one = Problem(np.array([[0.1], [2.0], [2.0], [2.0]]), np.zeros((1, 1)))
    rows = solve(one, SolverSettings(balance="unbalanced"), 3).rows
    assert rows.mass[0] > 1.5
    assert (rows.confidence <= 1).all()
    np.testing.assert_allclose(rows.confidence, np.minimum(rows.mass, 1))


@pytest.mark.parametrize("iterations", range(1, 40))
def test_a_plan_of_a_larger_epsilon_is_not_taken_for_converged(iterations: int) -> None:
    whole = solve(problem(), SolverSettings(), 5).rows.confidence
    try:
        found = solve(problem(), SolverSettings(max_iterations=iterations), 5).rows.confidence
    except PairingError:
        return
    np.testing.assert_allclose(found, whole, atol=0.02)


@pytest.mark.parametrize("balance", ["balanced", "unbalanced"])
def test_no_convergence_is_an_error(balance: str) -> None:
    settings = SolverSettings(epsilon=0.01, max_iterations=3, balance=balance)
    with pytest.raises(PairingError, match=r"did not converge: after \d+ iterations .* Raise solver.max_iterations"):
        solve(problem(), settings, 5)


def test_no_convergence_of_low_rank_is_an_error() -> None:
    settings = SolverSettings(large="low_rank", max_cells=20, max_iterations=1)
    with pytest.raises(PairingError, match="'low rank' did not converge"):
        solve(problem(), settings, 5)


def test_rows_hold_the_likeliest_partners_and_the_entropy_of_the_whole_row() -> None:
    P = np.array([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 0.4]])
    rows = rows_of(P, np.ones_like(P), 3)
    assert rows.partner.tolist() == [[0, 1, 2], [3, -1, -1]]
    np.testing.assert_allclose(rows.probability, [[0.5, 0.25, 0.25], [0.4, 0, 0]])
    np.testing.assert_allclose(rows.confidence, [0.5, 0.4])
    np.testing.assert_allclose(np.exp(rows.entropy), [2 * np.sqrt(2), 1])
    np.testing.assert_allclose(rows.mass, [1, 0.4])
    many = np.random.default_rng(0).random((5, 200))
    assert (rows_of(many, many, 4).partner == np.argsort(-many, axis=1)[:, :4]).all()


def test_row_confidence_does_not_depend_on_the_size_of_the_group() -> None:
    one = problem(24, 24)
    few = solve(one, SolverSettings(tolerance=1e-8), 5).rows.confidence
    many = solve(Problem(np.tile(one.source, (4, 1)), one.target), SolverSettings(tolerance=1e-8), 5).rows.confidence
    np.testing.assert_allclose(many[:24], few, atol=1e-4)  # the plan's largest entry would be a quarter
