"""What the rows of a results folder were measured on: of each data set its split, its columns and its labels, in ``data.json``.

Columns of labels may be added later, and taken out again: rows of the other tasks do not depend on them.
"""

from collections.abc import Iterable
from typing import Any, Final

from spatia.bench.dataset import DataSet
from spatia.bench.rows import RowStore
from spatia.corpus.files import read_json, sha256, write_json
from spatia.errors import SettingsError

DATA_FILE: Final = "data.json"
HELD_OUT: Final = "held-out sections"  # how embeddings of whole sections that are held out are read
LABELS: Final = "labels"
_ADDABLE: Final = ("cell_type", "domain", "states", "outcome", "transitions")


def keep_what_data_are(rows: RowStore, data: Iterable[DataSet]) -> None:
    """Write what each data set is, and refuse one that stands there as something else: its rows would be taken for these.

    Rows of before the record was kept are taken as they are. The corpus itself is known by the id in its rows.

    Raises
    ------
    SettingsError
        If rows of a data set were measured on another split, other columns or other labels.
    """
    path = rows.path.with_name(DATA_FILE)
    stand = read_json(path, SettingsError) if path.is_file() else {}
    for one in data:
        name = one.name if one.only_seed is None else f"{one.name}, seed {one.only_seed}"
        is_now = _facts(one)
        was = stand.get(name, {}) if rows.any_of(one.name, one.only_seed) else {}
        if was:
            was = {HELD_OUT: "as they are", **was}  # of before they were aligned
        if isinstance(was.get(LABELS), str):  # of before columns were told apart
            same = one.labels is not None and was[LABELS] == sha256(one.labels)
            was = {**was, LABELS: is_now[LABELS] if same else {"the whole table": was[LABELS]}}
        if differs := _differs(was, is_now):
            raise SettingsError(
                f"{path}: rows of {name!r} stand there that were measured with {'; '.join(differs)}. What was judged on other cells or labels does "
                "not go into one table: give another results folder with -o, or the data set another name."
            )
        kept = {what: was[what] for what in _ADDABLE if was.get(what) and not is_now[what]}
        stand[name] = is_now | kept | {LABELS: {**(was.get(LABELS) or {}), **is_now[LABELS]}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, stand)


def _facts(data: DataSet) -> dict[str, Any]:
    """Return all that says what is asked of which cells, without paths: those may move."""
    facts = data.model_dump(mode="json", exclude={"name", "corpus", "labels", "only_seed"})
    held_out = {HELD_OUT: "aligned"} if data.holds_out_sections else {}
    return {**facts, LABELS: data.label_digests(), **held_out}


def _differs(was: dict[str, Any], is_now: dict[str, Any]) -> list[str]:
    """Return in words what is other than it was; what is named on one side alone is not."""
    pairs = [
        (what, was[what], value)
        for what, value in is_now.items()
        if what in was and what != LABELS and not (what in _ADDABLE and not (was[what] and value))
    ]
    then, now = was.get(LABELS) or {}, is_now[LABELS]
    pairs += [(f"labels of column {name!r}", then[name], now[name]) for name in then if name in now]
    if "the whole table" in then:
        pairs += [("labels", then["the whole table"], "others")]
    return [f"{what} {_short(one)}, now {_short(other)}" for what, one, other in pairs if one != other]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:12] + "…"
