"""What the name of a method stands for in a results folder: settings of ours, files of others, by digests in ``methods.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from spatia.bench.methods.spatia_model import SpatiaSource
from spatia.bench.published.files import digest_of
from spatia.bench.rows import RowStore, read_rows
from spatia.bench.run import folders_with_rows
from spatia.corpus.files import read_json, write_json
from spatia.errors import SettingsError
from spatia.models.checkpoint import model_id

METHODS_FILE: Final = "methods.json"  # in the results folder
OURS_FILE: Final = "ours.json"  # the same as written before 2026-11-28, of our models alone
RANDOM: Final = "random weights"


@dataclass(frozen=True)
class Named:
    """What a name in a results folder stands for.

    Attributes
    ----------
    facts
        What must not change under the name; without paths, as files may move.
    asked
        Where the files lie that are asked for, for an error; empty: the facts say it.
    remedy
        How another name is given.
    bound
        Whether something stands in the folder that was made under this name.
    """

    name: str
    facts: Mapping[str, object]
    asked: str
    remedy: str
    bound: bool


def ours(source: SpatiaSource) -> Named:
    """Return a try of our model: its settings, and the ids of the models that it is or begins with."""
    facts = {
        "settings": sorted(source.settings),
        "model": None if source.model is None else model_id(source.model),
        "from": None if source.start_from is None else model_id(source.start_from),
    }
    # bound without rows, too: trained models may stand
    return Named(f"spatia {source.label}".strip(), facts, "", "Give another --label", bound=True)


def of_files(name: str, path: Path | None, out: Path, rows: pd.DataFrame, remedy: str, *, of: str = "") -> Named:
    """Return a method that is made of files.

    Parameters
    ----------
    path
        A table, or a folder of weights or data; None: random weights.
    out, rows
        The results folder, and the values that stand in it; of some protocols their methods say after a comma how they were read out.
    remedy
        How another name is given, for an error.
    of
        The data set and seed that the files are for, where others have files of their own.
    """
    files = RANDOM if path is None else digest_of(path, without=out)
    bound = any(is_made_of(method, name) for method in rows["method"].unique())
    return Named(f"{name} ({of})" if of else name, {"files": files}, "" if path is None else str(path), remedy, bound)


def is_made_of(method: str, name: str) -> bool:
    """Say whether a method of the rows is made of what has this name.

    Examples
    --------
    >>> is_made_of("uni, ridge", "uni"), is_made_of("m:image + m:genes", "m:genes"), is_made_of("unimodal", "uni")
    (True, True, False)
    """
    return name in method.split(" + ") or method.startswith(f"{name}, ")


def standing_values(out: Path) -> pd.DataFrame:
    """Return the values of a results folder, those among them that a killed worker has not handed over."""
    folders = folders_with_rows(out)
    rows = read_rows(folders) if folders else RowStore(out).frame()
    return rows[rows["status"] == "ok"]


def keep_what_names_are(out: Path, names: Sequence[Named]) -> None:
    """Write what each name stands for, and refuse one that stands there for something else: its rows would be taken for this.

    What stood before this was kept is taken as it is.

    Raises
    ------
    SettingsError
        Naming what differs, and how another name is given.
    """
    path = out / METHODS_FILE
    kept = path if path.is_file() else out / OURS_FILE
    stand = read_json(kept, SettingsError) if kept.is_file() else {}
    for one in names:
        was = stand.get(one.name, {}) if one.bound else {}
        if other := [what for what in one.facts if was and was.get(what) != one.facts[what]]:
            then, now = _short(was.get(other[0])), _short(one.facts[other[0]])
            raise SettingsError(
                f"{path}: {one.name!r} stands there with {other[0]} {then}, but {f'{one.asked} ({now})' if one.asked else now} is asked for: "
                f"its rows would be taken for these. {one.remedy}, or another results folder with -o."
            )
        stand[one.name] = {**was, **one.facts}
    if names:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, stand)


def _short(value: object) -> str:
    """Return a digest by its first twelve digits, all else as it is."""
    kind, colon, digits = str(value).partition("sha256:")
    return f"{kind}{colon}{digits[:12]}…" if colon else str(value)
