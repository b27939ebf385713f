"""A generator as a folder: ``generator.json``, ``generator.safetensors``, and ``model/``, whose embeddings it is told. Never unpickled."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from spatia.config import make_settings
from spatia.corpus.files import sha256, write_json
from spatia.errors import ModelError
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.settings import GeneratorConfig
from spatia.models.checkpoint import load_weights, model_id, read_tensors, save_tensors
from spatia.version import __version__

FORMAT: Final = "spatia-generator"
FORMAT_VERSION: Final = 3  # 2: with grain; 3: an edit moves pixels
GENERATOR_FILE: Final = "generator.json"
WEIGHTS_FILE: Final = "generator.safetensors"
MODEL_FOLDER: Final = "model"


@dataclass(frozen=True)
class Saved:
    """What a generator folder holds.

    Attributes
    ----------
    generator
        In evaluation mode.
    facts
        What it was trained on; transitions and their signatures.
    generator_id
        Digest of the description, which holds that of the weights.
    """

    generator: CellGenerator
    facts: dict[str, Any]
    generator_id: str


def save_generator(folder: Path, generator: CellGenerator, facts: Mapping[str, Any]) -> None:
    """Write a generator's two files, the description last; ``model/`` must be there already."""
    weights = {name: value.detach().cpu().contiguous() for name, value in generator.state_dict().items()}
    save_tensors(folder / WEIGHTS_FILE, weights)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spatia_version": __version__,
        "config": generator.config.model_dump(mode="json"),
        "space": asdict(generator.space),
        "widths": generator.widths,
        "weights_sha256": sha256(folder / WEIGHTS_FILE),
        "model_id": model_id(folder / MODEL_FOLDER),
        "facts": dict(facts),
    }
    write_json(folder / GENERATOR_FILE, content)


def load_generator(folder: str | Path, device: str | torch.device = "cpu") -> Saved:
    """Read a generator folder strictly.

    Raises
    ------
    ModelError
        If a file is missing or damaged, of another format version, or does not belong to the others.
    """
    folder = Path(folder)
    path = folder / GENERATOR_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Expected a generator folder as `spatia train-generator` writes it.")
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        found = (content["format"], content["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a description of a generator ({error!r}).") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise ModelError(
            f"{path}: format {found[0]!r}, version {found[1]!r}; expected {FORMAT!r}, version {FORMAT_VERSION}. Train the "
            "generator anew, or install the version of spatia that wrote it."
        )
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ModelError(f"{weights}: no such file. Copy the generator folder again.")
    if (digest := sha256(weights)) != content["weights_sha256"]:
        raise ModelError(
            f"{weights}: digest {digest[:12]}…, but {GENERATOR_FILE} says {content['weights_sha256'][:12]}…. The file was changed "
            "or is damaged; copy the folder again."
        )
    if (other := model_id(folder / MODEL_FOLDER)) != content["model_id"]:
        raise ModelError(
            f"{folder / MODEL_FOLDER}: model {other[:12]}…, but the generator was trained with {content['model_id'][:12]}…."
        )
    config = make_settings(GeneratorConfig, content["config"], where=str(path))
    stored: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content["space"].items()
    }
    space = ImageSpace(**stored)
    generator = CellGenerator(config, space, content["widths"], content["facts"].get("channels"))
    load_weights(generator, read_tensors(weights), where=str(weights))
    return Saved(generator.to(device).eval(), content["facts"], hashlib.sha256(path.read_bytes()).hexdigest())
