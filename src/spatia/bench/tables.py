"""Tables as functions of the rows: mean ± sd over seeds, the best in bold, what ties with it marked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

TIE = "≈"
DETAIL = " "  # metrics such as "R2 emt" are details of "R2" and stand in tables of their own
_OURS = re.compile(r"spatia([ ,]|$)")


def is_ours(method: str) -> bool:
    """Say whether a name is one of our model's methods.

    Examples
    --------
    >>> is_ours("spatia"), is_ours("spatia label image, cell"), is_ours("spatialglue")
    (True, True, False)
    """
    return _OURS.match(method) is not None


@dataclass(frozen=True)
class Cell:
    """One method on one metric: mean and sd over seeds, and how many seeds there are; NaN with a reason if none."""

    mean: float
    sd: float
    n_seeds: int
    reason: str = ""


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (task, data, metric, method): mean, sd (n − 1; NaN of one seed), n_seeds, n, seconds, reason.

    A method that gave no value on some seed of a task where others did has the reason in ``reason``.
    """
    good = rows[rows["status"] == "ok"]
    keys = ["task", "data", "metric", "method"]
    grouped = good.groupby(keys, sort=False)
    table = grouped.agg(
        mean=("value", "mean"),
        sd=("value", "std"),
        n_seeds=("seed", "nunique"),
        n=("n", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()
    bad = rows[rows["status"] != "ok"].drop_duplicates(["task", "data", "method"])
    reasons = {(r.task, r.data, r.method): f"{r.status}: {r.message}" for r in bad.itertuples()}
    table["reason"] = [reasons.get((t, d, m), "") for t, d, m in table[["task", "data", "method"]].to_numpy()]
    have = set(map(tuple, table[["task", "data", "method"]].to_numpy().tolist()))
    lost = [
        {"task": t, "data": d, "method": m, "metric": metric, "mean": np.nan, "sd": np.nan, "n_seeds": 0, "n": 0,
         "seconds": np.nan, "reason": reason}
        for (t, d, m), reason in reasons.items()
        if (t, d, m) not in have
        for metric in (good[(good["task"] == t) & (good["data"] == d)]["metric"].unique().tolist() or [""])
    ]  # fmt: skip
    return pd.concat([table, pd.DataFrame(lost)], ignore_index=True) if lost else table


def markdown(rows: pd.DataFrame, *, details: bool = False) -> str:
    """Return the tables of all data sets: methods down, tasks and metrics across; the command and the seconds below.

    Bold: the best mean of its column. ≈: within one sd of the best (the larger of the two sd).
    """
    if rows.empty:
        return "No rows."
    table = summary(rows)
    parts = []
    for data in table["data"].drop_duplicates():
        one = table[table["data"] == data]
        one = one[[details or DETAIL not in metric for metric in one["metric"]]]
        parts.append(f"### {data}\n\n{_grid(one)}")
        of_data = rows[rows["data"] == data]
        parts.append(_footer(of_data))
    legend = f"Mean ± sd over seeds; larger is better. Bold: the best mean of its column; {TIE}: within one sd of it."
    return "\n\n".join([legend, *parts]) + "\n"


def costs(rows: pd.DataFrame) -> str:
    """Return what each method took on each data set, as a table: seconds over all its tasks, a seed, and the most memory of any.

    Memory is that of the process while the method ran, what it held before among it.
    """
    tried = rows[rows["status"] == "ok"].drop_duplicates(["task", "data", "method", "seed"])
    lines = [_line(["data", "method", "seconds", "peak memory, MB"]), _line(["---", "---", "---:", "---:"])]
    for (data, method), own in tried.groupby(["data", "method"], sort=False):
        seconds, memory = own["seconds"].sum() / own["seed"].nunique(), own["peak_memory_mb"].max()
        lines.append(_line([str(data), str(method), f"{seconds:,.1f}", f"{memory:,.0f}"]))
    return "\n".join(lines)


def _grid(table: pd.DataFrame) -> str:
    columns = list(table[["task", "metric"]].drop_duplicates().itertuples(index=False, name=None))
    columns = [(task, metric) for task, metric in columns if metric] or columns
    methods = table["method"].drop_duplicates().tolist()
    cells = {
        (row["method"], row["task"], row["metric"]): Cell(row["mean"], row["sd"], row["n_seeds"], row["reason"])
        for row in table.to_dict("records")
    }
    header = ["method", *(f"{task}: {metric}" for task, metric in columns)]
    lines = [_line(header), _line(["---"] + ["---:"] * len(columns))]
    best = {column: _best([cells.get((method, *column)) for method in methods]) for column in columns}
    for method in methods:
        texts = [_text(cells.get((method, *column)), best[column]) for column in columns]
        lines.append(_line([method, *texts]))
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "/") for text in texts) + " |"


def _best(cells: Sequence[Cell | None]) -> Cell | None:
    """Return the cell with the best mean among those of most seeds: others are means over other splits."""
    known = [cell for cell in cells if cell is not None and np.isfinite(cell.mean)]
    most = max((cell.n_seeds for cell in known), default=0)
    return max((cell for cell in known if cell.n_seeds == most), key=lambda cell: cell.mean, default=None)


def _text(cell: Cell | None, best: Cell | None) -> str:
    if cell is None:
        return ""
    if not np.isfinite(cell.mean):
        return cell.reason.split(":")[0] or "failed"
    text = f"{cell.mean:.3f}" + (f" ± {cell.sd:.3f}" if np.isfinite(cell.sd) else "")
    if best is not None and cell.n_seeds < best.n_seeds:
        return f"{text} ({cell.n_seeds} of {best.n_seeds} seeds)"
    if best is not None and cell.mean >= best.mean:
        text = f"**{text}**"
    elif best is not None and ties(cell, best):
        text = f"{text} {TIE}"
    return text + (" (some seeds failed)" if cell.reason else "")


def ties(cell: Cell, best: Cell) -> bool:
    """Say whether a mean lies within one sd (the larger of the two) of the best.

    Examples
    --------
    >>> ties(Cell(0.5, 0.02, 3), Cell(0.51, 0.001, 3)), ties(Cell(0.5, 0.0, 3), Cell(0.6, 0.05, 3))
    (True, False)
    """
    sd = np.nan_to_num([cell.sd, best.sd]).max()
    return bool(best.mean - cell.mean <= sd)


def _footer(rows: pd.DataFrame) -> str:
    good = rows[rows["status"] == "ok"]
    seeds = ", ".join(map(str, sorted(rows["seed"].unique().tolist())))
    commands = "; ".join(f"`{command}`" for command in rows["command"].drop_duplicates())
    n = f"{int(good['n'].min()):,}–{int(good['n'].max()):,}" if len(good) else "no"
    seconds = good.drop_duplicates(["task", "method", "seed"])["seconds"].sum()
    lines = [f"Seeds {seeds}; {n} test cells; {seconds:,.0f} s in all. {commands}"]
    for (status, message), same in rows[rows["status"] != "ok"].groupby(["status", "message"], sort=False):
        lines.append(f"- {status}: {', '.join(same['method'].drop_duplicates())}: {message}")
    return "\n".join(lines)
