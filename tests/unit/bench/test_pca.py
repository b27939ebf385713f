"""Principal components of a rival: as many as the values have, and no axis of rounding errors."""

import numpy as np
import pytest

from spatia.bench.methods.pca import principal_components


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_axes_of_rounding_are_left_out(rank: int) -> None:
    rng = np.random.default_rng(rank)
    values = rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 40)) + 5
    scores = principal_components(values, np.arange(40), 0)
    assert scores.shape == (60, rank)
    assert np.linalg.matrix_rank(scores[:40] - scores[:40].mean(axis=0), tol=1e-3) == rank
