"""One way to make settings from what a user gave: strict pydantic models, and one clear sentence where a value is wrong."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from spatia.errors import SettingsError

Settings = TypeVar("Settings", bound=BaseModel)


def make_settings(kind: type[Settings], values: Mapping[str, Any], *, where: str) -> Settings:
    """Validate ``values`` as settings of ``kind``.

    Parameters
    ----------
    kind
        A frozen pydantic model that forbids unknown names.
    values
        Name of each setting and its value; nested settings as nested mappings.
    where
        What the user gave them in, for the message: ``"spatia simulate"``, or the path of a file.

    Raises
    ------
    SettingsError
        Names every wrong setting, its value and what was expected; for an unknown name, the nearest.

    Examples
    --------
    >>> class Sizes(BaseModel, extra="forbid"):
    ...     crop_px: int = 64
    >>> make_settings(Sizes, {"crop_px": "32"}, where="sizes.yaml").crop_px
    32
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems = "; ".join(_problem(kind, detail) for detail in error.errors())
        raise SettingsError(f"{where}: {problems}{'' if problems.endswith('?') else '.'}") from error


def _problem(kind: type[BaseModel], detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = _names_beside(kind, detail["loc"])
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        return f"unknown setting {name!r}, " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
    message = detail["msg"].removeprefix("Value error, ")
    if not name:  # a check of several settings together: its message names them
        return message
    return f"{name} is {detail['input']!r:.80}: {message[0].lower()}{message[1:]}"


def _names_beside(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the setting names of the model that the last part of ``path`` was given to."""
    for part in path[:-1]:
        field = kind.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)
