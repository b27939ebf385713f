"""A slide is known again in another corpus, whatever its name; other slides with the same cell ids are not."""

import numpy as np
import pytest

from spatia.corpus.sketch import LEAST_SHARED, SIZE, shared, sketch

RNG = np.random.default_rng(0)


def cells(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids as every slide of a platform has them, and places."""
    return np.array([f"cell-{k}" for k in range(n)], object), RNG.uniform(0, 5000, (n, 2))


def test_order_and_precision_do_not_matter() -> None:
    ids, place = cells(1000)
    order = RNG.permutation(1000)
    place = np.round(place) + 0.1
    assert sketch(ids, place) == sketch(ids[order], place[order].astype(np.float32).astype(float))
    assert len(sketch(ids, place)) == SIZE


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_the_share_of_common_cells_is_estimated(share: float) -> None:
    ids, place = cells(20_000)
    kept = RNG.random(20_000) < share
    found = shared(sketch(ids, place), sketch(ids[kept], place[kept]))
    assert found == pytest.approx(share, abs=0.12)  # three standard errors of 128 hashes
    assert found >= LEAST_SHARED


def test_equal_ids_elsewhere_are_other_cells() -> None:
    (ids, place), (_, other) = cells(20_000), cells(20_000)
    assert shared(sketch(ids, place), sketch(ids, other)) == 0
