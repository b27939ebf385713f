"""Tasks about values: imputation, image to expression, expression to image, states, the types around a cell."""

from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, GENES, IMAGE, Embed, Method
from spatia.bench.protocols.trial import Score, Task, Trial
from spatia.bench.readout import fit_values
from spatia.metrics.regression import pearson_per_gene, r_squared

VARIABLE_GENES = 50
LEAST_DETECTED = 0.01  # of training cells; the correlation of a gene seen in fewer is noise


class Told(NamedTuple):
    """What test cells are told, (len(test), targets); ``held_out`` as in `Score`, ``ends``: what a metric's name ends with."""

    predicted: NDArray[np.floating]
    held_out: float = float("nan")
    ends: str = ""


def _predict(
    trial: Trial,
    method: Method,
    embed: Embed | None,
    y: NDArray[np.floating],
    *,
    hide_genes: bool = False,
    train: NDArray[np.int64] | None = None,
    test: NDArray[np.int64] | None = None,
) -> list[Told]:
    """Predict targets (cells, targets) of test cells; ``train`` and ``test`` are those of the trial by default."""
    train, test = (trial.train if train is None else train), (trial.test if test is None else test)
    reader = fit_values(method, trial.cells, trial.embedding(embed, hide_genes=hide_genes), y, train)
    return [
        Told(reader.predict(z[test]), reader.held_out, ends)
        for ends, z in trial.read_from(embed, hide_genes=hide_genes).items()
    ]


def _genes(trial: Trial, method: Method, genes: NDArray[np.int64], *, hide: bool) -> list[Score]:
    """Predict genes in test cells and correlate with what was measured, gene by gene."""
    cells = trial.cells
    detected = np.asarray((cells.counts[trial.train][:, genes] > 0).mean(axis=0)).ravel() >= LEAST_DETECTED
    genes = genes[detected]
    # the target's depth counts all genes: it is what was measured; the inputs never see the hidden ones
    y = cells.expression(genes, depth_of=cells.shared_genes).toarray()
    if method.expression is not None:
        seen = trial.withheld(in_training=False) if hide else trial.problem
        return _correlated(trial, y, [Told(method.expression(seen, genes)[trial.test])])
    return _correlated(trial, y, _predict(trial, method, method.embed, y, hide_genes=hide))


def _correlated(trial: Trial, y: NDArray[np.floating], told: list[Told]) -> list[Score]:
    return [
        Score(
            f"Pearson{one.ends}",
            pearson_per_gene(y[trial.test], one.predicted).mean,
            len(trial.test),
            len(trial.train),
            one.held_out,
        )
        for one in told
    ]


def impute(trial: Trial, method: Method) -> list[Score]:
    """Predict a held-out fifth of the genes; the embedding sees none of them in any cell."""
    return _genes(trial, method, trial.hidden_genes(), hide=True)


def image_to_expression(trial: Trial, method: Method) -> list[Score]:
    """Predict the 50 genes that vary most over training cells."""
    return _genes(trial, method, most_variable(trial), hide=False)


def most_variable(trial: Trial) -> NDArray[np.int64]:
    """Return the 50 genes with the largest variance of log-normalised expression over training cells."""
    shared = trial.cells.shared_genes
    x = trial.cells.expression(shared)[trial.train]
    mean = np.asarray(x.mean(axis=0)).ravel()
    variance = np.asarray(x.multiply(x).mean(axis=0)).ravel() - mean**2
    return np.sort(shared[np.argsort(-variance, kind="stable")[:VARIABLE_GENES]])


def expression_to_image(trial: Trial, method: Method) -> list[Score]:
    """Predict measured morphology, each feature standardised on training cells and clipped at 5 sd."""
    frame = trial.cells.morphology
    assert frame is not None  # `lacks` has seen to it
    values = frame.to_numpy(np.float64)
    measured = np.isfinite(values).all(axis=0) | (np.isfinite(values[trial.train]).mean(axis=0) > 0.9)
    values = values[:, measured]
    centre, sd = np.nanmean(values[trial.train], axis=0), np.nanstd(values[trial.train], axis=0)
    y = np.clip((values[:, sd > 0] - centre[sd > 0]) / sd[sd > 0], -5, 5)
    filled = np.nan_to_num(y)  # the mean, in training alone: a test cell without the feature is not scored
    sizes = len(trial.test), len(trial.train)
    return [
        Score(f"R2{told.ends}", r_squared(y[trial.test], told.predicted).mean, *sizes, told.held_out)
        for told in _predict(trial, method, method.embed, filled)
    ]


def states(trial: Trial, method: Method) -> list[Score]:
    """Predict continuous states, each on cells of types that can have it; the mean over states, and each alone."""
    scores: dict[str, list[Score]] = {}
    for name in trial.cells.data.states:
        y = trial.cells.labels[name].to_numpy(np.float64)[:, None]
        train, test = (rows[np.isfinite(y[rows, 0])] for rows in (trial.train, trial.test))
        for told in _predict(trial, method, method.embed, y, train=train, test=test):
            value = r_squared(y[test], told.predicted).mean
            metric = f"R2 {name.removeprefix('state_')}{told.ends}"
            scores.setdefault(told.ends, []).append(Score(metric, value, len(test), len(train), told.held_out))
    means = []
    for ends, each in scores.items():
        mean, held_out = (float(np.mean([getattr(score, of) for score in each])) for of in ("value", "held_out"))
        means.append(Score(f"R2{ends}", mean, len(trial.test), len(trial.train), held_out))
    return [*means, *chain.from_iterable(scores.values())]


def neighbourhood(trial: Trial, method: Method) -> list[Score]:
    """Predict the shares of types among the 15 nearest cells; the mean over types of the correlation.

    What is learnt from are the shares among those of the 15 that are no test cells: others would tell their labels.
    """
    cells = trial.cells
    y = pd.get_dummies(cells.labels[cells.data.cell_type].astype("category")).to_numpy(np.float64)
    y = y[:, y[trial.train].mean(axis=0) >= LEAST_DETECTED]
    around = y[cells.neighbours]
    share, known = around.mean(axis=1), ~np.isin(cells.neighbours, trial.test)
    train = trial.train[known[trial.train].any(axis=1)]
    learnt = share.copy()
    learnt[train] = (around[train] * known[train, :, None]).sum(axis=1) / known[train].sum(axis=1, keepdims=True)
    return _correlated(trial, share, _predict(trial, method, method.embed, learnt, train=train))


def surroundings_to_expression(trial: Trial, method: Method) -> list[Score]:
    """Predict the 50 genes that vary most in a cell from its neighbours alone."""
    cells, genes = trial.cells, most_variable(trial)
    y = cells.expression(genes, depth_of=cells.shared_genes).toarray()
    if method.around_expression is not None:
        return _correlated(trial, y, [Told(method.around_expression(trial.problem, genes)[trial.test])])
    return _correlated(trial, y, _predict(trial, method, method.around, y))


def _no_image(cells: BenchCells) -> str | None:
    return None if cells.has_images else "no image"


IMPUTATION = Task(
    "imputation",
    "a held-out fifth of the genes",
    BOTH,
    impute,
    lambda cells: None if cells.is_count else "intensities of markers that were chosen not to depend on each other",
    kind="genes",
)
IMAGE_TO_EXPRESSION = Task(
    "image to expression", "the 50 most variable genes from the image", IMAGE, image_to_expression, _no_image, "genes"
)
EXPRESSION_TO_IMAGE = Task(
    "expression to image",
    "measured morphology from expression",
    GENES,
    expression_to_image,
    lambda cells: None if cells.morphology is not None else "no measured morphology",
)
STATES = Task(
    "states",
    "continuous states",
    BOTH,
    states,
    lambda cells: None if cells.data.states else "no states are known",
)
NEIGHBOURHOOD = Task(
    "neighbourhood",
    "types among the 15 nearest cells",
    BOTH,
    neighbourhood,
    lambda cells: None if cells.data.cell_type else "no cell types are known",
)
SURROUNDINGS = Task(
    "neighbours to expression",
    "the 50 most variable genes of a cell from its neighbours",
    GENES,
    surroundings_to_expression,
    lambda cells: None,  # noqa: ARG005 - every data set has neighbours
    kind="surroundings",
)
