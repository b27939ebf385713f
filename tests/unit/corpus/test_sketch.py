"""A slide is known again in another corpus, whatever its name; other slides with the same cell ids are not."""

import numpy as np
import pytest
import scipy.sparse as sp

from spatia.corpus.sketch import SIZE, shared, sketch_cells

RNG = np.random.default_rng(0)
GENES = np.array([f"gene-{k}" for k in range(40)], object)


def cells(n: int) -> tuple[np.ndarray, sp.csr_matrix]:
    """Return ids as every slide of a platform has them, and counts."""
    return np.array([f"cell-{k}" for k in range(n)], object), sp.csr_matrix(RNG.poisson(1.0, (n, len(GENES))))


def test_the_order_of_cells_and_genes_does_not_matter() -> None:
    ids, counts = cells(1000)
    order, genes = RNG.permutation(1000), RNG.permutation(len(GENES))
    assert sketch_cells(ids, counts, GENES) == sketch_cells(ids[order], counts[order][:, genes], GENES[genes])
    assert len(sketch_cells(ids, counts, GENES)) == SIZE


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_the_share_of_common_cells_is_estimated(share: float) -> None:
    ids, counts = cells(5000)
    kept = np.flatnonzero(RNG.random(5000) < share)
    found = shared(sketch_cells(ids, counts, GENES), sketch_cells(ids[kept], counts[kept], GENES))
    assert found == pytest.approx(share, abs=0.12)  # three standard errors of 128 cells


def test_equal_ids_elsewhere_are_other_cells() -> None:
    (ids, counts), (_, other) = cells(5000), cells(5000)
    assert shared(sketch_cells(ids, counts, GENES), sketch_cells(ids, other, GENES)) == 0


def test_nearly_empty_cells_say_nothing() -> None:
    ids, counts = cells(50)
    assert sketch_cells(ids, sp.csr_matrix(counts.shape, dtype=int), GENES) == []
