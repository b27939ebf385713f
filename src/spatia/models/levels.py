"""Whether the crops of a corpus are those that a model was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spatia.corpus.corpus import Level
from spatia.errors import ModelError
from spatia.models.config import ModelConfig

SCALE_TOLERANCE: Final = 0.01  # of the side of a window


def check_levels(levels: Mapping[str, Level], config: ModelConfig, *, corpus: Path) -> None:
    """Refuse levels of another size: a crop is never rescaled, so that a big cell looks big.

    Raises
    ------
    ModelError
        Naming the level, what was found and what was expected.
    """
    for level, px, size_um in (
        ("cell", config.crop_px, config.crop_um),
        ("niche", config.niche_px, config.niche_um),
        ("tissue", None, config.tissue_um),
    ):
        found = levels[level]
        if (px is not None and found.px != px) or abs(found.size_um - size_um) > SCALE_TOLERANCE * size_um:
            expected = f"{size_um:g} µm" + (f" on {px} px" if px is not None else "")
            raise ModelError(
                f"{corpus}: windows of level {level!r} are {found.size_um:g} µm on {found.px} px, but the model was trained "
                f"on {expected}. A crop is never rescaled: build the corpus with the model's levels."
            )
