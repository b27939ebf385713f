"""Checkpoints: a folder of safetensors and JSON that is there whole or not at all. Nothing is pickled."""

import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spatia.corpus.files import sha256
from spatia.errors import TrainingError

FORMAT: Final = "spatia-checkpoint"
FORMAT_VERSION: Final = 1
STATE_FILE: Final = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    path
        Its folder.
    tensors
        Groups of tensors by name: ``weights``, ``average``, ``optimiser``, ``generators``, and ``best`` if there is one.
    state
        Where the run stands.
    """

    path: Path
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def write_checkpoint(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint beside the others, then give it its name, then remove the others.

    A process that is killed at any moment leaves a whole checkpoint: the one before, or this one.

    Parameters
    ----------
    folder
        Holds the checkpoints; each has a number, the greatest counts.
    tensors
        Groups of tensors; each becomes a safetensors file.
    state
        Anything JSON can hold.
    """
    folder.mkdir(exist_ok=True)
    number = max((int(path.name) for path in _finished(folder)), default=0) + 1
    aside = folder / f".{number:06d}.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for group, values in tensors.items():
        on_host = {name: value.detach().cpu().contiguous().clone() for name, value in values.items()}
        save_file(on_host, aside / f"{group}.safetensors")
    groups = {group: sha256(aside / f"{group}.safetensors") for group in sorted(tensors)}
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "groups": groups, **state}
    (aside / STATE_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for path in [*aside.iterdir(), aside]:
        _flush_to_disk(path)
    final = folder / f"{number:06d}"
    aside.rename(final)
    _flush_to_disk(folder)
    for path in folder.iterdir():
        if path != final:
            shutil.rmtree(path)
    return final


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint; None where there is none.

    Raises
    ------
    TrainingError
        If it is damaged or of another format version.
    """
    if not folder.is_dir() or not (finished := _finished(folder)):
        return None
    path = max(finished)
    try:
        state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        found = (state.get("format"), state.get("format_version"))
        if found != (FORMAT, FORMAT_VERSION):
            raise TrainingError(
                f"{path}: format {found[0]!r}, version {found[1]!r}; expected {FORMAT!r}, version {FORMAT_VERSION}. "
                "Resume with the version of spatia that wrote it, or train anew."
            )
        tensors = {group: load_file(path / f"{group}.safetensors") for group in state["groups"]}
        _check_digests(path, state["groups"])
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: the checkpoint cannot be read ({error}). Delete {path.parent.parent} and train anew, or choose another folder with -o."
        ) from error
    return Checkpoint(path, tensors, state)


def _check_digests(path: Path, groups: Mapping[str, str] | Sequence[str]) -> None:
    """Refuse tensors that are not those that were written: a flipped bit is a number like any other."""
    for group, digest in groups.items() if isinstance(groups, Mapping) else ():  # without digests before 2026-11-28
        if sha256(path / f"{group}.safetensors") != digest:
            raise ValueError(f"{group}.safetensors is not as it was written")


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of Python's, numpy's and torch's generators, as tensors."""
    _, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - other people's code may draw from it
    extra = [legacy["state"]["pos"], legacy["has_gauss"], legacy["gauss"]]
    states = {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
        "numpy_rest": torch.tensor(extra, dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_generator_states(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put the generators where :func:`generator_states` found them."""
    gauss = states["python_gauss"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss, value = states["numpy_rest"].tolist()
    key = states["numpy"].numpy().astype(np.uint32)
    state = {"state": {"key": key, "pos": int(position)}, "has_gauss": int(has_gauss), "gauss": value}
    np.random.set_state({"bit_generator": "MT19937", **state})  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def seed_generators(*numbers: int) -> None:
    """Seed Python's, numpy's and torch's generators from several numbers, such as (seed, stage, rank)."""
    words = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002
    torch.manual_seed(int(words[2]))  # every device


def _finished(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.isdigit()]


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
