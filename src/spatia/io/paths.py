"""Paths that a file of the slide names: they may not lead out of the slide's folder."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from spatia.errors import SlideError


def path_inside(folder: Path, name: str, named_by: str) -> Path:
    """Return ``folder / name`` after checking that it stays inside the folder; whether it exists is not asked.

    Parameters
    ----------
    name
        A path as some metadata of the slide gives it: untrusted text.
    named_by
        The file or field that gave it, for the message.

    Raises
    ------
    SlideError
        If the name is empty, absolute, climbs with ``..``, or a link in it leads out of the folder.
    """
    remedy = "Expected a path inside the slide's folder; correct the metadata, or name the file yourself (--image)."
    windows = PureWindowsPath(name)
    if not name.strip() or "\0" in name:
        raise SlideError(f"{folder}: {named_by} names the empty or unprintable path {name!r}. {remedy}")
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root:
        raise SlideError(f"{folder}: {named_by} names the absolute path {name!r}. {remedy}")
    if ".." in windows.parts:
        raise SlideError(f"{folder}: {named_by} names {name!r}, which climbs out of the folder with '..'. {remedy}")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise SlideError(f"{folder}: {named_by} names {name!r}, a link that leads out of the folder. {remedy}")
    return path


def required_file(path: Path, what: str, remedy: str) -> Path:
    """Return ``path`` if it is a file or folder, else say what is missing and what to do."""
    if not path.exists():
        raise SlideError(f"{path}: missing {what}. {remedy}")
    return path
