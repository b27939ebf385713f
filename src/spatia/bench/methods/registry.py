"""The methods by name: one line for each."""

import os
from collections.abc import Iterable, Mapping

from spatia.bench.choosing import choose
from spatia.bench.methods import (
    banksy,
    cca,
    cellcharter,
    concatenation,
    crops_pca,
    harmony,
    hvg,
    lightgbm,
    morphology,
    nearest,
    novae,
    pca,
    resolvi,
    scvi,
    smoothed_pca,
    tangram,
    vit,
    vit_mae,
)
from spatia.bench.methods.method import Method

_ALL = (
    pca.PCA_METHOD,
    pca.PCA_UNSCALED,
    hvg.HVG,
    smoothed_pca.SMOOTHED_PCA,
    smoothed_pca.PCA_BESIDE_SMOOTHED,
    banksy.BANKSY,
    banksy.BANKSY_DOMAINS,
    cellcharter.CELLCHARTER,
    cellcharter.CELLCHARTER_SCVI,
    harmony.HARMONY,
    scvi.SCVI,
    resolvi.RESOLVI,
    novae.NOVAE,
    tangram.TANGRAM,
    morphology.MORPHOLOGY,
    concatenation.MORPHOLOGY_BESIDE_SMOOTHED,
    crops_pca.CROPS_PCA,
    lightgbm.LIGHTGBM,
    vit.VIT,
    vit_mae.VIT_MAE,
    vit_mae.VIT_MAE_TRAINED,
    concatenation.CONCATENATION,
    concatenation.ALL_BESIDE_SMOOTHED,
    cca.CCA,
    nearest.KNN_GENES,
    nearest.KNN_IMAGE,
    nearest.KNN_BOTH,
)
BASELINES: dict[str, Method] = {method.name: method for method in _ALL}

# left out of the quick suite: minutes each, or in need of the extra `rivals`
SLOW = (
    "cellcharter scvi",
    "harmony",
    "lightgbm on image",
    "novae",
    "resolvi",
    "scvi",
    "tangram",
    "vit-b/16",
    "vit-mae",
    "vit-mae trained",
)
# half an hour for 10,000 cells, which random weights are not worth: asked for by name, or by naming weights
OF_WEIGHTS = {vit.VIT.name: vit.WEIGHTS, vit_mae.VIT_MAE.name: vit_mae.WEIGHTS}


def methods_of_suite(quick: bool, environment: Mapping[str, str] = os.environ) -> list[Method]:
    """Return the rivals that take part where the user names none."""
    return [
        method
        for name, method in BASELINES.items()
        if not (quick and name in SLOW) and (name not in OF_WEIGHTS or environment.get(OF_WEIGHTS[name]))
    ]


def chosen_methods(names: Iterable[str]) -> list[Method]:
    """Return methods by name, "all" for every one, "none" for none.

    Raises
    ------
    SettingsError
        If a name is unknown; the message lists the names.
    """
    names = list(names)
    if names == ["none"]:
        return []
    return choose(names, BASELINES, "method", "; our model comes with --spatia or --model")
