"""Choose entries of a registry by name."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from spatia.errors import SettingsError

_T = TypeVar("_T")


def choose(names: Iterable[str], known: Mapping[str, _T], what: str, more: str = "") -> list[_T]:
    """Return entries by name, "all" for every one.

    Parameters
    ----------
    what
        What an entry is called in an error: "task".
    more
        Added to the error where there are others than those known.

    Raises
    ------
    SettingsError
        If a name is unknown; the message lists the names.

    Examples
    --------
    >>> choose(["all"], {"a": 1, "b": 2}, "letter")
    [1, 2]
    """
    names = list(names)
    if names == ["all"]:
        return list(known.values())
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"Unknown {what} {unknown[0]!r}. Known: {', '.join(known)}{more}.")
    return [known[name] for name in names]
