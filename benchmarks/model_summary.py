"""The tables of docs/benchmarks.md, section Model: results, from the rows that benchmarks/model.py left.

python benchmarks/model.py summary --work WORK
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spatia.bench.ranks import FIXED, FUSED, rank
from spatia.bench.ranks import markdown as ranks_table
from spatia.bench.tables import Cell, is_ours, ties
from spatia.bench.tables import summary as summarise
from spatia.plotting.ranks import plot_ranks

NAMED = ("pca", "pca smoothed", "scvi", "morphology", "pca of crops", "pca + morphology")  # the baselines of the brief
OURS = "spatia"
CHOSEN = {"domains": OURS + FIXED["domains"]}  # what is fixed in advance for a task beside the fused embedding
DETAILS = ("R2 ", "accuracy")


def summary(work: Path) -> str:
    """Return one table a data set: tasks down; ours, the named baselines and the best other rival across.

    Only seeds that our model was trained on count, for the baselines too.
    """
    parts = []
    for path in sorted(work.glob("results/*/rows.parquet")):
        rows = pd.read_parquet(path)
        for data in rows["data"].drop_duplicates():
            of_data = rows[rows["data"] == data]
            seeds = of_data.loc[of_data["method"].map(is_ours), "seed"].unique()
            if len(seeds):
                table = summarise(of_data[of_data["seed"].isin(seeds)])
                parts.append(f"**{data}**, seeds {', '.join(map(str, sorted(seeds)))}\n\n{_table(table)}")
    return "\n\n".join(parts)


BOTH = (  # named in advance: what sees both image and genes, and the named baselines
    "spatia", "spatia, cell + niche", "pca + morphology", "pca + morphology + smoothed", "pca", "pca smoothed",
    "pca + pca smoothed", "scvi", "morphology", "pca of crops", "knn on pca",
)  # fmt: skip
GENES = (
    "spatia genes", "spatia genes, cell", "pca", "pca unscaled", "pca smoothed", "pca + pca smoothed", "scvi", "knn on pca",
)  # fmt: skip


def ranks(works: Sequence[Path], figure: Path | None = None) -> str:
    """Return mean ranks over every question that all named methods answered, and draw those of `BOTH`.

    A task that gives some of the methods an embedding of another kind ("neighbours to expression") is left out.
    """
    frames = [pd.read_parquet(path) for work in works for path in sorted(work.glob("results/*/rows.parquet"))]
    rows = pd.concat(frames, ignore_index=True)
    rows = rows[rows["task"] != "neighbours to expression"]
    key = ["task", "data", "metric", "method", "seed"]
    rows = rows.drop_duplicates(key, keep="last")
    both = rank(rows, list(BOTH))
    if figure is not None:
        values = {str(name): float(value) for name, value in both.mean_rank.items()}
        ours = [name for name in BOTH if is_ours(name)]
        plot_ranks(values, both.critical_difference, figure, ours=ours, n_questions=both.n_questions)
    return f"{ranks_table(both)}\n\n{ranks_table(rank(rows, list(GENES)))}"


def _table(table: pd.DataFrame) -> str:
    table = table[table["mean"].notna()]
    named = [name for name in NAMED if (table["method"] == name).any()]
    header = ["task", "fused", "best of ours", *named, "best other rival"]
    lines = [_line(header), _line(["---"] + ["---:"] * (len(header) - 1))]
    for (task, metric), rows in table.groupby(["task", "metric"], sort=False):
        if str(metric).startswith(DETAILS):
            continue
        cells = {row["method"]: Cell(row["mean"], row["sd"], row["n_seeds"], "") for row in rows.to_dict("records")}
        ours = {name: cell for name, cell in cells.items() if is_ours(name)}
        others = {name: cell for name, cell in cells.items() if not is_ours(name) and name not in NAMED}
        if not ours:
            continue
        best = max(cells.values(), key=lambda cell: cell.mean)
        fused = cells.get(
            OURS + FUSED.get(str(task), ""), cells.get(f"{OURS} genes")
        )  # without images only that is there
        texts = [_text(fused, best), _named(ours, best, CHOSEN.get(str(task)))]
        texts += [_text(cells.get(name), best) for name in named]
        lines.append(_line([f"{task}: {metric}", *texts, _named(others, best)]))
    return "\n".join(lines)


def _named(cells: dict[str, Cell], best: Cell, chosen: str | None = None) -> str:
    if not cells:
        return ""
    name = chosen if chosen in cells else max(cells, key=lambda one: cells[one].mean)
    return f"{_text(cells[name], best)} ({name.removeprefix('spatia').strip(', ') or 'fused'})"


def _text(cell: Cell | None, best: Cell) -> str:
    if cell is None:
        return ""
    text = f"{cell.mean:.3f}" + (f" ± {cell.sd:.3f}" if cell.sd == cell.sd else "")  # NaN: one seed
    if cell.mean >= best.mean:
        return f"**{text}**"
    return f"{text} ≈" if ties(cell, best) else text


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"
