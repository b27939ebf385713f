"""The model that comes with the package: a `tiny` one, trained on slides of several instruments (``weights/tiny/CARD.md``).

Its weights are stored as 16-bit floats, half the size; the folder is an ordinary model folder otherwise, and every command
that takes ``--model`` takes it by the name ``tiny``.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import torch

from spatia.corpus.files import sha256, write_json
from spatia.errors import ModelError
from spatia.models.checkpoint import MODEL_FILE, WEIGHTS_FILE, read_description, read_tensors, save_tensors

NAME: Final = "tiny"
MOST_BYTES: Final = 15_000_000


def shipped_model() -> Path:
    """Return the folder of the model that comes with the package.

    Raises
    ------
    ModelError
        If the package was installed without it.
    """
    folder = Path(str(files("spatia"))) / "weights" / NAME
    if not (folder / MODEL_FILE).is_file():
        raise ModelError(f"{folder}: the model of the package is not there. Install spatia again, or give --model.")
    return folder


def model_folder(given: str | Path | None) -> Path:
    """Return a model folder as given, or that of the package for None and for its name where no such folder is there."""
    if given is None or (str(given) == NAME and not Path(given).exists()):
        return shipped_model()
    return Path(given)


def write_shipped(model: Path, out: Path, corpora: Sequence[str]) -> dict[str, Any]:
    """Copy a trained model with half the bytes.

    Parameters
    ----------
    model
        Model folder.
    out
        Folder to make.
    corpora
        Names of what it was trained on, in the order of training: paths of one machine do not ship.

    Returns
    -------
    ``bytes`` of the weights, and the largest ``rounding`` of a weight, as a share of the largest weight of its tensor.

    Raises
    ------
    ModelError
        If the file is larger than a package should carry, or a weight does not fit 16 bits.
    """
    content = read_description(model)
    weights = read_tensors(model / WEIGHTS_FILE)
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    rounding = 0.0
    for name, value in weights.items():
        if not torch.isfinite(half[name]).all():
            raise ModelError(f"{model}: {name} does not fit 16-bit floats.")
        if value.is_floating_point() and value.numel():
            off = (half[name].float() - value).abs().max() / value.abs().max().clamp(min=1e-12)
            rounding = max(rounding, float(off))
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / WEIGHTS_FILE, half)
    size = (out / WEIGHTS_FILE).stat().st_size
    if size > MOST_BYTES:
        raise ModelError(
            f"{out / WEIGHTS_FILE}: {size / 1e6:.1f} MB; a package carries {MOST_BYTES / 1e6:.0f} at most."
        )
    content["weights_sha256"] = sha256(out / WEIGHTS_FILE)
    trained = content["facts"]["corpora"]
    content["facts"]["corpora"] = [
        {"name": name, "corpus_id": one["corpus_id"], "n_cells": one["n_cells"]}
        for name, one in zip(corpora, trained, strict=True)
    ]
    write_json(out / MODEL_FILE, content)
    return {"bytes": size, "rounding": rounding}
