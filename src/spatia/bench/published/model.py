"""What a published model is here: where it comes from, the files it is made of, and how those become an embedding."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spatia.bench.methods.method import Embed, Modality
from spatia.errors import ModelError


@dataclass(frozen=True)
class PublishedModel:
    """A model that others trained and published.

    Attributes
    ----------
    name
        As the command line takes it.
    reads
        What its embedding is computed from.
    description
        One line.
    source
        Paper, and where the weights are published.
    files
        Files that its folder must hold, as glob patterns; ``|`` between alternatives, the first that is there is taken.
    load
        Reads a folder; returns an embedding of cells, (n, width), on the CPU, or on a GPU where there is one. Raises ``ModelError`` or
        ``SettingsError`` if a file is missing or damaged, or the weights are not of this architecture.
    draws
        Its published tokenisation draws at random, so that the seed of a problem counts.
    revision
        Raised when the same files give other numbers than before: embeddings that are kept from then are made again.
    """

    name: str
    reads: frozenset[Modality]
    description: str
    source: str
    files: tuple[str, ...]
    load: Callable[[Path], Embed]
    draws: bool = False
    revision: int = 0


def find_file(folder: Path, pattern: str) -> Path:
    """Return the one file of a folder that fits a pattern; of several alternatives the first that is there.

    Parameters
    ----------
    pattern
        Glob patterns with ``|`` between them: ``"model.safetensors|*.bin"``.

    Raises
    ------
    ModelError
        If no file fits, or several fit the same alternative.
    """
    for alternative in pattern.split("|"):
        found = sorted(path for path in folder.glob(alternative) if path.is_file())
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ModelError(
                f"{folder}: {len(found)} files fit {alternative} ({names}); expected one. Move the others."
            )
        if found:
            return found[0]
    held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
    raise ModelError(f"{folder}: no file {' or '.join(pattern.split('|'))}; it holds: {held or 'nothing'}.")


def device() -> torch.device:
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def zeros_for_empty(embedding: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Set given rows to zero: cells without one detected gene that the model knows, of which it has nothing to say."""
    embedding[rows] = 0
    return embedding
