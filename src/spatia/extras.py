"""Import optional dependencies, or say which extra brings them."""

import importlib
from types import ModuleType

from spatia.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, which the extra ``spatia[extra]`` installs.

    Raises
    ------
    MissingExtraError
        If the module is not installed; the message gives the pip line.

    Examples
    --------
    >>> require("json", "io").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # the module is there, but one of its own imports is broken: hiding that would mislead
        raise MissingExtraError(
            f"This needs the package {error.name!r}, which is not installed. Install it with: "
            f'pip install "spatia[{extra}]"'
        ) from error
