"""Factorial ablations: every combination of the levels of some factors, each a set of settings, and the mean effect of each level.

A combination goes by a name that says its levels, ``"contrast=off fusion=on"``, which stands in the names of its methods.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final

import pandas as pd
import yaml

from spatia.errors import SettingsError

Factors = Mapping[str, Mapping[str, tuple[str, ...]]]  # factor → level → settings, lines "name=value"
MOST_COMBINATIONS: Final = 64
_WORD: Final = re.compile(r"[\w.+-]+")


def read_factors(path: Path) -> Factors:
    """Read a grid of settings from a YAML file: ``factor: {level: [name=value, …], …}``.

    Raises
    ------
    SettingsError
        If it cannot be read, a factor has fewer than two levels, a name is no single word, or there are too many combinations.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML ({error}).") from error
    if not isinstance(content, dict) or not content:
        raise SettingsError(
            f"{path}: expected 'factor: {{level: [name=value, …], …}}', found {type(content).__name__}."
        )
    factors = {_word(name, path): _levels(name, levels, path) for name, levels in content.items()}
    if (n := len(list(combinations(factors)))) > MOST_COMBINATIONS:
        raise SettingsError(f"{path}: {n} combinations, at most {MOST_COMBINATIONS}: each is a training on each split.")
    return factors


def combinations(factors: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the levels of each combination by factor.

    Examples
    --------
    >>> [name_of(one) for one in combinations({"a": ["on", "off"], "b": ["x"]})]
    ['a=on b=x', 'a=off b=x']
    """
    for levels in product(*factors.values()):
        yield dict(zip(factors, levels, strict=True))


def name_of(levels: Mapping[str, str]) -> str:
    """Return the name of a combination."""
    return " ".join(f"{factor}={level}" for factor, level in levels.items())


def settings_of(factors: Factors, levels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the settings of a combination."""
    return tuple(line for factor, level in levels.items() for line in factors[factor][level])


def main_effects(rows: pd.DataFrame, factors: Mapping[str, Any]) -> pd.DataFrame:
    """Return the mean of each level of a factor over the combinations of the others.

    A seed enters where it has every combination, so that no level has easier company than another.

    Parameters
    ----------
    rows
        Of `spatia.bench.rows`; rows whose method names no combination are passed over.

    Returns
    -------
    Rows of the same form, one for each level, seed, and method but for its levels: ``method`` is "spatia genes contrast=off".
    """
    names = {name_of(levels): levels for levels in combinations(factors)}
    pattern = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))
    good = rows[rows["status"] == "ok"]
    found = [pattern.search(str(method)) for method in good["method"]]
    own = good[[one is not None for one in found]]
    named = [one for one in found if one is not None]
    levels = pd.DataFrame([names[one.group()] for one in named], index=own.index, columns=list(factors))
    others = [" ".join(one.string.replace(one.group(), "").split()).replace(" ,", ",") for one in named]
    groups = own.assign(method=others).groupby(["task", "data", "method", "seed", "metric"], sort=False)
    means = [row for _, group in groups if len(group) == len(names) for row in _means(group, levels.loc[group.index])]
    return pd.DataFrame(means, columns=rows.columns)


def _means(group: pd.DataFrame, levels: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for factor in levels:
        for level, same in group.groupby(levels[factor], sort=False):
            first = {str(key): value for key, value in same.iloc[0].items()}
            name = f"{first['method']} {factor}={level}".strip()
            yield {**first, "method": name, "value": float(same["value"].mean())}


def _levels(factor: object, levels: object, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(levels, dict) or len(levels) < 2:
        raise SettingsError(
            f"{path}: {factor} needs two levels at least, each with a list of settings (it may be empty)."
        )
    found = {}
    for level, lines in levels.items():
        if not isinstance(lines, list) or not all(isinstance(line, str) and "=" in line for line in lines):
            raise SettingsError(f"{path}: {factor}, {level}: expected a list of 'name=value', found {lines!r}.")
        found[_word(level, path)] = tuple(lines)
    return found


def _word(name: object, path: Path) -> str:
    # YAML reads on and off as true and false
    text = {True: "on", False: "off"}[name] if isinstance(name, bool) else str(name)
    if not _WORD.fullmatch(text):
        raise SettingsError(
            f"{path}: {text!r} names a factor or level; take one word of letters, digits, '_', '-', '+' or '.'."
        )
    return text
