"""Start a generator from another one: what both have by the same name is copied, the rest begins anew, and both are said."""

from pathlib import Path
from typing import Any

import torch

from spatia.errors import ModelError, SettingsError
from spatia.generation.checkpoint import load_generator
from spatia.generation.generator import CellGenerator
from spatia.log import logger

NETWORK = "network."
GRAIN = "grain."  # measured on what the finished generator draws (`grain_images`), not learnt


def start_from(generator: CellGenerator, folder: Path) -> dict[str, Any]:
    """Copy the weights of a trained generator into a new one.

    The network that draws must be the same. Conditions go by name: those that only one of the two is told begin anew, or are left
    out. A generator of transitions may so begin at one of images from expression, which has seen every cell and not only those
    of two states. Each sees its images as standard deviations from the mean of its own training images, so that these may differ; the
    scale they are of may not. The grain of its images is each one's own too, and measured when it is trained.

    Returns
    -------
    Facts for ``run.json``: what was started from, which conditions were known, new, and left out.

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
    common = {
        name: given[name]
        for name in own
        if not name.startswith(GRAIN) and name in given and given[name].shape == own[name].shape
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
    told, before = set(generator.config.told), set(saved.generator.config.told)
    facts = {
        "generator_id": saved.generator_id,
        "known": sorted(told & before),
        "new": sorted(told - before),
        "left_out": sorted(before - told),
    }
    logger.info(
        "started from %s; conditions known: %s; new: %s; left out: %s",
        folder,
        *(", ".join(facts[name]) or "none" for name in ("known", "new", "left_out")),
    )
    return facts
