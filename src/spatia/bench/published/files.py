"""By what the files of a rival are recognised again: a table, or all that a folder of weights or data holds."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from spatia.corpus.files import input_digest
from spatia.errors import SettingsError


def digest_of(path: Path, *, without: Path | None = None) -> str:
    """Return a digest of a file, or of the names and contents of all files below a folder, wherever it lies.

    Files above 256 MiB are sampled, as `input_digest` says. Hidden files count for nothing: they are what downloads note of themselves.

    Parameters
    ----------
    without
        A folder that is left out, should it lie in there: the results.

    Raises
    ------
    SettingsError
        If there is nothing at that path.
    """
    if path.is_file():
        return input_digest(path)
    if not path.is_dir():
        raise SettingsError(f"{path}: no such file or folder. Expected the files that the method is made of.")
    digest = hashlib.sha256()
    for file in sorted(_files(path, without), key=lambda file: file.relative_to(path).as_posix()):
        digest.update(f"{file.relative_to(path).as_posix()}\n{input_digest(file)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def short_digest(path: Path) -> str:
    """Return the first 16 hexadecimal digits of `digest_of`, for the name of a file."""
    return digest_of(path).rpartition(":")[2][:16]


def _files(folder: Path, without: Path | None) -> Iterator[Path]:
    seen = set() if without is None else {without.resolve()}
    for root, folders, files in os.walk(folder, followlinks=True):  # a large folder is often a link to another disk
        here = Path(root)
        kept = [name for name in folders if not name.startswith(".") and (here / name).resolve() not in seen]
        seen.update((here / name).resolve() for name in kept)  # a link back up ends here
        folders[:] = kept
        yield from (here / name for name in files if not name.startswith(".") and (here / name).is_file())
