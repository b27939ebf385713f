"""Small files and folders written atomically, and digests of large ones."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spatia.errors import SpatiaError

SAMPLED_ABOVE_BYTES = 256 * 2**20
_SAMPLE_BYTES, _SAMPLES = 2**20, 64


def read_json(path: Path, error: type[SpatiaError], *, remedy: str = "") -> dict[str, Any]:
    """Read a JSON object; an ``error`` says that the file is missing or damaged, and the remedy."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as found:
        raise error(f"{path}: no such file. {remedy}".rstrip()) from found
    except ValueError as found:
        raise error(f"{path}: not valid JSON ({found}). {remedy}".rstrip()) from found
    if not isinstance(content, dict):
        raise error(
            f"{path}: expected a JSON object, names and values, found {type(content).__name__}. {remedy}".rstrip()
        )
    return content


def write_json(path: Path, content: Any) -> None:
    """Write JSON aside and rename it, so that the file is whole or absent."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text aside and rename it."""
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; the file takes its place at the end, so that ``path`` is whole, old or new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
    except BaseException:  # Ctrl-C, too, leaves nothing behind
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)


def put_in_place(aside: Path, path: Path) -> None:
    """Rename a finished file or folder to ``path``, in the place of what is there.

    A folder cannot take the place of another in one step: the older one goes aside first and is removed last, so that at no moment
    both are gone.
    """
    old = path.with_name(f".{path.name}.old")
    if old.exists():  # left by a program that was stopped while it removed it
        shutil.rmtree(old)
    if path.is_dir():
        path.replace(old)
    aside.replace(path)
    if old.exists():
        shutil.rmtree(old)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside ``folder`` that takes its place at the end: ``folder`` is whole or absent, never half written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.part")
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir()
    try:
        yield aside
    except BaseException:  # Ctrl-C, too, leaves nothing behind
        shutil.rmtree(aside)
        raise
    put_in_place(aside, folder)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def input_digest(path: Path) -> str:
    """Return a digest by which an input file is recognised again: SHA-256, sampled for very large files.

    Above 256 MiB, the size and 64 evenly spaced MiB are hashed (and the digest says so): an image of 20 GB would take
    longer to hash than its cells to cut.
    """
    size = path.stat().st_size
    if size <= SAMPLED_ABOVE_BYTES:
        return "sha256:" + sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for sample in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return "sampled-sha256:" + digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted by their path relative to it."""
    return sorted(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.relative_to(folder).as_posix()
    )
