"""Slides that tasks of this process have open: each is opened once, whatever the number of tasks."""

import json
import threading

from spatialdata import SpatialData

from spatia.io.read import read_slide
from spatia.io.source import Source

_open: dict[str, SpatialData] = {}
_lock = threading.Lock()
_MOST = 2  # sections are built one after the other


def opened(source: Source) -> SpatialData:
    """Return the slide, opened in this process at the first call. A worker on another machine opens it by itself."""
    name = json.dumps(source.to_json(), sort_keys=True, default=str)
    with _lock:
        if name not in _open:
            while len(_open) >= _MOST:
                _open.pop(next(iter(_open)))
            _open[name] = read_slide(source)
        return _open[name]


def keep_open(source: Source, slide: SpatialData) -> None:
    """Hand over a slide that is open already."""
    with _lock:
        _open[json.dumps(source.to_json(), sort_keys=True, default=str)] = slide


def close(source: Source) -> None:
    """Forget a slide."""
    with _lock:
        _open.pop(json.dumps(source.to_json(), sort_keys=True, default=str), None)
