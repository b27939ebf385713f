"""A model as a folder: ``model.json`` (what it is) and ``model.safetensors`` (its weights). Loaded strictly, never unpickled."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spatia.config import make_settings
from spatia.corpus.files import sha256, whole_file, write_json
from spatia.data.vocabulary import Vocabulary
from spatia.errors import ModelError
from spatia.models.config import ModelConfig
from spatia.models.shipped import model_folder
from spatia.models.spatia import Spatia
from spatia.version import __version__

FORMAT: Final = "spatia-model"
FORMAT_VERSION: Final = 1
MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "model.safetensors"


def save_model(folder: Path, model: Spatia, facts: Mapping[str, Any] | None = None) -> None:
    """Write a model folder; each file is written aside and renamed, the description last.

    Parameters
    ----------
    folder
        Made if it is not there.
    facts
        What else to store in ``model.json`` under ``"facts"`` (levels of the corpus, what it was trained on).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_tensors(folder / WEIGHTS_FILE, weights)
    vocabulary = model.vocabulary
    write_json(
        folder / MODEL_FILE,
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "spatia_version": __version__,
            "config": model.config.model_dump(),
            "vocabulary": {
                "genes": list(vocabulary.genes),
                "channels": list(vocabulary.channels),
                "features": list(vocabulary.features),
            },
            "weights_sha256": sha256(folder / WEIGHTS_FILE),
            "facts": dict(facts or {}),
        },
    )


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Spatia:
    """Read a model folder, or ``"tiny"``, which comes with the package.

    Returns
    -------
    The model in evaluation mode.

    Raises
    ------
    ModelError
        If a file is missing or damaged, of another format version, or the weights are not exactly those that the description
        says (names, shapes, digest).
    """
    folder = model_folder(folder)
    content = read_description(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Expected a model folder as `spatia train` writes it.")
    if (found := sha256(path)) != content["weights_sha256"]:
        raise ModelError(
            f"{path}: digest {found[:12]}…, but {MODEL_FILE} says {content['weights_sha256'][:12]}…. The file was changed or is "
            "damaged; copy the model folder again."
        )
    config = make_settings(ModelConfig, content["config"], where=str(folder / MODEL_FILE))
    model = Spatia(config, Vocabulary(**{kind: tuple(names) for kind, names in content["vocabulary"].items()}))
    load_weights(model, read_tensors(path), where=str(path))
    return model.to(device).eval()


def read_description(folder: Path) -> dict[str, Any]:
    """Return the contents of ``model.json``, checked for format and version."""
    path = _description_file(folder)
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        found = (content["format"], content["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a description of a model ({error!r}).") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise ModelError(
            f"{path}: format {found[0]!r}, version {found[1]!r}; expected {FORMAT!r}, version {FORMAT_VERSION}. Train the model "
            "anew, or install the version of spatia that wrote it."
        )
    return content


def _description_file(folder: str | Path) -> Path:
    """Return ``model.json`` of a model folder, or raise ModelError."""
    path = model_folder(folder) / MODEL_FILE
    if not path.is_file():
        unfinished = (path.parent / "checkpoint").is_dir()
        hint = (
            "Its training is not finished: `--resume` goes on."
            if unfinished
            else "Expected a model folder as `spatia train` writes it."
        )
        raise ModelError(f"{path}: no such file. {hint}")
    return path


def model_id(folder: str | Path) -> str:
    """Return what identifies a model: the digest of its description, which holds that of its weights."""
    return hashlib.sha256(_description_file(folder).read_bytes()).hexdigest()


def weights_digest(model: torch.nn.Module) -> str:
    """Return the digest of all weights of a model in memory."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Load weights that must be exactly those of the model.

    Raises
    ------
    ModelError
        Naming weights that are missing, left over, or of another shape.
    """
    own = model.state_dict()
    problems = [
        f"missing {', '.join(sorted(set(own) - set(weights))[:3])}" if set(own) - set(weights) else "",
        f"unknown {', '.join(sorted(set(weights) - set(own))[:3])}" if set(weights) - set(own) else "",
        *(
            f"{name} is {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ),
    ]
    if found := [problem for problem in problems if problem]:
        raise ModelError(f"{where}: the weights do not fit the model: {'; '.join(found[:4])}.")
    model.load_state_dict(dict(weights), strict=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors aside and rename, so that the file is whole or absent."""
    with whole_file(path) as aside:
        save_file(dict(tensors), str(aside))
        mask = os.umask(0)
        os.umask(mask)
        aside.chmod(0o666 & ~mask)  # safetensors makes a file that only its owner can read


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors; a damaged file is named."""
    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read ({error}). Copy the model folder again.") from error
