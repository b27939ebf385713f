"""Multimodal, multi-scale, generative modelling of imaging-based spatial transcriptomics.

The names of `__all__` are the Python form of the commands. They are imported when first used (PEP 562), so that
``import spatia`` and ``spatia --help`` do not load a reader or a model.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatia.io.read import read_slide
    from spatia.io.source import Source
    from spatia.version import __version__

# public name -> module that defines it
_DEFINED_IN = {
    "Source": "spatia.io.source",
    "__version__": "spatia.version",
    "read_slide": "spatia.io.read",
}

__all__ = ["Source", "__version__", "read_slide"]


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module 'spatia' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_DEFINED_IN[name]), name)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
