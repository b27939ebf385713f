"""The presets have the sizes that the design names, with a panel of 500 genes, three stains and 30 measured features."""

import pytest
import torch

from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.models.config import PRESETS, preset
from spatia.models.spatia import Spatia, n_parameters

VOCABULARY = Vocabulary(
    tuple(f"gene{i}" for i in range(500)), ("DAPI", "boundary", "RNA"), tuple(f"feature{i}" for i in range(30))
)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("tiny", 2e6, 5e6), ("base", 40e6 * 0.85, 40e6 * 1.15), ("large", 155e6 * 0.85, 155e6 * 1.15)],
)
def test_number_of_parameters(name: str, least: float, most: float) -> None:
    with torch.device("meta"):  # nothing is allocated
        model = Spatia(preset(name), VOCABULARY)
    assert least <= n_parameters(model) <= most, n_parameters(model)


def test_each_preset_goes_by_its_name() -> None:
    assert {name: config.preset for name, config in PRESETS.items()} == {name: name for name in PRESETS}
    with pytest.raises(SettingsError, match="There are: tiny, base, large"):
        preset("huge")
