"""Factorial ablations: every combination of the levels of some factors, each a set of settings, and the mean effect of each level.

A combination goes by a name that says its levels, ``"contrast=off fusion=on"``, which stands in the names of its methods.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
        If it cannot be read, a factor has fewer than two levels, a name is no single word or stands twice, two factors set the same
        setting, or there are too many combinations.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_OnceEach)  # noqa: S506 - a safe loader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML ({error}).") from error
    if not isinstance(content, dict) or not content:
        raise SettingsError(
            f"{path}: expected 'factor: {{level: [name=value, …], …}}', found {type(content).__name__}."
        )
    factors = _once((_word(name, path), _levels(name, levels, path)) for name, levels in content.items())
    if (n := math.prod(map(len, factors.values()))) > MOST_COMBINATIONS:
        raise SettingsError(f"{path}: {n} combinations, at most {MOST_COMBINATIONS}: each is a training on each split.")
    names = [{_setting(line) for lines in levels.values() for line in lines} for levels in factors.values()]
    if twice := [name for name, n in Counter(name for of_factor in names for name in of_factor).items() if n > 1]:
        raise SettingsError(f"{path}: two factors set {twice[0]}; the one would undo the other. Make them one factor.")
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
    alternatives = "|".join(re.escape(name) for name in names)
    pattern = re.compile(
        rf"(?<!\S)(?:{alternatives})(?=[ ,]|$)"
    )  # whole words: layers=1 is not the beginning of layers=16
    good = rows[rows["status"] == "ok"].reset_index(drop=True)
    found = {place: one for place, one in zip(good.index, map(pattern.search, good["method"]), strict=True) if one}
    if not found:
        return rows.iloc[:0]
    own = good.loc[list(found)]
    levels = pd.DataFrame([names[one.group()] for one in found.values()], index=own.index, columns=list(factors))
    others = [_without(one) for one in found.values()]
    groups = own.assign(method=others).groupby(["task", "data", "method", "seed", "metric"], sort=False)
    means = [row for _, group in groups if len(group) == len(names) for row in _means(group, levels.loc[group.index])]
    return pd.DataFrame(means, columns=rows.columns)


def _without(found: re.Match[str]) -> str:
    """Return the name of a method without its combination: 'spatia a=on genes, cell' → 'spatia genes, cell'."""
    before, after = found.string[: found.start()].rstrip(), found.string[found.end() :]
    return f"{before}{after}" if before else after.lstrip()


def _means(group: pd.DataFrame, levels: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for factor in levels:
        for level, same in group.groupby(levels[factor], sort=False):
            first = {str(key): value for key, value in same.iloc[0].items()}
            name = f"{first['method']} {factor}={level}".strip()
            yield {
                **first,
                "method": name,
                "value": float(same["value"].mean()),
                "seconds": float(same["seconds"].sum()),
            }


class _OnceEach(yaml.SafeLoader):
    """Refuses a name that stands twice, of which YAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: ARG002 - as its parent has it
        """Return a mapping whose names differ, on and off taken for words."""
        pairs = [(self.construct_object(key, deep=True), value) for key, value in node.value]
        return _once((_text(key), self.construct_object(value, deep=True)) for key, value in pairs)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SettingsError(
                f"{name!r} stands twice in the grid of settings; give each factor and level a name of its own."
            )
        found[name] = value
    return found


def _levels(factor: str, levels: object, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(levels, dict) or len(levels) < 2:
        raise SettingsError(
            f"{path}: {factor} needs two levels at least, each with a list of settings (it may be empty)."
        )
    for level, lines in levels.items():
        if not isinstance(lines, list) or not all(isinstance(line, str) and "=" in line for line in lines):
            raise SettingsError(f"{path}: {factor}, {level}: expected a list of 'name=value', found {lines!r}.")
    return _once((_word(level, path), tuple(lines)) for level, lines in levels.items())


def _setting(line: str) -> str:
    return line.partition("=")[0].strip()


def _text(name: object) -> str:
    # YAML reads on and off as true and false
    return {True: "on", False: "off"}[name] if isinstance(name, bool) else str(name)


def _word(text: str, path: Path) -> str:
    if not _WORD.fullmatch(text):
        raise SettingsError(
            f"{path}: {text!r} names a factor or level; take one word of letters, digits, '_', '-', '+' or '.'."
        )
    return text
