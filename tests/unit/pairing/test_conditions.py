"""Expressions over obs: what they mean, and that nothing else than they is understood."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatia.errors import SettingsError
from spatia.pairing.conditions import matching

TABLE = pd.DataFrame(
    {
        "type": pd.Categorical(["tumour", "immune", None, "tumour", "it's"]),
        "emt": [0.1, 0.9, 0.2, np.nan, 0.3],
        "n": [1, 2, 3, 4, 5],
        "edge": [True, False, True, False, True],
        "odd name": ["a", "b", "a", "b", "a"],
        "seen": pd.array([True, None, False, None, True], dtype="boolean"),
        "grade": pd.array([1, None, 2, None, 1], dtype="Int64"),
    }
)


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("emt < 0.3", [1, 0, 1, 0, 0]),
        ("emt<=.3 & type == 'tumour'", [1, 0, 0, 0, 0]),
        ("type != 'tumour'", [0, 1, 0, 0, 1]),
        ("~(type == 'tumour')", [0, 1, 0, 0, 1]),
        ("not emt < 0.25", [0, 1, 0, 0, 1]),
        ("type is missing", [0, 0, 1, 0, 0]),
        ("emt is not missing and n > 2", [0, 0, 1, 0, 1]),
        ("type in ['tumour', 'immune'] & n in [1, 2]", [1, 1, 0, 0, 0]),
        ("type not in ['tumour']", [0, 1, 0, 0, 1]),
        ("edge == true | n == 2", [1, 1, 1, 0, 1]),
        ("n == 1 | n == 2 & edge == true", [1, 0, 0, 0, 0]),
        ("(n == 1 | n == 2) & edge == false", [0, 1, 0, 0, 0]),
        ("emt < 0.3 | n >= 4", [1, 0, 1, 1, 1]),
        ("`odd name` == 'a'", [1, 0, 1, 0, 1]),
        ('type == "it\'s"', [0, 0, 0, 0, 1]),
        ("n > -1e0", [1, 1, 1, 1, 1]),
        ("seen == true", [1, 0, 0, 0, 1]),
        ("seen != true", [0, 0, 1, 0, 0]),
        ("~(seen in [true])", [0, 0, 1, 0, 0]),
        ("seen is missing", [0, 1, 0, 1, 0]),
        ("grade == 1", [1, 0, 0, 0, 1]),
        ("grade not in [1]", [0, 0, 1, 0, 0]),
    ],
)
def test_meaning(condition: str, wanted: list[int]) -> None:
    assert matching(TABLE, condition, where="here").astype(int).tolist() == wanted


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("", "found the end, expected the name of a column"),
        ("emt <", "found the end, expected a number or a text"),
        ("emt < 0.3 &", "found the end, expected the name"),
        ("emt 0.3", "found '0.3' at position 5, expected one of =="),
        ("(emt < 0.3", r"expected '\)'"),
        ("emt < 0.3)", r"found '\)' at position 10, expected the end"),
        ("etm < 0.3", "no column 'etm'. Did you mean 'emt'"),
        ("qqqqqq == 1", "Columns: type, emt, n"),
        ("emt == 'high'", "column 'emt' holds numbers"),
        ("type == 3", "column 'type' holds text"),
        ("type < 'b'", "holds text, which `< 'b'` does not fit"),
        ("0.3 > emt", "expected the name of a column"),
        ("__import__('os').system('x')", "'.' at position 17 is not understood"),
        ("n.__class__ == 1", "no column 'n.__class__'"),
        ("n == [x for x in n]", "found '.' at position 6, expected a number"),
        ("n ** 2 == 1", "'\\*' at position 3 is not understood"),
        ("@n == 1", "'@' at position 1 is not understood"),
        ("n == 1; n == 2", "';' at position 7 is not understood"),
        ("lambda: 1", "':' at position 7 is not understood"),
        ("__import__ == 'os'", "no column '__import__'"),
        ("(" * 60 + "n == 1" + ")" * 60, "more than 50 brackets"),
        ("n in []", "expected a number or a text"),
        ("n is 3", "expected 'missing'"),
    ],
)
def test_what_is_no_condition_is_refused(condition: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        matching(TABLE, condition, where="here")


@given(st.text(max_size=40))
def test_any_text_is_a_condition_or_a_clear_error(text: str) -> None:
    try:
        found = matching(TABLE, text, where="here")
    except SettingsError:
        return
    assert found.dtype == bool
    assert found.shape == (5,)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["tumour", "immune"]))
def test_agrees_with_numpy(low: float, high: float, kind: str) -> None:
    found = matching(TABLE, f"(emt >= {low:.6f} & emt < {high:.6f}) | type == '{kind}'", where="here")
    emt = TABLE["emt"].to_numpy()
    wanted = ((emt >= float(f"{low:.6f}")) & (emt < float(f"{high:.6f}"))) | (TABLE["type"] == kind).to_numpy()
    assert (found == wanted).all()
