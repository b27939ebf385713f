"""What ``spatia bench`` leaves: tables and figures, functions of the rows."""

from pathlib import Path

import numpy as np
import pandas as pd

from spatia.bench.factorial import Factors, main_effects
from spatia.bench.methods.registry import BASELINES
from spatia.bench.ranks import (
    ON_TRAINING,
    as_fixed,
    chance_of_a_lead,
    chosen_on_training,
    differences,
    models_of,
    of_one_method_each,
    rank,
    wins,
)
from spatia.bench.ranks import markdown as ranks_table
from spatia.bench.rows import ROWS_FILE, read_rows
from spatia.bench.run import folders_with_rows
from spatia.bench.tables import DETAIL, costs, is_ours, markdown, summary
from spatia.corpus.files import write_text
from spatia.errors import SettingsError
from spatia.plotting.questions import Question, plot_questions
from spatia.plotting.ranks import plot_ranks


def standing_rows(out: Path) -> pd.DataFrame:
    """Return the rows of a results folder, those among them that a killed worker has not handed over."""
    folders = folders_with_rows(out)
    if not folders:
        raise SettingsError(
            f"{out}: no {ROWS_FILE} there. Name a folder that `spatia bench -o` wrote, or leave --tables out."
        )
    return read_rows(folders)


def write_summary(rows: pd.DataFrame, out: Path, factors: Factors, *, json: bool) -> str:
    """Write tables and figures beside the rows, and return what is printed."""
    if rows.empty:
        raise SettingsError(
            "Nothing was measured: none of these tasks can be asked of these data and methods. `spatia bench --explain TASK` says what a task needs, "
            "`spatia bench --list` which methods there are."
        )
    models = models_of(rows["method"].unique())
    chosen = {name: of for name in models if len(of := chosen_on_training(rows, name))}
    measured, rows = rows, pd.concat([rows, *chosen.values()], ignore_index=True) if chosen else rows
    text = markdown(rows)
    given = [name for name in rows["method"].unique() if not is_ours(name) and name not in BASELINES]
    one_each = of_one_method_each(measured)
    ranking = rank(one_each, keep=given)
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
    for name in given:
        if len(outcome := wins(one_each, of=name)):
            text += f"\n### `{name}` against the best of all others\n\n{differences(outcome)}\n\n{_outcomes(outcome)}\n"
    for old in out.glob("questions*.png"):  # of other models
        old.unlink()
    for name in models:
        if len(found := questions_of(measured, name)):
            plot_questions(
                found, out / ("questions.png" if len(models) == 1 else f"questions-{name.replace(' ', '-')}.png")
            )
        if len(outcome := wins(rows, fixed=name + ON_TRAINING if name in chosen else name)):
            said = (
                "for each question the view that training cells choose"
                if name in chosen
                else "the embedding fixed in advance"
            )
            text += f"\n### `{name}`, {said}, against the best of the others\n\n{differences(outcome)}\n\n{_outcomes(outcome)}\n"
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
    return text + f"\nRows, tables (details and cost in details.md) and figures (questions, ranks) are in {out}."


def questions_of(rows: pd.DataFrame, model: str) -> dict[str, list[Question]]:
    """Return what a model of ours and the others reached in each question, by data set; empty where nothing can be compared.

    Ours is the view that is chosen on training cells, and where none can be chosen the one fixed in advance.
    """
    fixed, chosen = as_fixed(rows, model), chosen_on_training(rows, model)
    ours = chosen if len(chosen) else fixed.assign(method=model + ON_TRAINING)
    others = rows[~rows["method"].map(is_ours)]
    given = pd.concat([ours, fixed, others], ignore_index=True)
    reached: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = {}
    for row in summary(given).dropna(subset="mean").to_dict("records"):
        reached.setdefault((row["data"], row["task"], row["metric"]), {})[row["method"]] = (row["mean"], row["sd"])
    found: dict[str, list[Question]] = {}
    for one in wins(given, fixed=model + ON_TRAINING).to_dict("records"):
        of = reached[one["data"], one["task"], one["metric"]]
        question = Question(
            name=f"{one['task']}: {one['metric']}",
            ours=of[model + ON_TRAINING],
            fixed=of.get(model, (np.nan, np.nan)),
            best=of[one["other_method"]],
            best_name=one["other_method"],
            others=[mean for name, (mean, _) in of.items() if not is_ours(name)],
            outcome=one["outcome"],
        )
        found.setdefault(one["data"], []).append(question)
    return found


def _outcomes(outcome: pd.DataFrame) -> str:
    """Return in words what first, tied and behind mean, and how little that is with few seeds."""
    said = (
        "Ahead by: the mean of the differences on the seeds that both answered ± their sd. First, behind: by more than that sd, tied: by less; of one "
        "seed there is none, and any difference counts: it tells nothing of how sure it is."
    )
    if (most := int(outcome["n_seeds"].max())) > 1:
        said += f" Of two equal methods and {most} seeds one would be first or behind in {chance_of_a_lead(most):.0%} of questions by chance."
    return said


def _counted(outcome: pd.DataFrame) -> str:
    counts = outcome["outcome"].value_counts()
    said = ", ".join(f"{name} {counts.get(name, 0)}" for name in ("first", "tied", "behind"))
    return f"{len(outcome)} questions: {said}"
