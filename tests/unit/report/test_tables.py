"""Winners, ties and losses of the benchmark table."""

import numpy as np
import pandas as pd
import pytest

from spatia.report.schema import BenchmarkResult, BenchmarkTask
from spatia.report.tables import BENCHMARK_COLUMNS, benchmark_table

FACTS = BenchmarkResult(tasks=(BenchmarkTask(name="a", title="A", metric="f1", measure="F1"),), n_seeds=3, protocol="")


def rows(values: dict[str, list[float]], status: str = "ok") -> pd.DataFrame:
    listed = [("a", "s", name, "f1", v, i, status, "why") for name, vs in values.items() for i, v in enumerate(vs)]
    return pd.DataFrame(listed, columns=list(BENCHMARK_COLUMNS))


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"),
    [
        ([0.9, 0.9, 0.9], [0.5, 0.5, 0.5], "won"),
        ([0.5, 0.5, 0.5], [0.9, 0.9, 0.9], "lost"),
        ([0.80, 0.90, 1.00], [0.92, 0.92, 0.92], "tied"),  # within our own spread
        ([0.85, 0.85, 0.85], [0.80, 0.90, 1.00], "tied"),  # within the winner's spread
        ([0.79, 0.79, 0.79], [0.80, 0.90, 1.00], "lost"),
        ([0.92, 0.92, 0.92], [0.80, 0.90, 1.00], "tied"),  # ours is higher, but theirs could be: no win
    ],
)
def test_a_tie_is_within_one_standard_deviation(ours: list[float], theirs: list[float], outcome: str) -> None:
    table = benchmark_table(rows({"spatia": ours, "pca": theirs}), FACTS)
    assert table.outcome("a/f1")[0] == outcome


def test_our_best_embedding_counts_and_not_the_last() -> None:
    table = benchmark_table(rows({"spatia": [0.2], "spatia cell": [0.9], "pca": [0.5]}), FACTS)
    assert table.outcome("a/f1") == ("won", "spatia cell")
    assert table.methods == ("spatia", "spatia cell", "pca")


def test_failed_trials_are_left_out_and_named() -> None:
    table = benchmark_table(pd.concat([rows({"spatia": [0.2]}), rows({"scVI": [np.nan]}, "skipped")]), FACTS)
    assert table.methods == ("spatia",)
    assert table.left_out == {"scVI": "why"}


def test_a_task_without_a_value_has_no_column() -> None:
    assert benchmark_table(rows({"scVI": [np.nan]}, "failed"), FACTS).tasks == ()
