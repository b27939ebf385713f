"""Start from a trained model: its vocabulary grows by the names of the new corpora, and what is added or absent is said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from spatia.corpus.corpus import Corpus
from spatia.data.sources import joint_levels
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.log import logger
from spatia.models.checkpoint import load_model, model_id
from spatia.models.config import ModelConfig
from spatia.models.grow import KINDS, Growth, grow
from spatia.models.levels import check_levels
from spatia.models.names import known_by_symbol
from spatia.models.spatia import Spatia
from spatia.training.settings import TrainSettings
from spatia.training.sizes import check_sizes
from spatia.training.statistics import measure_statistics

SHOWN_NAMES: Final = 5


def grown_model(folder: Path, corpora: Sequence[Corpus], settings: TrainSettings) -> tuple[Spatia, dict[str, Any]]:
    """Load a model and let it know the names of the corpora.

    Returns
    -------
    The model, and what was known, added and absent (for ``model.json`` and ``run.json``).

    Raises
    ------
    ModelError
        If the folder holds no model, or its crops are of another size.
    SettingsError
        If settings ask for another size of model than it has.
    """
    model = known_by_symbol(load_model(folder), corpora)
    _check_sizes(settings, model.config, folder)
    check_levels(joint_levels(corpora), model.config, corpus=corpora[0].path)
    names = Vocabulary.of(corpora)
    part = settings.part if settings.split else None
    statistics = measure_statistics(corpora, names, model.config, split=settings.split, part=part, seed=settings.seed)
    growth = Growth.between(model.vocabulary, names)
    _say(growth, folder)
    grown = grow(model, names, statistics, seed=settings.seed)
    return grown, {"model_id": model_id(folder), **growth.to_json()}


def _check_sizes(settings: TrainSettings, config: ModelConfig, folder: Path) -> None:
    """Refuse sizes that the model does not have; the default preset stands for whatever it has."""
    default = TrainSettings.model_fields["preset"].default
    check_sizes(settings.sizes)
    if other := [name for name, size in settings.sizes.items() if getattr(config, name) != size]:
        raise SettingsError(
            f"{folder}: its {other[0]} is {getattr(config, other[0])}, but sizes.{other[0]}={settings.sizes[other[0]]} is "
            "asked for. Sizes cannot change in fine-tuning: leave it out, or train a new model without --from."
        )
    if settings.preset not in (default, config.preset):
        raise SettingsError(
            f"{folder}: is of preset {config.preset!r}, but preset={settings.preset!r} is asked for. Sizes cannot change in "
            "fine-tuning: leave the preset out, or train a new model without --from."
        )


def _say(growth: Growth, folder: Path) -> None:
    for kind in KINDS:
        known, added, absent = (getattr(getattr(growth, group), kind) for group in ("known", "added", "absent"))
        if not (known or added or absent):
            continue
        logger.info(
            "%s: %s: %d of %d of the corpus are known, %d added%s, %d of the model's absent from the corpus%s",
            *(folder, kind, len(known), len(known) + len(added)),
            *(len(added), _first(added), len(absent), _first(absent)),
        )
    if growth.added.genes and not growth.known.genes:
        logger.warning(
            "%s: knows none of the corpus's %d genes: what it learnt about genes does not carry over. Are the gene "
            "identifiers of the same kind (gene_id)?",
            *(folder, len(growth.added.genes)),
        )


def _first(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f" ({', '.join(names[:SHOWN_NAMES])}{', …' if len(names) > SHOWN_NAMES else ''})"
