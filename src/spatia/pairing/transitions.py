"""Transitions of state, named by the user in a YAML file; none is built in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from spatia.config import make_settings
from spatia.errors import SettingsError
from spatia.pairing.conditions import matching, no_column
from spatia.pairing.settings import Scope

_EXAMPLE = "transitions: [{name: emt, source: {where: \"state_emt < 0.3 & type == 'tumour'\"}, target: {where: …}}]"


class Condition(BaseModel):
    """Cells by an expression over obs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: str = Field(min_length=1)


State = Condition | tuple[str, ...]


class Transition(BaseModel):
    """One transition: which cells are its sources, which its targets.

    ``source`` and ``target`` are a value (or values) of the column ``key``, or ``{where: expression over obs}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, pattern=r"^[^/\\\x00-\x1f]+$")
    group: str = ""
    key: str | None = None
    source: State
    target: State
    scope: Scope | None = None

    @field_validator("source", "target", mode="before")
    @classmethod
    def _one_value_is_a_list_of_one(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        values = value if isinstance(value, list | tuple) else [value]
        if not values or not all(isinstance(one, str | int) for one in values):
            raise ValueError("expected a value of the states' column, a list of them, or {where: expression over obs}")
        return tuple(str(one) for one in values)


class _TransitionFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str | None = None
    transitions: tuple[Transition, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> "_TransitionFile":
        names = [one.name for one in self.transitions]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two transitions are named {twice[0]!r}; expected names that differ")
        return self


@dataclass(frozen=True)
class Ends:
    """Which cells are sources and which targets of a transition, each (cells,)."""

    source: NDArray[np.bool_]
    target: NDArray[np.bool_]


def read_transitions(path: str | Path) -> tuple[Transition, ...]:
    """Read transitions from YAML: a list, or a mapping with ``transitions`` and, for all of them, ``key``.

    Raises
    ------
    SettingsError
        If the file is missing, is not YAML, or holds anything but transitions.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file. Expected transitions in YAML: {_EXAMPLE}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}).") from error
    return make_transitions(content, where=str(path))


def make_transitions(content: Any, *, where: str) -> tuple[Transition, ...]:
    """Validate transitions given as Python values, as :func:`read_transitions` reads them."""
    if isinstance(content, list | tuple):
        content = {"transitions": [one.model_dump() if isinstance(one, Transition) else one for one in content]}
    if not isinstance(content, dict):
        raise SettingsError(f"{where}: found {type(content).__name__}, expected {_EXAMPLE}")
    file = make_settings(_TransitionFile, content, where=where)
    return tuple(one if one.key else one.model_copy(update={"key": file.key}) for one in file.transitions)


def find_ends(obs: pd.DataFrame, transition: Transition, *, states: str | None = None) -> Ends:
    """Return the source and target cells of a transition.

    Parameters
    ----------
    states
        Column for values, where the transition does not name one.

    Raises
    ------
    SettingsError
        If a column or value is not there, no cell is a source or a target, or a cell is both.
    """
    source = _cells_of(obs, transition, transition.source, "source", states)
    target = _cells_of(obs, transition, transition.target, "target", states)
    if (both := source & target).any():
        raise SettingsError(
            f"Transition {transition.name!r}: {both.sum():,} cells are source and target at once, first {obs.index[both][0]!r}. "
            "Give states that exclude each other."
        )
    return Ends(source, target)


def _cells_of(
    obs: pd.DataFrame, transition: Transition, state: State, end: str, states: str | None
) -> NDArray[np.bool_]:
    where = f"Transition {transition.name!r}, {end}"
    if isinstance(state, Condition):
        found, said = matching(obs, state.where, where=where), state.where
    else:
        found, said = _by_value(obs, transition.key or states, state, where), " or ".join(state)
    if not found.any():
        raise SettingsError(f"{where}: none of the {len(obs):,} cells is {said!r}. Expected at least one.")
    return found


def _by_value(obs: pd.DataFrame, key: str | None, values: Sequence[str], where: str) -> NDArray[np.bool_]:
    if key is None:
        raise SettingsError(
            f"{where}: {values[0]!r} is a value of no column. Name the column with --states KEY or `key: KEY`, or write "
            "`{where: expression over obs}`."
        )
    if key not in obs:
        raise SettingsError(f"{where}: {no_column(key, list(map(str, obs)))}")
    column = obs[key].astype(object)
    text = column.where(column.isna(), column.astype(str))
    there = sorted(map(str, text.dropna().unique()))
    if missing := [value for value in values if value not in there]:
        names = ", ".join(there[:20]) + (" …" if len(there) > 20 else "")
        raise SettingsError(f"{where}: no cell has {missing[0]!r} in column {key!r}. Its values: {names}.")
    return text.isin(values).to_numpy(bool)
