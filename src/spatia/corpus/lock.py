"""One writer for a folder at a time: a corpus that is built, a model that is trained, a run, a benchmark."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from spatia.errors import SettingsError

LOCK_FILE: Final = ".lock"


@contextmanager
def only_writer_of(folder: Path, what: str) -> Iterator[None]:
    """Hold the folder's lock (``LOCK_FILE``), which the system gives back however the process ends.

    Raises
    ------
    SettingsError
        If another process holds it: two would overwrite each other's files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"{folder}: another {what} is writing this folder. Wait for it, or choose another with -o."
            ) from error
        yield
