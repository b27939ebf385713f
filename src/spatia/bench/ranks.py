"""Who is where over all tasks: mean ranks, and which differences are larger than chance (Demšar 2006).

What is counted for chance is corpora: questions, metrics, splits and seeds of one go up and down together. Permutation controls are no
questions: that a method is good on shuffled data is no merit.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range
from scipy.stats import t as student_t

from spatia.bench.permute import control_of
from spatia.bench.tables import DETAIL, is_ours

LEAST_METHODS, LEAST_DATA_SETS = 3, 3
MOST_QUESTIONS = 0.7
COMPARED: Final = (
    "ours", "our_method", "other", "other_method", "difference", "difference_sd", "ahead", "n_seeds", "missing", "outcome"
)  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods that answered the same questions.

    Attributes
    ----------
    mean_rank
        By method: over the questions of each corpus, of three and more corpora ranked again, then over corpora; 1 is best, ties share
        their mean.
    n_questions, n_data_sets
        (task, data, metric, seed) that all of them answered, and how many corpora these are of.
    p_value
        Of Friedman's test, over corpora, that all methods are alike; NaN with fewer than three.
    critical_difference
        Mean ranks nearer than this are not told apart by Nemenyi's test at 5 % over corpora; NaN likewise.
    """

    mean_rank: pd.Series
    n_questions: int
    n_data_sets: int
    p_value: float
    critical_difference: float


def rank(rows: pd.DataFrame, methods: list[str] | None = None, *, keep: Collection[str] = ()) -> Ranking:
    """Rank methods over the questions that all of them answered.

    Parameters
    ----------
    rows
        Of `spatia.bench.rows`.
    methods
        Whom to rank; None: ours, and of the others those that answered seven tenths at least of what the other that answered most did. Some
        questions are not asked of some: one about the image is not asked of what sees genes.
    keep
        Of the others those that are ranked however few they answered.
    """
    good = _questions(rows)
    good = good.assign(
        corpus=good["corpus_id"].replace("", np.nan).fillna(good["data"]) if "corpus_id" in good else good["data"]
    )
    table = good.pivot_table(index=["task", "data", "metric", "seed", "corpus"], columns="method", values="value")
    if methods is None:
        answered = table.notna().sum()
        ours = answered.index.map(is_ours).to_numpy(bool)
        most = answered[~ours].max() if not ours.all() else 0
        methods = answered.index[ours | (answered >= MOST_QUESTIONS * most) | answered.index.isin(keep)].tolist()
    values = table[methods].dropna()
    ranks = values.rank(axis=1, ascending=False).groupby(level="corpus").mean()
    k, n = len(methods), len(ranks)
    p_value = difference = float("nan")
    if k >= LEAST_METHODS and n >= LEAST_DATA_SETS:
        ranks = ranks.rank(axis=1)  # one rank for each corpus: the critical difference is of these
        p_value = float(friedmanchisquare(*(ranks[name] for name in methods)).pvalue)
        q = float(studentized_range.ppf(0.95, k, np.inf)) / np.sqrt(2)
        difference = float(q * np.sqrt(k * (k + 1) / (6 * n)))
    return Ranking(ranks.mean().sort_values(), len(values), n, p_value, difference)


FUSED = {  # the view whose fused embedding a task asks: what it lets an embedding see, where that is not both
    "annotation from image": " image",
    "image to expression": " image",
    "expression to image": " genes",
    "neighbours to expression": " genes",
    "gene-only zero-shot": " genes",
}
# what stands for our model in a task, fixed in advance: the fused embedding; for domains, what `spatia domains` takes
FIXED = {**FUSED, "domains": ", niche smoothed"}
# views that may be chosen, where not all may: what `spatia cluster` chooses from. Of a slide without images the fused embedding is " genes".
CHOSEN_FROM = {"clustering": (("", ", cell", " genes, cell"), (" genes", " genes, cell"))}
ON_TRAINING: Final = ", chosen on training cells"
_VIEW = re.compile(r"( image| genes)?(, .*)?$")


def models_of(methods: Iterable[str]) -> list[str]:
    """Return the models of ours among method names, each once.

    Examples
    --------
    >>> models_of(["pca", "spatialglue", "spatia, cell", "spatia genes", "spatia as it comes image, niche"])
    ['spatia', 'spatia as it comes']
    """
    return list(dict.fromkeys(_VIEW.sub("", name) for name in methods if is_ours(name)))


def fixed_view(task: str, *, images: bool) -> str:
    """Return the view that stands for our model in a task; where there are no images that of its genes takes the place of the fused one.

    Examples
    --------
    >>> fixed_view("annotation", images=True), fixed_view("domains", images=True), fixed_view("domains", images=False)
    ('', ', niche smoothed', ' genes, niche smoothed')
    """
    view = FIXED.get(task, "")
    return view if images or view.startswith(" ") else f" genes{view}"


def as_fixed(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the rows of a model of ours of the embedding that is fixed in advance for each task (`FIXED`), as one method called ``model``."""
    return rows[_is_fixed(rows, model)].assign(method=model)


def _data_with_images(rows: pd.DataFrame, model: str | None) -> set[str]:
    """Return the data sets of which the model fused image and genes; of the others there is but the view of the genes."""
    return set(rows.loc[rows["method"] == model, "data"])


def _is_fixed(rows: pd.DataFrame, model: str) -> list[bool]:
    with_images = _data_with_images(rows, model)
    names = rows[["task", "data", "method"]].itertuples(index=False)
    return [method == model + fixed_view(task, images=data in with_images) for task, data, method in names]


def of_one_method_each(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in which each model of ours is two methods, as fixed in advance and as chosen on training cells, in the place of its views."""
    models = models_of(rows["method"].unique())
    others = rows[~rows["method"].map(is_ours)]
    own = [part for name in models for part in (as_fixed(rows, name), chosen_on_training(rows, name)) if len(part)]
    return pd.concat([*own, others], ignore_index=True)


def chosen_on_training(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the rows of a model of ours that has, for each question and seed, the view that tells held-out training cells best.

    So the view is chosen as the penalty of its predictor is. Test cells take no part in it, so this is no bound, as the best of all
    views is, but what somebody gets who chooses so. Clusters need no labels: their view is chosen as `spatia cluster` does, by what groups
    tell of the expression of left-out cells among the grouped ones. Where there is nothing to choose by (domains, retrieval) it is the
    embedding that is fixed in advance. The method is called ``model`` + `ON_TRAINING`, ``message`` names the view; empty where nothing could
    be chosen at all.
    """
    good = rows[(rows["status"] == "ok") & ~rows["metric"].str.contains(DETAIL, regex=False)]
    own = good[[models_of([name]) == [model] for name in good["method"].astype(str)]]
    judged = own.dropna(subset="held_out")
    judged = judged[_may_be_chosen(judged, model)]
    if judged.empty:
        return judged
    question = ["task", "data", "metric", "seed"]
    best = judged.loc[judged.groupby(question)["held_out"].idxmax()]
    fixed = own[_is_fixed(own, model)]
    found = pd.concat([best, fixed]).drop_duplicates(question)
    return found.assign(message=found["method"], method=model + ON_TRAINING)


def _may_be_chosen(rows: pd.DataFrame, model: str) -> list[bool]:
    """Say of each row of a model whether its view is among those that may be chosen."""
    with_images = _data_with_images(rows, model)
    allowed = []
    for task, data, method in rows[["task", "data", "method"]].astype(str).itertuples(index=False):
        views = CHOSEN_FROM.get(task)
        allowed.append(views is None or method.removeprefix(model) in views[data not in with_images])
    return allowed


def wins(rows: pd.DataFrame, *, fixed: str | None = None, of: str | None = None) -> pd.DataFrame:
    """Return, for each task and data set, the best of our embeddings, the best of the others, and who is ahead.

    Two methods are compared on the seeds that both answered. Columns: task, data, metric; ours, our_method, other, other_method; difference
    (mean of the differences, seed by seed), difference_sd (NaN of one seed), ahead and n_seeds (on how many of how many seeds ours is ahead),
    missing (seeds that were asked and lack one of the two), outcome ("first", "behind", or "tied": the mean
    difference is no larger than its sd).

    Parameters
    ----------
    fixed
        Of this model of ours alone, and of it only the embedding that `FIXED` names for the task: not the best of many on the
        same test cells. Or the name of a method, for what :func:`chosen_on_training` gives.
    of
        A method in the place of ours: it is compared with all others, ours among them.
    """
    good, found = _questions(rows), []
    with_images = _data_with_images(rows, fixed)
    asked: dict[Any, int] = rows.groupby(["task", "data"])["seed"].nunique().to_dict()
    for (task, data, metric), group in good.groupby(["task", "data", "metric"], sort=False):
        table = group.pivot_table(index="seed", columns="method", values="value", sort=False)
        names = pd.unique(group["method"]).tolist()
        others = [name for name in names if (name != of if of is not None else not is_ours(name))]
        wanted = of if of is not None else _of_task(fixed, str(task), images=data in with_images)
        mine = (
            [name for name in names if name not in others]
            if wanted is None
            else [name for name in names if name == wanted]
        )
        if mine and others and (compared := _compared(table, mine, others, asked[task, data])):
            found.append({"task": task, "data": data, "metric": metric, **compared})
    return pd.DataFrame(found, columns=["task", "data", "metric", *COMPARED])


def _of_task(fixed: str | None, task: str, *, images: bool) -> str | None:
    return fixed if fixed is None or fixed.endswith(ON_TRAINING) else fixed + fixed_view(task, images=images)


def chance_of_a_lead(n_seeds: int) -> float:
    """Return how often the mean difference of two equal methods is larger than its sd over so many seeds (t distribution).

    Examples
    --------
    >>> [round(chance_of_a_lead(n), 2) for n in (2, 3, 5)]
    [0.39, 0.23, 0.09]
    """
    return float(2 * student_t.sf(np.sqrt(n_seeds), n_seeds - 1)) if n_seeds > 1 else 1.0


def _compared(table: pd.DataFrame, mine: list[str], others: list[str], asked: int) -> dict[str, Any]:
    """Compare the best of ours with the best other by their values, (seeds, methods); {} where no seed has both."""
    best = max(mine, key=lambda name: (table[name].count(), table[name].mean()))
    leads = {name: (table[best] - table[name]).dropna() for name in others}
    most = max(map(len, leads.values()))
    if not most:
        return {}
    other = min((name for name in others if len(leads[name]) == most), key=lambda name: leads[name].mean())
    lead, both = leads[other], table.loc[leads[other].index, [best, other]]
    outcome = "tied" if abs(lead.mean()) <= np.nan_to_num(lead.std()) else "first" if lead.mean() > 0 else "behind"
    values = (
        both[best].mean(),
        best,
        both[other].mean(),
        other,
        lead.mean(),
        lead.std(),
        int((lead > 0).sum()),
        most,
        asked - most,
    )
    return dict(zip(COMPARED, (*values, outcome), strict=True))


def differences(outcome: pd.DataFrame) -> str:
    """Return what `wins` found as a table: by how much ours is ahead in each question, and how surely."""
    lines = [
        "| data | question | ours | best other | ahead by | on seeds | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in outcome.to_dict("records"):
        spread = f" ± {one['difference_sd']:.3f}" if np.isfinite(one["difference_sd"]) else ""
        seeds = f"{one['ahead']} of {one['n_seeds']}" + (f" ({one['missing']} missing)" if one["missing"] else "")
        texts = (
            one["data"], f"{one['task']}: {one['metric']}", f"{one['ours']:.3f}", f"{one['other']:.3f} ({one['other_method']})",
            f"{one['difference']:+.3f}{spread}", seeds, one["outcome"],
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, texts)) + " |")
    return "\n".join(lines)


def _questions(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that answer a question: no failures, no details, no permutation controls."""
    good = rows[(rows["status"] == "ok") & ~rows["metric"].str.contains(DETAIL, regex=False)]
    return good[[control_of(str(name)) is None for name in good["data"]]]


def markdown(ranking: Ranking) -> str:
    """Return the ranking as a table, with what it can tell."""
    lines = ["| method | mean rank |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.2f} |" for name, value in ranking.mean_rank.items()]
    note = f"{ranking.n_questions} questions that all of these answered, of {ranking.n_data_sets} {'corpus' if ranking.n_data_sets == 1 else 'corpora'} (mean over these of the mean over its questions)."
    if np.isfinite(ranking.critical_difference):
        note += (
            f" Friedman p = {ranking.p_value:.2g}; mean ranks nearer than {ranking.critical_difference:.2f} are not told apart"
            " (Nemenyi, 5 %, over corpora, in each of which methods are ranked by their mean rank)."
        )
    return "\n".join([*lines, "", note])
