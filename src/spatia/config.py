"""One way to make settings from what a user gave, values, YAML or NAME=VALUE: strict pydantic models, and one clear sentence where a value is wrong."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
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


def read_settings_of(
    kind: type[Settings],
    command: str,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
) -> Settings:
    """Make settings from a YAML file, then single values, then ``a.b=c`` lines; the later wins.

    Parameters
    ----------
    kind, command
        Which settings, and whose, for messages.
    config
        YAML with settings by name, nested as they are.
    overrides
        Lines ``name=value`` or ``group.name=value``; the value is read as YAML.
    given
        Settings by name, from options of the command line.
    base
        What holds where nothing is given, instead of the defaults: the settings of a run to resume.

    Raises
    ------
    SettingsError
        If the file is no mapping, a line has no ``=``, a name is unknown or a value out of range.
    """
    values: dict[str, Any] = {}
    _merge(values, base or {})
    _merge(values, _read_yaml(config) if config is not None else {})
    _merge(values, given or {})
    for line in overrides:
        _merge(values, _parse_override(line))
    return make_settings(kind, values, where=f"{command} ({config})" if config else command)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names.

    Examples
    --------
    >>> flatten({"lr": 1, "epochs": {"cells": 2}})
    {'lr': 1, 'epochs.cells': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}). Expected a YAML file of settings.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML ({error}).") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise SettingsError(f"{path}: expected settings by name, such as 'lr: 0.001', found {type(content).__name__}.")
    return content


def _parse_override(line: str) -> dict[str, Any]:
    name, sign, text = line.partition("=")
    parts = name.strip().split(".")
    if not sign or not all(parts):
        raise SettingsError(f"--set {line!r}: expected NAME=VALUE, such as lr=0.001 or epochs.cells=5.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {line!r}: the value is not valid YAML.") from error
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _merge(values: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, Mapping):
            inner = values.get(name)
            values[name] = dict(inner) if isinstance(inner, Mapping) else {}
            _merge(values[name], value)
        else:
            values[name] = value


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
