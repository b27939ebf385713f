"""Slides that tasks of this process have open: each is opened once, whatever the number of tasks."""

import json
import threading

from spatialdata import SpatialData

from spatia import keys
from spatia.io.read import read_slide
from spatia.io.source import Source

_open: dict[str, SpatialData] = {}
_lock = threading.Lock()
_MOST = 2  # sections are built one after the other


def opened(source: Source, *, table: bool = False) -> SpatialData:
    """Return the slide, opened in this process at the first call. A worker on another machine opens it by itself.

    Parameters
    ----------
    table
        Its table is needed: where that was let go of, the slide is opened anew.
    """
    name = _name(source)
    with _lock:
        if name not in _open or (table and keys.TABLE not in _open[name].tables):
            while len(_open) >= _MOST:
                _open.pop(next(iter(_open)))
            _open[name] = read_slide(source)
        return _open[name]


def let_go_of_table(source: Source) -> None:
    """Free the table of an open slide, once its content is on disk."""
    with _lock:
        slide = _open.get(_name(source))
        if slide is not None and keys.TABLE in slide.tables:
            del slide.tables[keys.TABLE]


def keep_open(source: Source, slide: SpatialData) -> None:
    """Hand over a slide that is open already."""
    with _lock:
        _open[_name(source)] = slide


def close(source: Source) -> None:
    """Forget a slide."""
    with _lock:
        _open.pop(_name(source), None)


def _name(source: Source) -> str:
    return json.dumps(source.to_json(), sort_keys=True, default=str)
