"""The methods by name: one line for each."""

from collections.abc import Iterable

from spatia.bench.choosing import choose
from spatia.bench.methods import concatenation, crops_pca, morphology, nearest, pca, scvi, smoothed_pca, vit
from spatia.bench.methods.method import Method

_ALL = (
    pca.PCA_METHOD,
    pca.PCA_UNSCALED,
    smoothed_pca.SMOOTHED_PCA,
    smoothed_pca.PCA_BESIDE_SMOOTHED,
    scvi.SCVI,
    morphology.MORPHOLOGY,
    concatenation.MORPHOLOGY_BESIDE_SMOOTHED,
    crops_pca.CROPS_PCA,
    vit.VIT,
    concatenation.CONCATENATION,
    concatenation.ALL_BESIDE_SMOOTHED,
    nearest.KNN_GENES,
    nearest.KNN_IMAGE,
    nearest.KNN_BOTH,
)
BASELINES: dict[str, Method] = {method.name: method for method in _ALL}

SLOW = ("scvi", "vit-b/16")  # left out of the quick suite


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
