"""The sizes of a new model: those of its preset, of the corpora it learns from, of pretrained pieces, and those that the user gives."""

from collections.abc import Collection, Mapping, Sequence

from spatia.config import make_settings
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.models.config import ModelConfig

NOT_TO_BE_CHOSEN = frozenset(
    {"preset", "crop_px", "niche_px", "crop_um", "niche_um", "tissue_um", "gene_embedding_width"}
)


def fitted_config(
    config: ModelConfig, corpora: Sequence[Corpus], other: Mapping[str, int | float | None] | None = None
) -> ModelConfig:
    """Return the preset with the crop sizes of the corpora, and with other sizes.

    Raises
    ------
    SettingsError
        If a size is out of range, or a crop is not a whole number of patches.
    """
    levels = corpora[0].levels
    sizes = {
        "crop_px": levels["cell"].px,
        "niche_px": levels["niche"].px,
        "crop_um": levels["cell"].size_um,
        "niche_um": levels["niche"].size_um,
        "tissue_um": levels["tissue"].size_um,
    }
    return make_settings(ModelConfig, {**config.model_dump(), **sizes, **(other or {})}, where="sizes")


def check_sizes(sizes: Mapping[str, int | float | None], decided: Collection[str] = ()) -> None:
    """Refuse names of `sizes.*` that a model does not have, or that are not the user's to say.

    Parameters
    ----------
    decided
        Sizes that pretrained pieces decide.

    Raises
    ------
    SettingsError
        Naming the size, and for an unknown one the nearest.
    """
    for name in sizes:
        if name in NOT_TO_BE_CHOSEN:
            raise SettingsError(f"sizes.{name}: the preset, the corpora or a pretrained piece says it. Leave it out.")
        if name in decided:
            raise SettingsError(f"sizes.{name}: the pretrained piece decides it. Leave one of them out.")
        if name not in ModelConfig.model_fields:
            make_settings(ModelConfig, {name: sizes[name]}, where="sizes")  # says which is the nearest
