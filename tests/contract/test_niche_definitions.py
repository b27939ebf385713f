"""What every niche definition promises, whatever its name."""

import numpy as np
import pytest
import scipy.sparse as sp

from spatia.corpus.niches import NEIGHBOURHOODS, PARTITIONS, TissueCells
from spatia.corpus.settings import BuildSettings, NicheSettings
from spatia.errors import SettingsError

N = 400


@pytest.fixture(scope="module")
def cells() -> TissueCells:
    rng = np.random.default_rng(0)
    position = rng.uniform(0, 435.2, (N, 2))
    left = position[:, 0] < 217
    expression = rng.normal(0, 0.3, (N, 12)) + np.where(left[:, None], np.eye(12)[0] * 3, np.eye(12)[1] * 3)
    return TissueCells(position, np.zeros(2), sp.csr_matrix(np.maximum(expression, 0)))


def settings(name: str) -> BuildSettings:
    return BuildSettings(niches=NicheSettings(definition=name))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PARTITIONS)
def test_a_partition_gives_every_cell_a_niche_and_repeats(name: str, cells: TissueCells) -> None:
    first, second = (PARTITIONS[name].assign(cells, settings(name)) for _ in range(2))
    assert first.shape == (N,)
    assert (first >= 0).all()
    np.testing.assert_array_equal(first, second)
    assert 4 < len(np.unique(first)) < N / 2


@pytest.mark.parametrize("name", PARTITIONS)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_partition_takes_very_few_cells(name: str, n: int, cells: TissueCells) -> None:
    few = TissueCells(cells.position_um[:n], cells.corner_um, cells.expression[:n])
    assert PARTITIONS[name].assign(few, settings(name)).shape == (n,)


def test_adaptive_borders_follow_composition(cells: TissueCells) -> None:
    """Niches of `adaptive` cross the border between two regions less than squares do."""
    left = cells.position_um[:, 0] < 217

    def mixed(name: str) -> float:
        niche = PARTITIONS[name].assign(cells, settings(name))
        share = np.array([left[niche == one].mean() for one in np.unique(niche)])
        return float(np.minimum(share, 1 - share).mean())

    assert mixed("adaptive") < 0.5 * mixed("grid")


@pytest.mark.parametrize("name", NEIGHBOURHOODS)
def test_a_neighbourhood_holds_its_own_cell_and_near_ones(name: str, cells: TissueCells) -> None:
    members = NEIGHBOURHOODS[name](cells.position_um, settings(name))
    whole = members(slice(0, N))
    assert whole.shape == (N, N)
    assert whole.diagonal().all()
    np.testing.assert_array_equal(members(slice(50, 60)).toarray(), whole[50:60].toarray())
    distance = np.linalg.norm(cells.position_um[:, None] - cells.position_um, axis=2)
    inside = whole.toarray()
    for cell in range(0, N, 37):
        assert distance[cell][inside[cell]].max() <= distance[cell][~inside[cell]].min()


def test_radius_and_neighbours_are_what_was_asked_for(cells: TissueCells) -> None:
    near = NEIGHBOURHOODS["radius"](cells.position_um, settings("radius"))(slice(0, N))
    distance = np.linalg.norm(cells.position_um[:, None] - cells.position_um, axis=2)
    np.testing.assert_array_equal(near.toarray(), distance <= 27.2)
    nearest = NEIGHBOURHOODS["knn"](cells.position_um, settings("knn"))(slice(0, N))
    assert set(np.diff(nearest.indptr)) == {13}


def test_niches_must_nest_in_tissue_windows() -> None:
    with pytest.raises(SettingsError, match="not a whole multiple"):
        BuildSettings.model_validate({"niche": {"size_um": 50, "px": 64}})
