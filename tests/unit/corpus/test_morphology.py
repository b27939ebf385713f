"""Features of a block are those that scikit-image and numpy give one cell at a time."""

import numpy as np
import pytest
from skimage.feature import graycomatrix, graycoprops

from spatia.corpus.morphology import QUANTILES, STAIN_FEATURES, feature_names, stain_table


@pytest.fixture
def block() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 2, 24, 24), dtype=np.uint8)
    masks = np.zeros((5, 24, 24), np.uint8)
    for i in range(4):
        masks[i, 3 : 12 + i, 2 : 20 - i] = 1
    masks[:, 5:9, 5:9] |= 2 * (masks[:, 5:9, 5:9] > 0).astype(np.uint8)
    return images, masks


def test_intensity_features_are_those_of_the_mask_pixels(block: tuple[np.ndarray, np.ndarray]) -> None:
    images, masks = block
    table = stain_table(images, masks, has_nucleus=True)
    names = feature_names(("a", "b"), has_nucleus=True)[12:]
    assert table.shape == (5, len(names))
    for cell in range(4):
        inside = images[cell, 1][masks[cell] & 1 > 0].astype(float)
        found = dict(zip(names, table[cell], strict=True))
        assert found["b_mean"] == pytest.approx(inside.mean(), rel=1e-5)
        assert found["b_sd"] == pytest.approx(inside.std(), rel=1e-5)
        for q in QUANTILES:
            expected = np.quantile(inside, q, method="inverted_cdf")
            assert found[f"b_q{round(100 * q):02d}"] == expected
        nucleus = images[cell, 1][masks[cell] & 2 > 0].astype(float)
        assert found["b_nucleus_mean"] == pytest.approx(nucleus.mean(), rel=1e-5)


def test_texture_is_haralicks() -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 1, 20, 20), dtype=np.uint8)
    table = stain_table(image, np.ones((1, 20, 20), np.uint8), has_nucleus=False)[0]
    found = dict(zip(STAIN_FEATURES, table, strict=True))
    # both directions pooled, as a sum of co-occurrence matrices
    matrices = graycomatrix(image[0, 0], [1], [0, np.pi / 2], levels=256, symmetric=True)
    pooled = matrices.sum(axis=3, keepdims=True).astype(np.float64)
    pooled /= pooled.sum()
    assert found["contrast"] == pytest.approx(graycoprops(pooled, "contrast")[0, 0], rel=1e-5)
    assert found["correlation"] == pytest.approx(graycoprops(pooled, "correlation")[0, 0], abs=1e-5)
    levels = np.arange(256)
    distance = np.abs(levels[:, None] - levels)
    assert found["homogeneity"] == pytest.approx((pooled[:, :, 0, 0] / (1 + distance)).sum(), rel=1e-5)


def test_a_cell_without_mask_is_not_measured(block: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.isnan(stain_table(*block, has_nucleus=False)[4]).all()


def test_cells_are_measured_one_by_one(block: tuple[np.ndarray, np.ndarray]) -> None:
    images, masks = block
    whole = stain_table(images, masks, has_nucleus=True)
    for cell in range(5):
        np.testing.assert_array_equal(whole[cell], stain_table(images[[cell]], masks[[cell]], has_nucleus=True)[0])
