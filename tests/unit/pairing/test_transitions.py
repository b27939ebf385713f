"""Transitions in YAML, and which cells are their ends."""

from pathlib import Path

import pandas as pd
import pytest

from spatia.errors import SettingsError
from spatia.pairing.transitions import find_ends, make_transitions, read_transitions

OBS = pd.DataFrame(
    {"state": ["low", "high", "mid", None], "emt": [0.1, 0.9, 0.5, 0.2], "cluster": [1, 2, 1, 3]}, index=list("abcd")
)
EMT = {"name": "emt", "source": {"where": "emt < 0.3"}, "target": {"where": "emt > 0.6"}}


def written(folder: Path, text: str) -> Path:
    path = folder / "transitions.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_by_value_and_by_expression(tmp_path: Path) -> None:
    text = """
key: state
transitions:
  - {name: up, group: g, source: low, target: [high, mid]}
  - {name: clusters, key: cluster, source: 1, target: 2, scope: niche}
  - name: emt
    source: {where: "emt < 0.3"}
    target: {where: "emt > 0.6"}
"""
    up, clusters, emt = read_transitions(written(tmp_path, text))
    assert (up.key, up.group, up.scope, clusters.key, clusters.scope) == ("state", "g", None, "cluster", "niche")
    for transition, source, target in ((up, "a", "bc"), (clusters, "ac", "b"), (emt, "ad", "b")):
        ends = find_ends(OBS, transition)
        assert ("".join(OBS.index[ends.source]), "".join(OBS.index[ends.target])) == (source, target)


def test_the_key_may_be_given_beside() -> None:
    (up,) = make_transitions([{"name": "up", "source": "low", "target": "high"}], where="here")
    assert find_ends(OBS, up, states="state").source.tolist() == [True, False, False, False]
    with pytest.raises(SettingsError, match=r"'low' is a value of no column. Name the column with --states"):
        find_ends(OBS, up)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: a, source: x", "cannot be read as YAML"),
        ("just text", "found str, expected"),
        ("", "found NoneType, expected"),
        ("transitions: []", "transitions"),
        ("- {name: a, source: x}", "target.*field required"),
        ("- {name: a, source: x, target: y, to: z}", "unknown setting '0.to'|unknown setting 'transitions.0.to'"),
        ("- {name: a, source: [], target: y}", "expected a value of the states' column"),
        ("- {name: a, source: {were: x}, target: y}", "were|where"),
        ("- {name: a, source: 0.5, target: y}", "expected a value"),
        ("- {name: a/b, source: x, target: y}", "name is 'a/b'"),
        ("- {name: a, source: x, target: y, scope: world}", "scope is 'world'"),
        ("[{name: a, source: x, target: y}, {name: a, source: x, target: z}]", "two transitions are named 'a'"),
        ("!!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_errors_of_the_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"(?s)transitions.yaml.*({said})"):
        read_transitions(written(tmp_path, text))


def test_a_missing_file_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no such file\. Expected transitions in YAML"):
        read_transitions(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": {"where": "emt < 0.01"}}, "source: none of the 4 cells is 'emt < 0.01'"),
        ({"target": {"where": "emt > 0.15"}}, "1 cells are source and target at once, first 'd'"),
        ({"source": "lwo", "key": "state"}, "no cell has 'lwo' in column 'state'. Its values: high, low, mid"),
        ({"source": "low", "key": "stat"}, "no column 'stat'. Did you mean 'state'"),
    ],
)
def test_errors_of_the_cells(change: dict, said: str) -> None:
    (transition,) = make_transitions([EMT | change], where="here")
    with pytest.raises(SettingsError, match=said):
        find_ends(OBS, transition)
