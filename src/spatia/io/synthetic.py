"""Generated images must never pass for measured ones: recognise a store of them, whatever it is opened as."""

import json
from pathlib import Path


def is_synthetic(path: Path) -> bool:
    """Say whether a folder is an AnnData zarr that says of itself that its images were generated.

    Looks at ``uns["spatia"]["synthetic"]`` only, and reads no other package's files than the metadata of that one value.

    Examples
    --------
    >>> is_synthetic(Path("nowhere.zarr"))
    False
    """
    flag = path / "uns" / "spatia" / "synthetic"
    if not (flag / "zarr.json").is_file():
        return False
    try:
        import zarr

        node = zarr.open(flag, mode="r")
        return isinstance(node, zarr.Array) and bool(node[()])
    except (ValueError, TypeError, KeyError, OSError, json.JSONDecodeError):
        return True  # it has the mark, and the mark cannot be read: nothing to build a corpus from


def refusal(path: Path) -> str:
    """Return the message with which such a store is refused."""
    return (
        f"{path}: holds generated images (uns['spatia']['synthetic'] is true), not measured ones. They may not enter a corpus; "
        "judge them with `spatia evaluate-generation`."
    )
