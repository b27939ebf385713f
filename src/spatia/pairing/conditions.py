"""Expressions over the columns of a table, such as ``state_emt < 0.3 & type == 'tumour'``, read by a parser of their own.

Nothing is handed to Python: what is not in the grammar below is an error that says where.

    any   := all ("|" all)*          all := one ("&" one)*          one := "~" one | "(" any ")" | test
    test  := column op value | column ["not"] "in" "[" value ("," value)* "]" | column "is" ["not"] "missing"
    op    := == | != | < | <= | > | >=          value := number | 'text' | true | false

``and``, ``or``, ``not`` may be written for ``& | ~``. A column of other signs than letters, digits, ``_`` and ``.`` goes in
backticks. A missing value fulfils no test but ``is missing``, and no negation of one.
"""

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from spatia.errors import SettingsError

Value = float | str | bool
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<column>`[^`]+`)
    | (?P<word>[^\W\d][\w.]*)
    | (?P<sign>==|!=|<=|>=|<|>|&|\||~|\(|\)|\[|\]|,)
    )""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"and": "&", "or": "|", "not": "~"}
_MAX_DEPTH = 50


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class _Truth:
    """Three values: true, false, and unknown where a value is missing."""

    true: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def negated(self) -> "_Truth":
        return _Truth(~self.true & self.known, self.known)


def matching(table: pd.DataFrame, condition: str, *, where: str) -> NDArray[np.bool_]:
    """Return which rows of a table fulfil a condition.

    Parameters
    ----------
    where
        What the condition was given in, for the message.

    Raises
    ------
    SettingsError
        If the condition cannot be read, or names a column that is not there or is of another kind.

    Examples
    --------
    >>> cells = pd.DataFrame({"type": ["a", "b", "a"], "emt": [0.1, 0.2, 0.9]})
    >>> matching(cells, "emt < 0.3 & type == 'a'", where="here").tolist()
    [True, False, False]
    """
    return _Parser(table, condition, where).parse().true


class _Parser:
    """Reads and evaluates at once; `depth` bounds the recursion that a hostile condition could ask for."""

    def __init__(self, table: pd.DataFrame, condition: str, where: str) -> None:
        self.table = table
        self.condition = condition
        self.where = where
        self.tokens = self._tokens()
        self.next = 0
        self.depth = 0

    def parse(self) -> _Truth:
        found = self._any()
        if self.next < len(self.tokens):
            raise self._error("the end, '&' or '|'")
        return found

    def _tokens(self) -> list[_Token]:
        tokens, at = [], 0
        text = self.condition.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                start = at + len(text[at:]) - len(text[at:].lstrip())
                raise SettingsError(
                    f"{self.where}: condition {self.condition!r}: {text[start]!r} at position {start + 1} is not understood. "
                    "Expected comparisons such as `state_emt < 0.3 & type == 'tumour'`."
                )
            kind = str(match.lastgroup)
            word = match[kind]
            if kind == "word" and word in _WORDS:
                kind, word = "sign", _WORDS[word]
            tokens.append(_Token(kind, word, match.start(kind)))
            at = match.end()
        return tokens

    def _peek(self, *texts: str) -> bool:
        return self.next < len(self.tokens) and self.tokens[self.next].text in texts and self._kind() != "text"

    def _kind(self) -> str:
        return self.tokens[self.next].kind if self.next < len(self.tokens) else "end"

    def _take(self, wanted: str) -> str:
        if self.next >= len(self.tokens):
            raise self._error(wanted)
        self.next += 1
        return self.tokens[self.next - 1].text

    def _error(self, wanted: str) -> SettingsError:
        if self.next < len(self.tokens):
            token = self.tokens[self.next]
            found = f"{token.text!r} at position {token.at + 1}"
        else:
            found = "the end"
        return SettingsError(f"{self.where}: condition {self.condition!r}: found {found}, expected {wanted}.")

    def _any(self) -> _Truth:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise SettingsError(f"{self.where}: the condition has more than {_MAX_DEPTH} brackets inside each other.")
        found = self._all()
        while self._peek("|"):
            self.next += 1
            other = self._all()
            true = found.true | other.true
            found = _Truth(true, true | (found.known & other.known))
        self.depth -= 1
        return found

    def _all(self) -> _Truth:
        found = self._one()
        while self._peek("&"):
            self.next += 1
            other = self._one()
            false = (found.known & ~found.true) | (other.known & ~other.true)
            found = _Truth(found.true & other.true, false | (found.known & other.known))
        return found

    def _one(self) -> _Truth:
        negate = False
        while self._peek("~"):
            self.next += 1
            negate = not negate
        if self._peek("("):
            self.next += 1
            found = self._any()
            if not self._peek(")"):
                raise self._error("')'")
            self.next += 1
        else:
            found = self._test()
        return found.negated() if negate else found

    def _test(self) -> _Truth:
        if self._kind() not in ("word", "column"):
            raise self._error("the name of a column (text values stand right of the comparison)")
        column = self._column(self._take("a column").strip("`"))
        known = column.notna().to_numpy(bool)
        if self._peek("is"):
            return self._missing(known)
        negate = self._peek("~")
        self.next += negate
        if self._peek("in"):
            self.next += 1
            values = self._list()
            true = np.zeros(len(column), bool)
            for value in values:
                true |= self._compare(column, "==", value)
            found = _Truth(true & known, known)
            return found.negated() if negate else found
        if negate or not self._peek(*_COMPARE):
            raise self._error("one of ==, !=, <, <=, >, >=, in, not in, is missing")
        sign = self._take("a comparison")
        return _Truth(self._compare(column, sign, self._value()) & known, known)

    def _missing(self, known: NDArray[np.bool_]) -> _Truth:
        self.next += 1
        negate = self._peek("~")
        self.next += negate
        if not self._peek("missing"):
            raise self._error("'missing'")
        self.next += 1
        return _Truth(known if negate else ~known, np.ones_like(known))

    def _column(self, name: str) -> pd.Series:
        if name in self.table:
            return self.table[name]
        self.next -= 1
        raise SettingsError(
            f"{self.where}: condition {self.condition!r}: {no_column(name, list(map(str, self.table)))}"
        )

    def _list(self) -> list[Value]:
        if not self._peek("["):
            raise self._error("'[' and a list of values")
        self.next += 1
        values = [self._value()]
        while self._peek(","):
            self.next += 1
            values.append(self._value())
        if not self._peek("]"):
            raise self._error("',' or ']'")
        self.next += 1
        return values

    def _value(self) -> Value:
        kind = self._kind()
        if kind == "number":
            return float(self._take("a value"))
        if kind == "text":
            return self._take("a value")[1:-1]
        if self._peek("true", "True", "false", "False"):
            return self._take("a value").lower() == "true"
        raise self._error("a number or a text in quotes")

    def _compare(self, column: pd.Series, sign: str, value: Value) -> NDArray[np.bool_]:
        kind = "true or false" if is_bool_dtype(column) else "numbers" if is_numeric_dtype(column) else "text"
        given = "true or false" if isinstance(value, bool) else "numbers" if isinstance(value, float) else "text"
        if kind != given or (kind != "numbers" and sign not in ("==", "!=")):
            raise SettingsError(
                f"{self.where}: condition {self.condition!r}: column {column.name!r} holds {kind}, which `{sign} {value!r}` does not fit."
            )
        if kind == "numbers":
            numbers = column.to_numpy(np.float64, na_value=np.nan)
            return np.asarray(_COMPARE[sign](numbers, value), bool)
        values = column.to_numpy(object, na_value=np.nan)  # pd.NA equals neither true nor false
        same = np.array([one == value if kind != "text" else str(one) == value for one in values], bool)
        return same if sign == "==" else ~same


def no_column(name: str, names: Sequence[str]) -> str:
    """Return the sentence that says that a column is not there, with the nearest name or all names."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"the cells have no column {name!r}. " + (
        f"Did you mean {near[0]!r}?" if near else f"Columns: {', '.join(names)}."
    )
