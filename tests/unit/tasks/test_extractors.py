"""The image encoder as an extractor: any batch, any order of channels, and the scale of its principal components."""

import numpy as np
import pytest
from tests.unit.model_setup import setup

from spatia.errors import ModelError
from spatia.tasks.extractors import Extractor, Space, encoder_extractor

__all__ = ["setup"]
IMAGES = np.random.default_rng(0).integers(0, 256, (150, 2, 8, 8), np.uint8)


def test_a_crop_has_the_same_features_in_any_company(setup) -> None:
    extract = encoder_extractor(setup.model, ("DAPI", "boundary"), 3.4).extract
    together = extract(IMAGES)
    assert together.shape == (150, 2 * setup.model.config.width)
    assert together[140:143] == pytest.approx(extract(IMAGES[140:143]), rel=1e-4, abs=1e-5)
    assert np.std(together, axis=0).min() > 0


def test_channels_go_by_name(setup) -> None:
    one = encoder_extractor(setup.model, ("DAPI", "boundary"), 3.4).extract(IMAGES[:5])
    other = encoder_extractor(setup.model, ("boundary", "unknown", "DAPI"), 3.4).extract(IMAGES[:5][:, [1, 0, 0]])
    assert other == pytest.approx(one, rel=1e-5, abs=1e-6)
    with pytest.raises(ModelError, match=r"knows none of the channels PolyT"):
        encoder_extractor(setup.model, ("PolyT",), 3.4)
    with pytest.raises(ModelError, match=r"Images of 16 px; the model expects 8 px"):
        encoder_extractor(setup.model, ("DAPI",), 3.4).extract(np.zeros((1, 1, 16, 16), np.uint8))


def test_wide_features_are_compared_in_components_of_mean_variance_one() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 80)) * 40 + 7
    wide = Space.fit(Extractor("x", "x", lambda images: images), features)
    turned = wide.apply(features)
    assert turned.shape == (300, 32)
    assert turned.var(axis=0).mean() == pytest.approx(1, rel=1e-6)
    plain = Space.fit(Extractor("x", "x", lambda images: images, wide=False), features).apply(features)
    assert plain.var(axis=0) == pytest.approx(np.ones(80), rel=1e-2)
