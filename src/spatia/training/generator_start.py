"""Start a generator from another one: what both have by the same name is copied, the rest begins anew, and both are said."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from spatia.errors import ModelError, SettingsError
from spatia.generation.checkpoint import MODEL_FOLDER, load_generator
from spatia.generation.generator import CellGenerator
from spatia.generation.settings import AIM, LABEL
from spatia.log import logger
from spatia.models.checkpoint import model_id

NETWORK: Final = "network."
OF_CONDITIONS: Final = tuple(f"condition.{part}." for part in ("absence_tokens", "maps", "scales"))
GRAIN: Final = "grain."  # measured on what the finished generator draws (`grain_images`), not learnt


def start_from(generator: CellGenerator, folder: Path, model: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the weights of a trained generator into a new one.

    The network that draws must be the same. Conditions go by name: those that only one of the two is told begin anew, or are left
    out; so do those whose columns mean something else: other transitions, labels or measurements, or embeddings of another model. A
    generator of transitions may so begin at one of images from expression, which has seen every cell and not only those of two states.
    Each sees its images as standard deviations from the mean of its own training images, so that these may differ; the scale they are
    of may not. The grain of its images is each one's own too, and measured when it is trained.

    Parameters
    ----------
    model
        Digest of the model whose embeddings the new one is told.
    named
        Its transitions and labels, as a generator's facts name them.

    Returns
    -------
    Facts for ``run.json``: what was started from, which conditions were known, new, of other columns, and left out.

    Raises
    ------
    ModelError
        If the folder holds no generator, or its network, channels or image size are others.
    SettingsError
        If it saw images on another scale.
    """
    saved = load_generator(folder)
    given, own = saved.generator.state_dict(), generator.state_dict()
    if saved.generator.space.channels != generator.space.channels or saved.generator.space.px != generator.space.px:
        raise ModelError(
            f"{folder}: draws {', '.join(saved.generator.space.channels)} at {saved.generator.space.px} px; asked for "
            f"{', '.join(generator.space.channels)} at {generator.space.px} px. Start from a generator of the same images."
        )
    if (scale := saved.generator.space.scale) != generator.space.scale:
        raise SettingsError(
            f"{folder}: was trained on images of scale {scale!r}, asked for {generator.space.scale!r}: a step of its network means another "
            f"change there. Set intensity={scale}, or train without --from."
        )
    told = _columns(generator, model, named)
    before = _columns(saved.generator, model_id(folder / MODEL_FOLDER), saved.facts)
    known = {name for name in told if name in before and told[name] == before[name]}
    common = {
        name: given[name]
        for name in own
        if _is_taken(name, known) and name in given and given[name].shape == own[name].shape
    }
    if lost := [name for name in own if name.startswith(NETWORK) and name not in common]:
        raise ModelError(
            f"{folder}: its network has no {lost[0]} of this shape ({len(lost)} such weights). Give the network.* and path.* settings that it "
            "was trained with, or train without --from."
        )
    if saved.generator.config.path != generator.config.path:
        own_path = generator.config.path
        raise ModelError(
            f"{folder}: was trained on the path {saved.generator.config.path}, asked for {own_path}: what its network predicts "
            "means something else there." + (" Take coupling=ot-confidence." if own_path.kind == "step" else "")
        )
    with torch.no_grad():
        for name, value in common.items():
            own[name].copy_(value)
    facts = {
        "generator_id": saved.generator_id,
        "known": sorted(known),
        "new": sorted(told.keys() - before.keys()),
        "other": sorted((told.keys() & before.keys()) - known),
        "left_out": sorted(before.keys() - told.keys()),
    }
    logger.info(
        "started from %s; conditions known: %s; new: %s; of other columns, so begun anew: %s; left out: %s",
        folder,
        *(", ".join(facts[name]) or "none" for name in ("known", "new", "other", "left_out")),
    )
    return facts


def _columns(generator: CellGenerator, model: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the columns of each condition are: their names, or the model that they are of."""
    named = {
        "transition": list(facts.get("transitions", {}).get("names", ())),
        LABEL: list(facts.get("labels", ())),
        AIM: generator.space.features,
    }
    return {name: named.get(name, model) for name in generator.config.told}


def _is_taken(name: str, known: set[str]) -> bool:
    """Say whether a weight is copied: those of conditions where their columns agree."""
    if name.startswith(OF_CONDITIONS):
        return name.split(".")[2] in known
    return not name.startswith(GRAIN)
