"""Distances between sets of generated and real cells: known values, bias, order, and intervals that hold."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import ks_2samp, wasserstein_distance

from spatia.metrics.bootstrap import draw_resamples, interval, mean_estimate
from spatia.metrics.coverage import manifold_scores
from spatia.metrics.frechet import frechet_distance, frechet_estimate, frechet_of_gaussians
from spatia.metrics.kernel_distance import kernel_distance, kernel_distance_estimate
from spatia.metrics.memorisation import memorisation
from spatia.metrics.morphology_distance import _halves, feature_distances, kolmogorov_smirnov, mean_shift, wasserstein
from spatia.metrics.own_cell import own_cell


def normal(n: int, width: int = 5, seed: int = 0, **scale: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width), **scale)


def independent(n: int, m: int, resamples: int = 100):
    return draw_resamples([f"g{i}" for i in range(n)], [f"r{i}" for i in range(m)], resamples)


SET_DISTANCES = [frechet_distance, kernel_distance]


# --- Fréchet


def test_frechet_of_gaussians_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 9)), rng.normal(size=(4, 9))
    s, t = a @ a.T, b @ b.T
    m = rng.normal(size=4)
    expected = m @ m + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet_of_gaussians(m, s, np.zeros(4), t) == pytest.approx(expected, rel=1e-9)
    diagonal = np.diag([1.0, 4.0]), np.diag([9.0, 16.0])  # closed form: sum of (sd - sd')²
    assert frechet_of_gaussians(np.zeros(2), diagonal[0], np.zeros(2), diagonal[1]) == pytest.approx(2**2 + 2**2)


def test_frechet_survives_singular_covariances() -> None:
    flat = np.zeros((3, 3))
    assert frechet_of_gaussians(np.ones(3), flat, np.zeros(3), flat) == pytest.approx(3)
    few = normal(3, width=20)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-9)


def test_a_translation_adds_its_squared_length() -> None:
    a, b = normal(300), normal(200, seed=1)
    step = np.array([3.0, 0, 4, 0, 0])
    far, near = frechet_distance(a + step, b), frechet_distance(a, b)
    gap = (a.mean(axis=0) - b.mean(axis=0)) @ step
    assert far - near == pytest.approx(25 + 2 * gap, rel=1e-9)


# --- what all distances between sets have in common


@pytest.mark.parametrize("distance", SET_DISTANCES)
def test_order_of_rows_does_not_matter(distance) -> None:
    a, b = normal(60), normal(50, seed=1)
    assert distance(a[::-1], np.roll(b, 7, axis=0)) == pytest.approx(distance(a, b), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("distance", SET_DISTANCES)
def test_distance_grows_with_noise(distance) -> None:
    real, base, noise = normal(400), normal(400, seed=1), normal(400, seed=2)
    found = [distance(base + amount * noise, real) for amount in (0.0, 0.5, 1.0, 2.0)]
    assert found == sorted(found)
    assert found[-1] > 10 * abs(found[0])


def test_frechet_of_a_set_with_itself_is_zero() -> None:
    a = normal(100)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_has_no_bias() -> None:
    found = [kernel_distance(normal(40, seed=2 * i), normal(40, seed=2 * i + 1)) for i in range(200)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0 < max(found)


def test_kernel_distance_is_its_definition() -> None:
    x, y = normal(4, 3), normal(5, 3, seed=1)

    def k(a, b) -> float:
        return (a @ b / 3 + 1) ** 3

    xx = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy)


@pytest.mark.parametrize("distance", SET_DISTANCES)
def test_too_few_rows_are_refused(distance) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        distance(normal(1), normal(5))


# --- intervals


def test_the_interval_covers() -> None:
    """The 95 % interval of a mean, and of both distances under a true difference, holds the truth about as often."""
    truth_kernel = kernel_distance(normal(3000, 2, seed=1000) + 1, normal(3000, 2, seed=1001))
    inside = np.zeros(3)
    trials = 120
    for i in range(trials):
        a, b = normal(60, 2, seed=2 * i) + 1, normal(60, 2, seed=2 * i + 1)
        drawn = independent(60, 60)
        mean = mean_estimate(a[:, 0], drawn.generated, 60, 60)
        kernel, frechet = kernel_distance_estimate(a, b, drawn), frechet_estimate(a, b, drawn)
        inside += [
            mean.low <= 1 <= mean.high,
            kernel.low <= truth_kernel <= kernel.high,
            frechet.low <= 2 <= frechet.high,
        ]
    # the cubic kernel has a long tail, and sixty cells are few: its interval is somewhat too short
    assert (inside / trials > [0.9, 0.82, 0.9]).all(), inside / trials


def test_the_interval_shrinks_with_rows_and_holds_the_value() -> None:
    widths = []
    for n in (50, 800):
        found = frechet_estimate(normal(n) + 0.5, normal(n, seed=1), independent(n, n))
        assert found.low <= found.value <= found.high
        assert (found.n_generated, found.n_real) == (n, n)
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_draws_of_a_cell_are_one_unit_and_pairs_stay_pairs() -> None:
    drawn = draw_resamples(["a", "a", "b", "c"], ["c", "b", "z"], 40, seed=3)
    assert (drawn.generated[:, 0] == drawn.generated[:, 1]).all()  # both draws of a
    assert (drawn.generated[:, 2] == drawn.real[:, 1]).all()  # b in both sets
    assert (drawn.real[:, 2] == 1).all()  # the only cell of its kind
    assert (drawn.generated[:, 2] + drawn.generated[:, 3] == 2).all()
    again = draw_resamples(["a", "a", "b", "c"], ["c", "b", "z"], 40, seed=3)
    assert (again.generated == drawn.generated).all()


def test_no_interval_without_resamples() -> None:
    assert np.isnan(interval(1.0, [], most=1)).all()
    assert np.isnan(interval(1.0, [])).all()


def test_intervals_of_shares_and_correlations_stay_within_what_these_can_be() -> None:
    cells = np.arange(200)
    drawn = draw_resamples(cells, cells, 100)
    right = np.ones(200)
    right[0] = 0
    assert mean_estimate(right, drawn.generated, 200, 200).high > 1  # the move knows no end
    assert mean_estimate(right, drawn.generated, 200, 200, least=0, most=1).high == 1
    real, made = normal(200), normal(200)
    real[0] += 10  # alone far out: every score but this row's is perfect
    made[0] += 20
    manifold = manifold_scores(made, real).estimates(drawn)
    assert manifold["precision"].value == 0.995
    copies = memorisation(made, normal(200, seed=1), normal(300, seed=2), drawn)
    own = own_cell(made, real, cells, drawn)
    source = normal(200, seed=3)
    moved = np.array([1.0, 2, 3, 4, 5])
    shift = mean_shift(source, source + moved, source + moved * [1, 1, 1, 1, 1.02], drawn)
    shares = [manifold[name] for name in ("precision", "recall", "coverage")]
    shares += [copies.copies, copies.nearer, own.recognised]
    for least, found in ((0, shares), (-1, [shift.correlation, shift.cosine])):
        assert all(least <= one.low <= one.value <= one.high <= 1 for one in found)
    assert shift.relative_error.low >= 0
    assert min(own.error.low, own.error_of_others.low, manifold["density"].low) >= 0


# --- precision, recall, density, coverage


def test_disjoint_sets_share_nothing_and_equal_sets_everything() -> None:
    a = normal(80)
    apart = manifold_scores(a + 100, a).means()
    assert apart == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    same = manifold_scores(a, a).means()
    assert same["precision"] == same["recall"] == same["coverage"] == 1


def test_a_lost_mode_costs_recall_and_coverage_but_not_precision() -> None:
    real = np.concatenate([normal(100), normal(100, seed=1) + 50])
    scores = manifold_scores(normal(100, seed=2), real).means()
    assert scores["precision"] > 0.85
    assert scores["recall"] < 0.5
    assert scores["coverage"] < 0.52
    estimates = manifold_scores(normal(100, seed=2), real).estimates(independent(100, 200))
    assert estimates["recall"].low <= scores["recall"] <= estimates["recall"].high


def test_invented_cells_cost_precision_but_not_recall() -> None:
    real = normal(100)
    scores = manifold_scores(np.concatenate([normal(100, seed=1), normal(100, seed=2) + 50]), real).means()
    assert scores["precision"] < 0.5
    assert scores["recall"] > 0.85


def test_order_of_rows_does_not_matter_to_manifolds() -> None:
    a, b = normal(30), normal(40, seed=1)
    assert manifold_scores(a[::-1], b[::-1]).means() == pytest.approx(manifold_scores(a, b).means())


# --- single features


def test_feature_distances_are_scipys() -> None:
    a, b = np.round(normal(37, 4), 1), np.round(normal(53, 4, seed=1) * 2 + 0.3, 1)  # rounded: with ties
    for i in range(4):
        assert wasserstein(a, b)[i] == pytest.approx(wasserstein_distance(a[:, i], b[:, i]))
        assert kolmogorov_smirnov(a, b)[i] == pytest.approx(ks_2samp(a[:, i], b[:, i]).statistic)


def test_feature_distances_of_equal_sets_are_zero_and_translate() -> None:
    a = normal(50)
    assert wasserstein(a[::-1], a) == pytest.approx(np.zeros(5), abs=1e-12)
    assert wasserstein(a + 3, a) == pytest.approx(np.full(5, 3.0))
    found = feature_distances(a + 3, a, independent(50, 50))
    assert found.mean_wasserstein.low <= 3 <= found.mean_wasserstein.high
    assert found.mean_kolmogorov_smirnov.high <= 1.01


def test_shift() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(200, 8))
    step = rng.normal(size=8)
    target = rng.normal(size=(300, 8)) + step
    drawn = independent(200, 300)
    right = mean_shift(source, source + step, target, drawn)
    assert right.correlation.value > 0.97
    assert right.relative_error.value < 0.2
    none = mean_shift(source, source.copy(), target, drawn)
    assert none.correlation.value == none.cosine.value == 0
    assert none.relative_error.value == pytest.approx(1)
    wrong = mean_shift(source, source - step, target, drawn)
    assert wrong.correlation.value < -0.97
    assert wrong.relative_error.value > 1.9


def test_cells_that_are_not_moved_predict_no_shift_however_few_they_are() -> None:
    def r(seed: int) -> float:
        others = (normal(100, 40, seed=3 * seed + one) for one in range(3))
        return mean_shift(*others, independent(100, 100)).correlation.value

    assert abs(np.mean([r(seed) for seed in range(12)])) < 0.15  # over one set of sources it would be a half


def test_draws_of_one_cell_are_in_one_half() -> None:
    source = normal(30, 5).repeat(4, axis=0)
    cells = np.arange(30).repeat(4)
    for half in _halves(cells):
        assert set(cells[half]).isdisjoint(cells[~half])
        assert half.sum() == 60
    assert mean_shift(source, source + 1, normal(50, 5) + 1, independent(120, 50), cells).cosine.value > 0.9


# --- memorisation


def test_copies_are_found_and_fresh_cells_are_not() -> None:
    training, held_out = normal(500, 10), normal(200, 10, seed=1)
    drawn = independent(200, 200)
    copied = memorisation(training[:200] + 1e-3, held_out, training, drawn)
    assert copied.copies.value == 1
    assert copied.nearer.value == 1
    assert copied.median_ratio < 0.01
    fresh = memorisation(normal(200, 10, seed=2), held_out, training, drawn)
    assert fresh.copies.value < 0.06
    assert fresh.nearer.low < 0.5 < fresh.nearer.high
    half = np.concatenate([training[:20], normal(180, 10, seed=2)])
    assert memorisation(half, held_out, training, drawn).copies.value == pytest.approx(0.1, abs=0.05)


def test_a_blurred_image_is_near_everything_but_no_copy() -> None:
    training, held_out = normal(500, 10), normal(200, 10, seed=1)
    blurred = 0.1 * normal(200, 10, seed=2)
    found = memorisation(blurred, held_out, training, independent(200, 200))
    assert found.nearer.value > 0.8
    assert found.copies.value < 0.05


# --- own cell


def test_own_cell_is_recognised_and_a_stranger_is_not() -> None:
    real = normal(60)
    own, drawn = np.arange(60), draw_resamples(np.arange(60), np.arange(60), 50)
    found = own_cell(real + 0.05, real, own, drawn)
    assert found.recognised.value > 0.99
    assert found.error.value < 0.2 < found.error_of_others.value
    stranger = own_cell(normal(60, seed=1), real, own, drawn)
    assert stranger.recognised.low < 0.5 < stranger.recognised.high


def test_within_a_group_the_group_alone_recognises_nothing() -> None:
    group = np.repeat(["a", "b"], 40)
    centre = np.where(group == "a", 0.0, 20.0)[:, None]
    real, drawn_of_group = normal(80) + centre, normal(80, seed=1) + centre
    own, drawn = np.arange(80), draw_resamples(np.arange(80), np.arange(80), 50)
    assert own_cell(drawn_of_group, real, own, drawn).recognised.value > 0.7
    within = own_cell(drawn_of_group, real, own, drawn, group).recognised
    assert within.low < 0.5 < within.high


def test_a_cell_is_not_compared_with_itself() -> None:
    """Images that are like the real one of their own cell, or several of one cell, are no nearer for that, and no further."""

    def distance(seed: int, copies: int) -> float:
        real = normal(150, 20, seed=seed)
        drawn = (0.9 * real + np.sqrt(0.19) * normal(150, 20, seed=1000 + seed)).repeat(copies, axis=0)
        cells = np.arange(150)
        return kernel_distance_estimate(drawn, real, draw_resamples(cells.repeat(copies), cells, 2)).value

    for copies in (1, 3):
        values = [distance(seed, copies) for seed in range(12)]
        assert abs(np.mean(values)) < 2.5 * np.std(values) / np.sqrt(12)
