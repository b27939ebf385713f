"""Sizes of a model beside its preset: which may be given, and what is refused before a model is made."""

from types import SimpleNamespace

import pytest
import torch

from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.models.config import preset
from spatia.models.spatia import Spatia
from spatia.training.sizes import check_sizes, fitted_config

VOCABULARY = Vocabulary(("gene1", "gene2"), ("DAPI",), ("area",))


def corpus(px: int) -> SimpleNamespace:
    level = {"cell": (px, 27.2), "niche": (64, 54.4), "tissue": (256, 435.2)}
    return SimpleNamespace(levels={name: SimpleNamespace(px=one, size_um=um) for name, (one, um) in level.items()})


def test_sizes_stand_over_the_preset_and_fit_the_corpora() -> None:
    config = fitted_config(preset("tiny"), [corpus(48)], {"fusion_layers": 0, "patch_px": 12})  # type: ignore[list-item]
    assert (config.fusion_layers, config.patch_px, config.crop_px) == (0, 12, 48)
    with torch.device("meta"):
        parts = Spatia(config, VOCABULARY).state_dict()
    assert not any("cell_fusion.image_layers" in name for name in parts)
    assert fitted_config(preset("tiny"), [corpus(64)]) == preset("tiny")  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"fusion_layer": 0}, r"unknown setting 'fusion_layer', did you mean 'fusion_layers'\?"),
        ({"fusion_layr": None}, "did you mean 'fusion_layers'"),
        ({"crop_px": 32}, r"sizes\.crop_px: the preset, the corpora or a pretrained piece says it"),
        ({"gene_embedding_width": 50}, "says it"),
        ({"image_layers": 2}, r"sizes\.image_layers: the pretrained piece decides it"),
    ],
)
def test_names_that_are_not_the_users_to_say_are_refused(sizes: dict[str, int | None], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_sizes(sizes, {"image_layers"})


@pytest.mark.parametrize(
    "sizes", [{"image_heads": 0}, {"encoder_px": -8}, {"image_width": -128}, {"ratio": float("inf")}, {"width": 33}]
)
def test_values_out_of_range_are_refused(sizes: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"sizes: .*{next(iter(sizes))}"):
        fitted_config(preset("tiny"), [corpus(64)], sizes)  # type: ignore[list-item]
