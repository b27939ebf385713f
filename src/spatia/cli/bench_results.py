"""What ``spatia bench`` leaves: tables and the figure of ranks, functions of the rows."""

from pathlib import Path

import pandas as pd

from spatia.bench.factorial import Factors, main_effects
from spatia.bench.ranks import ON_TRAINING, chosen_on_training, models_of, rank, wins
from spatia.bench.ranks import markdown as ranks_table
from spatia.bench.rows import ROWS_FILE, read_rows
from spatia.bench.run import UNITS
from spatia.bench.tables import DETAIL, costs, is_ours, markdown, summary
from spatia.corpus.files import write_text
from spatia.errors import SettingsError
from spatia.plotting.ranks import plot_ranks


def standing_rows(out: Path) -> pd.DataFrame:
    """Return the rows of a results folder, those among them that a killed worker has not handed over."""
    folders = [folder for folder in (out, *sorted((out / UNITS).glob("*"))) if (folder / ROWS_FILE).is_file()]
    if not folders:
        raise SettingsError(
            f"{out}: no {ROWS_FILE} there. Name a folder that `spatia bench -o` wrote, or leave --tables out."
        )
    return read_rows(folders)


def write_summary(rows: pd.DataFrame, out: Path, factors: Factors, *, json: bool) -> str:
    """Write tables and the figure of ranks beside the rows, and return what is printed."""
    models = models_of(rows["method"].unique())
    chosen = {name: of for name in models if len(of := chosen_on_training(rows, name))}
    measured, rows = rows, pd.concat([rows, *chosen.values()], ignore_index=True) if chosen else rows
    text = markdown(rows)
    ranking = rank(rows)
    if len(ranking.mean_rank) > 1 and ranking.n_questions:
        text += f"\n### Mean ranks\n\n{ranks_table(ranking)}\n"
        ours = [name for name in ranking.mean_rank.index if is_ours(name)]
        plot_ranks(
            {str(name): float(value) for name, value in ranking.mean_rank.items()},
            ranking.critical_difference,
            out / "ranks.png",
            ours=ours,
            n_questions=ranking.n_questions,
        )
    for name in models:
        if len(outcome := wins(measured, fixed=name)):
            text += f"\n`{name}`, the one embedding fixed in advance for each task, against the best of the others, {_counted(outcome)}.\n"
        if name in chosen and len(outcome := wins(rows, fixed=name + ON_TRAINING)):
            text += (
                f"\n`{name}`, for each question the view that tells held-out training cells best (where there is something to tell), "
                f"against the best of the others, {_counted(outcome)}.\n"
            )
    if len(outcome := wins(measured)):
        text += f"\nThe best of all our embeddings, chosen on these test cells, against the best of the others, {_counted(outcome)}.\n"
    effects = main_effects(rows, factors) if factors else rows.iloc[:0]
    if len(effects):
        text += f"\n## Mean of each level over the other factors\n\n{markdown(effects)}"
    write_text(out / "summary.md", text)
    of_details = rows[rows["metric"].str.contains(DETAIL, regex=False)]
    write_text(out / "details.md", f"# Details\n\n{markdown(of_details, details=True)}\n# Cost\n\n{costs(rows)}\n")
    if json:
        return str(summary(pd.concat([rows, effects], ignore_index=True)).to_json(orient="records"))
    return text + f"\nRows, tables (details and cost in details.md) and the figure of ranks are in {out}."


def _counted(outcome: pd.DataFrame) -> str:
    counts = outcome["outcome"].value_counts()
    said = ", ".join(f"{name} {counts.get(name, 0)}" for name in ("first", "tied", "behind"))
    return f"{len(outcome)} questions: {said}"
