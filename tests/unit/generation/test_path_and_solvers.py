"""Paths end where they should, and solvers integrate what they are given."""

import itertools

import pytest
import torch

from spatia.errors import SettingsError
from spatia.generation.guidance import guided
from spatia.generation.path import PATHS, LinearImage, make_path
from spatia.generation.settings import LEAST_ADAPTIVE, PathSettings, SolverSettings
from spatia.generation.solvers import SOLVERS, solve

STEP = ("step", "image")
NAMES = [name for name in PATHS if name != STEP]


def images(seed: int, rows: int = 4) -> torch.Tensor:
    return torch.randn(rows, 2, 3, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_ends(name: tuple[str, str]) -> None:
    path, x_0, x_1 = PATHS[name](), images(0), images(1)
    assert torch.allclose(path.point(x_0, x_1, torch.zeros(4)), x_0, atol=1e-6)
    assert torch.allclose(path.point(x_0, x_1, torch.ones(4)), x_1, atol=1e-6)


def test_a_step_leads_from_the_source_to_what_the_network_says() -> None:
    path, x_0, x_1, t = PATHS[STEP](), images(0), images(1), torch.zeros(4)
    assert torch.equal(path.point(x_0, x_1, t), x_0)
    assert path.error(x_1, x_0, x_1, x_0, t).max() == 0
    assert torch.equal(path.image(x_1, x_0, t), x_1)
    settings = SolverSettings(kind="euler", evaluations=1)
    walked = solve(lambda x, t, rows: path.velocity(x_1, x, t), x_0, settings)
    assert torch.allclose(walked.x, x_1, atol=1e-6)


def truth(name: tuple[str, str], x_0: torch.Tensor, x_1: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return what a perfect network would give."""
    s = (t.view(-1, 1, 1, 1) * torch.pi / 2).sin()
    c = (t.view(-1, 1, 1, 1) * torch.pi / 2).cos()
    return {
        ("linear", "velocity"): x_1 - x_0,
        ("linear", "image"): x_1,
        ("diffusion", "velocity"): c * x_1 - s * x_0,
        ("diffusion", "noise"): x_0,
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_network_has_no_error_and_says_the_image(name: tuple[str, str]) -> None:
    path, x_0, x_1, t = PATHS[name](), images(0), images(1), torch.tensor([0.1, 0.4, 0.7, 0.9])
    x_t, output = path.point(x_0, x_1, t), truth(name, x_0, x_1, t)
    assert path.error(output, x_0, x_1, x_t, t).max() < 1e-8
    assert torch.allclose(path.image(output, x_t, t), x_1, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_velocity_is_the_derivative_of_the_path(name: tuple[str, str]) -> None:
    path, x_0, x_1, t = PATHS[name](), images(0).double(), images(1).double(), torch.tensor([0.2, 0.4, 0.7, 0.9])
    t, h = t.double(), 1e-5
    slope = (path.point(x_0, x_1, t + h) - path.point(x_0, x_1, t - h)) / (2 * h)
    found = path.velocity(truth(name, x_0, x_1, t), path.point(x_0, x_1, t), t)
    assert torch.allclose(found, slope, atol=1e-6)


def test_paths_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"path.prediction=noise with path.kind=linear"):
        PathSettings(kind="linear", prediction="noise")
    with pytest.raises(SettingsError, match=r"path.prediction=image with path.kind=diffusion"):
        PathSettings(kind="diffusion", prediction="image")
    assert make_path(PathSettings(kind="diffusion")).velocity is not None


def parabola(x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return 3 * t.view(-1, 1, 1, 1) ** 2 + 0 * x


@pytest.mark.parametrize(
    ("kind", "evaluations", "within"),
    [("euler", 200, 0.01), ("midpoint", 20, 0.005), ("heun", 39, 0.01), ("adaptive", 60, 0.02)],
)
def test_solvers_integrate_a_parabola(kind: str, evaluations: int, within: float) -> None:
    solution = solve(parabola, torch.zeros(3, 1, 2, 2), SolverSettings(kind=kind, evaluations=evaluations, early=1))
    assert abs(solution.x - 1).max() < within
    assert solution.evaluations.max() <= evaluations


@pytest.mark.parametrize("early", [1.0, 2.0])
def test_steps_are_even_in_a_root_of_the_time_and_a_walk_in_parts_takes_the_same(early: float) -> None:
    settings, asked = SolverSettings(kind="euler", evaluations=4, early=early), []

    def velocity(x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        asked.append(float(t[0]))
        return 0 * x

    solve(velocity, torch.zeros(1, 1, 2, 2), settings)
    whole = asked.copy()
    assert whole == pytest.approx([(step / 4) ** early for step in range(4)])
    asked.clear()
    half, middle = settings.model_copy(update={"evaluations": 2}), 0.5**early
    solve(velocity, torch.zeros(1, 1, 2, 2), half, stop=middle)
    solve(velocity, torch.zeros(1, 1, 2, 2), half, start=middle)
    assert asked == pytest.approx(whole)


@pytest.mark.parametrize("kind", list(SOLVERS))
def test_a_straight_way_needs_no_small_steps(kind: str) -> None:
    """A constant velocity is walked exactly, whatever the steps."""
    speed = images(5, rows=3)
    solution = solve(lambda x, t, rows: speed[rows], 0 * speed, SolverSettings(kind=kind, evaluations=8))
    assert torch.allclose(solution.x, speed, atol=1e-5)


@pytest.mark.parametrize("evaluations", [20, 50, 200])
@pytest.mark.parametrize("kind", list(SOLVERS))
def test_a_network_that_knows_the_image_arrives_at_it(kind: str, evaluations: int) -> None:
    """However short the last steps: a velocity that is cut off near the end falls short of it."""
    path, source, target = LinearImage(), images(1), images(2)
    settings = SolverSettings(kind=kind, evaluations=evaluations)
    found = solve(lambda x, t, rows: path.velocity(target[rows], x, t), source, settings).x
    assert torch.allclose(found, target, atol=1e-3)


@pytest.mark.parametrize("kind", list(SOLVERS))
def test_rows_do_not_know_of_each_other(kind: str) -> None:
    settings = SolverSettings(kind=kind, evaluations=40, tolerance=0.01)
    stiff = torch.tensor([1.0, 30.0, 5.0]).view(-1, 1, 1, 1)

    def towards(x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return stiff[rows] * (1 - x)

    together = solve(towards, torch.zeros(3, 1, 2, 2), settings)
    alone = solve(lambda x, t, rows: stiff[2:] * (1 - x), torch.zeros(1, 1, 2, 2), settings)
    assert torch.allclose(together.x[2], alone.x[0], atol=1e-6)


def test_the_adaptive_solver_spends_where_it_is_needed() -> None:
    settings = SolverSettings(kind="adaptive", evaluations=200, tolerance=0.001)
    stiff = torch.tensor([0.1, 20.0]).view(-1, 1, 1, 1)
    solution = solve(lambda x, t, rows: stiff[rows] * (1 - x), torch.zeros(2, 1, 2, 2), settings)
    assert solution.evaluations[0] < solution.evaluations[1] <= 200


def test_too_few_evaluations_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"solver.evaluations=1 with solver.kind=midpoint"):
        solve(parabola, torch.zeros(1, 1, 2, 2), SolverSettings(kind="midpoint", evaluations=1))


@pytest.mark.parametrize("evaluations", range(1, 16))
def test_the_adaptive_solver_keeps_its_budget(evaluations: int) -> None:
    values = {"kind": "adaptive", "evaluations": evaluations, "tolerance": 1e-6}
    if evaluations < LEAST_ADAPTIVE:
        with pytest.raises(SettingsError, match=rf"solver.evaluations={evaluations} .* at least {LEAST_ADAPTIVE}"):
            SolverSettings(**values)
        return
    stiff = solve(lambda x, t, rows: 30 * (t.view(-1, 1, 1, 1) * 40).sin() - x, images(0), SolverSettings(**values))
    assert LEAST_ADAPTIVE <= stiff.evaluations.max() <= evaluations


@pytest.mark.parametrize("kind", list(SOLVERS))
def test_two_halves_are_the_whole_way(kind: str) -> None:
    settings = SolverSettings(kind=kind, evaluations=60)
    half = solve(parabola, torch.zeros(1, 1, 2, 2), settings, stop=0.5)
    whole = solve(parabola, half.x, settings, start=0.5)
    assert abs(whole.x - 1).max() < 0.05


def test_guidance_of_one_is_the_condition_alone() -> None:
    asked: list[bool] = []

    def velocity(x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor, told: bool) -> torch.Tensor:
        asked.append(told)
        return x + float(told)

    x, t, rows = torch.zeros(2), torch.zeros(2), torch.arange(2)
    assert guided(velocity, 1.0)(x, t, rows).tolist() == [1.0, 1.0]
    assert asked == [True]
    assert guided(velocity, 0.0)(x, t, rows).tolist() == [0.0, 0.0]
    assert guided(velocity, 2.5)(x, t, rows).tolist() == [2.5, 2.5]


def test_every_kind_of_solver_is_a_setting() -> None:
    kinds = SolverSettings.model_fields["kind"].annotation
    assert set(SOLVERS) == set(kinds.__args__)  # type: ignore[union-attr]
    assert all(a != b for a, b in itertools.combinations(SOLVERS.values(), 2))
