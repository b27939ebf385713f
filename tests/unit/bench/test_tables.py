"""Tables say what the rows say: means, spread, the best, ties, and what failed."""

from dataclasses import asdict

import pandas as pd
import pytest
from tests.unit.bench.toy_rows import row

from spatia.bench.tables import costs, markdown, summary


def frame(*rows) -> pd.DataFrame:
    return pd.DataFrame([asdict(one) for one in rows])


ROWS = frame(
    *(row(method="best", seed=s, value=v) for s, v in enumerate((0.80, 0.82, 0.84))),
    *(row(method="near", seed=s, value=v) for s, v in enumerate((0.79, 0.81, 0.83))),
    *(row(method="far", seed=s, value=v) for s, v in enumerate((0.50, 0.52, 0.54))),
    *(
        row(method="broken", seed=s, metric="", value=float("nan"), status="failed", message="no | luck")
        for s in range(3)
    ),
)


def test_summary_is_mean_and_sd_over_seeds() -> None:
    best = summary(ROWS).set_index("method").loc["best"]
    assert best["mean"] == pytest.approx(0.82)
    assert best["sd"] == pytest.approx(0.02)
    assert best["n_seeds"] == 3


def test_best_is_bold_ties_are_marked_and_failures_shown() -> None:
    lines = {line.split("|")[1].strip(): line for line in markdown(ROWS).splitlines() if line.startswith("|")}
    assert "**0.820 ± 0.020**" in lines["best"]
    assert "0.810 ± 0.020 ≈" in lines["near"]
    assert "≈" not in lines["far"]
    assert "failed" in lines["broken"]
    assert "no | luck" in markdown(ROWS).split("Seeds")[1]


def test_a_seed_that_failed_is_not_hidden_by_those_that_did_not() -> None:
    rows = frame(
        row(method="a", seed=0), row(method="a", seed=1, metric="", value=float("nan"), status="failed", message="x")
    )
    assert "some seeds failed" in markdown(rows)


def test_a_mean_over_fewer_seeds_is_no_best() -> None:
    """It is one of other splits."""
    rows = frame(
        row(method="a", seed=0, value=0.9), *(row(method="b", seed=s, value=v) for s, v in enumerate((0.8, 0.7)))
    )
    lines = {line.split("|")[1].strip(): line for line in markdown(rows).splitlines() if line.startswith("|")}
    assert "0.900 (1 of 2 seeds)" in lines["a"]
    assert "**0.750 ± 0.071**" in lines["b"]


def test_details_stay_out_of_the_main_table() -> None:
    rows = frame(row(metric="R2"), row(metric="R2 emt"))
    assert "R2 emt" not in markdown(rows)
    assert "R2 emt" in markdown(rows, details=True)


def test_costs_are_seconds_over_all_tasks_and_the_most_memory() -> None:
    more = [
        row(method="a", task=task, metric=metric, seed=s)
        for task in ("t", "u")
        for s in (0, 1)
        for metric in ("m", "n")
    ]
    rows = frame(*more).assign(seconds=1.5, peak_memory_mb=[100.0] * 6 + [1234.0] * 2)
    assert costs(rows).splitlines()[-1] == f"| {rows['data'].iloc[0]} | a | 3.0 | 1,234 |"


def test_no_rows_is_said() -> None:
    assert markdown(ROWS.iloc[:0]) == "No rows."
