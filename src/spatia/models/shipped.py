"""The model that comes with the package: a `tiny` one, trained on slides of several instruments (``weights/tiny/CARD.md``).

Its folder is an ordinary model folder, its weights are stored as 16-bit floats. It goes by the name ``tiny`` wherever a model
folder is asked for.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

from spatia.errors import ModelError

NAME: Final = "tiny"


def shipped_model() -> Path:
    """Return the folder of the model that comes with the package.

    Raises
    ------
    ModelError
        If the package was installed without it.
    """
    folder = Path(str(files("spatia"))) / "weights" / NAME
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: the model of the package is not there. Install spatia again, or give a model folder."
        )
    return folder


def model_folder(given: str | Path) -> Path:
    """Return a model folder as given, or that of the package for its name, where no folder of that name is there."""
    return shipped_model() if str(given) == NAME and not Path(given).exists() else Path(given)
