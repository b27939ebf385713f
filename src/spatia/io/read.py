"""Open any slide: recognise the platform, call its reader. One platform is one file and one line of `READERS`."""

import importlib
from pathlib import Path

from spatialdata import SpatialData

from spatia.errors import SlideError
from spatia.io.source import Source
from spatia.io.synthetic import is_synthetic, refusal

FILES = ("counts", "image", "outlines", "labels")  # what a user may name beside a folder, or in place of one
# platform -> module with `recognises(folder) -> bool`, `read(source) -> SpatialData` and `READS`, those of the files above
# that it looks at; asked in this order
READERS = {
    "xenium": "spatia.io.xenium",
    "cosmx": "spatia.io.cosmx",
    "merscope": "spatia.io.merscope",
    "visium_hd": "spatia.io.visium_hd",
    "spatialdata": "spatia.io.spatialdata_zarr",
    "generic": "spatia.io.generic",
}


def read_slide(source: Source) -> SpatialData:
    """Open the slide that ``source`` names, lazily, as the border object of ``spatia.io.border``.

    Raises
    ------
    SlideError
        If the folder is of no known platform, or its reader refuses it.
    """
    for given in (source.path, source.counts):
        if given is not None and is_synthetic(Path(given)):
            raise SlideError(refusal(Path(given)))
    platform = _platform(source)
    reader = importlib.import_module(READERS[platform])
    _require_read(source, platform, reader.READS)
    slide: SpatialData = reader.read(source)
    return slide


def recognise(path: Path) -> str:
    """Return the name of the platform whose layout the folder has.

    Raises
    ------
    SlideError
        If it does not exist or no reader recognises it; the message lists what each looks for.
    """
    if not path.exists():
        raise SlideError(f"{path}: no such file or folder. Expected the output folder of a run or a SpatialData zarr.")
    for platform, name in READERS.items():
        if importlib.import_module(name).recognises(path):
            return platform
    looked_for = "; ".join(
        f"{platform}: {importlib.import_module(name).LOOKS_FOR}" for platform, name in READERS.items()
    )
    raise SlideError(f"{path}: not the folder of a known platform. Looked for {looked_for}.")


def _platform(source: Source) -> str:
    if source.platform is None:
        return "generic" if source.path is None else recognise(source.path)
    platform = source.platform.lower()
    if platform not in READERS:
        raise SlideError(f"{source.where}: unknown platform {source.platform!r}. Known: {', '.join(READERS)}.")
    return platform


def _require_read(source: Source, platform: str, reads: tuple[str, ...]) -> None:
    """Refuse a file that the reader would not look at: the user would take its image or outlines for those of the slide."""
    unread = [name for name in FILES if getattr(source, name) is not None and name not in reads]
    if unread:
        named = ", ".join(f"{name}={getattr(source, name)}" for name in unread)
        raise SlideError(
            f"{source.where}: {named} given, which is not read with a slide of {platform}; expected "
            f"{' or '.join(reads) or 'none'} of {', '.join(FILES)} beside it. Leave it out, or name every file yourself, "
            "without the folder (--counts)."
        )
