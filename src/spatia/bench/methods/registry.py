"""The methods by name: one line for each."""

from collections.abc import Iterable

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
