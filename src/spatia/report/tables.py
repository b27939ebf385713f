"""The tables of a report: the benchmark with its winners and ties, and marker genes by cluster."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spatia.bench.tables import is_ours
from spatia.report.contents import RunFolder, natural_order
from spatia.report.schema import BenchmarkResult

BENCHMARK_COLUMNS = ("task", "data", "method", "metric", "value", "seed", "status", "message")
MARKER_COLUMNS = ("cluster", "rank", "gene", "score", "log2_fold", "share_in", "share_out")
MARKERS_SHOWN = 8


@dataclass(frozen=True)
class TaskScore:
    """One method on one task.

    Attributes
    ----------
    mean, spread
        Over seeds; ``spread`` is the standard deviation (ddof 1), NaN for one seed.
    place
        "best", "tied" (its mean is within one standard deviation, its own or the best one's, of the best) or "".
    """

    mean: float
    spread: float
    n_seeds: int
    place: str


@dataclass(frozen=True)
class TaskColumn:
    """One task of the benchmark and what it is measured by, in words."""

    key: str
    title: str
    measure: str


@dataclass(frozen=True)
class BenchmarkTable:
    """Every method on every task."""

    tasks: tuple[TaskColumn, ...]
    methods: tuple[str, ...]
    scores: dict[tuple[str, str], TaskScore]  # (method, task key)
    left_out: dict[str, str]

    def score(self, method: str, task: str) -> TaskScore | None:
        """Return a method's score, None where it has none."""
        return self.scores.get((method, task))

    def is_ours(self, method: str) -> bool:
        """Say whether a method is an embedding of this package's model."""
        return is_ours(method)

    def left_out_by_reason(self) -> dict[str, list[str]]:
        """Return the methods left out, by the reason."""
        found: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            found.setdefault(why, []).append(name)
        return found

    def outcome(self, task: str) -> tuple[str, str]:
        """Return ("won" | "tied" | "lost", name of the best method) of our best embedding on a task.

        Where ours is the highest and a simple method is within one standard deviation of it, that is a tie and no win.
        """
        scores = {name: self.scores[name, key] for name, key in self.scores if key == task}
        best = max(scores, key=lambda name: scores[name].mean)
        level = any(scores[name].place == "tied" and self.is_ours(name) != self.is_ours(best) for name in scores)
        return ("tied" if level else "won" if self.is_ours(best) else "lost"), best


def benchmark_table(rows: pd.DataFrame, facts: BenchmarkResult) -> BenchmarkTable:
    """Summarise the rows of the benchmark; the tasks and their titles are those of ``facts``, larger is better.

    Examples
    --------
    >>> from spatia.report.schema import BenchmarkTask
    >>> rows = pd.DataFrame([("a", "s", m, "f1", v, i, "ok", "") for m, vs in {"spatia": (0.5, 0.6), "pca": (0.56, 0.58)}.items()
    ...     for i, v in enumerate(vs)], columns=list(BENCHMARK_COLUMNS))
    >>> facts = BenchmarkResult(tasks=(BenchmarkTask(name="a", title="A", metric="f1", measure="F1"),), n_seeds=2, protocol="")
    >>> table = benchmark_table(rows, facts)
    >>> table.score("spatia", "a/f1").place, table.outcome("a/f1")
    ('tied', ('tied', 'pca'))
    """
    good = rows[(rows["status"] == "ok") & np.isfinite(rows["value"].astype(float))]
    tasks, scores = [], {}
    for task in facts.tasks:
        mine = good[(good["task"] == task.name) & (good["metric"] == task.metric)]
        if mine.empty:
            continue
        key = f"{task.name}/{task.metric}"
        tasks.append(TaskColumn(key, task.title, task.measure))
        found = mine.groupby("method")["value"].agg(["mean", "std", "count"])
        best = found["mean"].idxmax()
        for method, (mean, spread, count) in zip(found.index, found.itertuples(index=False), strict=True):
            near = np.nanmax([spread, found.loc[best, "std"], 0.0])
            place = "best" if method == best else "tied" if found.loc[best, "mean"] - mean <= near else ""
            scores[str(method), key] = TaskScore(float(mean), float(spread), int(count), place)
    methods = sorted({name for name, _ in scores}, key=lambda name: (not is_ours(name), name))
    left_out = dict(facts.left_out)
    for row in rows[rows["status"] != "ok"].itertuples():
        left_out.setdefault(
            f"{row.method}, {row.task}" if row.status == "failed" else str(row.method), str(row.message)
        )
    return BenchmarkTable(tuple(tasks), tuple(methods), scores, left_out)


@dataclass(frozen=True)
class Marker:
    """A gene that sets a cluster apart.

    Attributes
    ----------
    share_in, share_out
        Share of the cells with at least one molecule of it, inside and outside the cluster.
    """

    gene: str
    score: float
    log2_fold: float
    share_in: float
    share_out: float


def markers_by_cluster(folder: RunFolder) -> dict[str, list[Marker]] | None:
    """Return the first markers of every cluster; None where none were computed."""
    table = folder.table("markers", MARKER_COLUMNS)
    if table is None:
        return None
    first = table[table["rank"] < MARKERS_SHOWN].sort_values(["cluster", "rank"])
    found: dict[str, list[Marker]] = {}
    for row in first.to_dict("records"):
        numbers = {name: float(row[name]) for name in ("score", "log2_fold", "share_in", "share_out")}
        found.setdefault(str(row["cluster"]), []).append(Marker(gene=str(row["gene"]), **numbers))
    return {cluster: found[cluster] for cluster in natural_order(found)}
