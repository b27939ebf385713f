"""The step that predicts genes of held-out cells: from the image alone, and hidden genes from the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.sparsefuncs import mean_variance_axis

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.errors import SpatiaError
from spatia.inference.predict import INTERVAL, predict_expression
from spatia.metrics.regression import pearson_per_gene
from spatia.models.checkpoint import load_model
from spatia.models.names import known_by_symbol
from spatia.models.spatia import Spatia
from spatia.pipeline.cells import EmbeddedCells, embedded_cells
from spatia.pipeline.model import warn_of_seen_cells
from spatia.pipeline.slide import has_image, require_image
from spatia.pipeline.steps import Job, Skipped
from spatia.readout.predictors import fit_ridge
from spatia.report.contents import write_result
from spatia.report.schema import ExpressionResult, ExpressionTask
from spatia.tasks.predict_expression import sections_with_image

LEAST_DETECTED = 0.02  # of training cells: the correlation of a gene seen in fewer is noise
LEAST_CELLS = 10  # of training and of held-out cells
BASELINE_CELLS = 30_000  # training cells that the simple predictor learns from: some 50 coefficients need no more
JUDGED_GENES = 300  # of the hidden ones: predictions of all cells and 1,000 genes of a large panel are gigabytes
CROPS_AT_ONCE = 4_096
COMPONENTS = 50  # of the simple predictor's principal components
CROP_PX = 16  # crops are averaged to so many pixels a side before their components
SHOWN_BECAUSE = (
    "for each way of predicting the two with the highest correlation on held-out cells, the one in the middle of the ranking and "
    "the last one."
)

Floats = NDArray[np.float64]
Task = Literal["image", "imputation"]


@dataclass(frozen=True)
class _Outcome:
    """One way of predicting, on all cells; scores on the held-out ones.

    Attributes
    ----------
    measured
        (cells, genes) log1p of counts at the prediction's depth.
    mean, lower, upper
        (cells, genes); NaN of cells that it cannot predict.
    baseline
        (held-out cells, genes); None where the simple predictor has nothing to predict from.
    test
        The held-out cells that are judged.
    note
        What the reader should know of it.
    """

    task: Task
    genes: NDArray[np.int64]
    measured: sp.csr_matrix
    mean: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    baseline: Floats | None
    baseline_name: str | None
    test: NDArray[np.int64]
    note: str = ""

    @cached_property
    def truth(self) -> Floats:
        """(held-out cells, genes)."""
        return np.asarray(self.measured[self.test].toarray(), np.float64)

    @cached_property
    def pearson(self) -> Floats:
        return pearson_per_gene(self.truth, self.mean[self.test]).values

    @cached_property
    def baseline_pearson(self) -> Floats:
        if self.baseline is None:
            return np.full(len(self.genes), np.nan)
        return pearson_per_gene(self.truth, self.baseline).values

    @cached_property
    def covered(self) -> Floats:
        inside = (self.truth >= self.lower[self.test]) & (self.truth <= self.upper[self.test])
        return np.asarray(inside.mean(axis=0))


def predict_genes(job: Job) -> str:
    """Predict genes and compare with what was measured, and with a ridge regression, on held-out cells."""
    warn_of_seen_cells(job)
    corpus, cells = Corpus.open(job.corpus), embedded_cells(job)
    model = known_by_symbol(load_model(job.model), [corpus])
    outcomes: list[_Outcome] = []
    reasons: list[Skipped | SpatiaError] = []
    for predict in (_from_image, _hidden_genes):
        try:
            outcomes.append(predict(job, corpus, model, cells))
        except (Skipped, SpatiaError) as error:  # what one of them lacks is no reason to leave out the other
            reasons.append(error)
    if not outcomes:
        raise reasons[-1]  # that of the hidden genes, which need no image
    for reason in reasons:
        job.warn(str(reason))
    _write(job, cells, outcomes)
    return "; ".join(f"{one.task} r {np.nanmean(one.pearson):.3f}" for one in outcomes)


def _from_image(job: Job, corpus: Corpus, model: Spatia, cells: EmbeddedCells) -> _Outcome:
    require_image(job.corpus)
    sections = sections_with_image(corpus, model)
    seen = cells.obs[keys.HAS_IMAGE].to_numpy(bool) & np.isin(cells.sample, sections)
    train, test = _parts(job, cells, seen)
    candidates = _judged(cells, train)
    _, variance = mean_variance_axis(cells.log_expression(candidates)[train], axis=0)
    genes = np.sort(candidates[np.argsort(-variance, kind="stable")[: job.settings.variable_genes]])
    found = predict_expression(corpus, model, _ids(cells, genes), use=("image",), every_section=False)
    for values in (found.mean, found.lower, found.upper):
        values[~seen] = np.nan
    measured = cells.log_expression(genes, found.depth)
    channels = [c for c in corpus.channels if all(c in corpus.section(name).entry.channels for name in sections)]
    baseline = name = None
    if channels:
        baseline = _baseline(partial(_small_crops, corpus, channels), measured, cells, train, test, job.settings.seed)
        name = f"ridge regression on {COMPONENTS} principal components of the crops"
    return _Outcome("image", genes, measured, found.mean, found.lower, found.upper, baseline, name, test)


def _hidden_genes(job: Job, corpus: Corpus, model: Spatia, cells: EmbeddedCells) -> _Outcome:
    train, test = _parts(job, cells, np.ones(len(cells.obs), bool))
    candidates = _judged(cells, train)
    rng = np.random.default_rng([job.settings.seed, 20])
    hidden = np.sort(rng.choice(candidates, max(1, round(job.settings.hidden_share * len(candidates))), replace=False))
    genes, note = hidden, ""
    if len(hidden) > JUDGED_GENES:
        genes = np.sort(rng.choice(hidden, JUDGED_GENES, replace=False))
        note = f"of {len(hidden):,} genes that are hidden a random {JUDGED_GENES} are predicted and judged."
    use = ("image", "genes") if has_image(job.corpus) else ("genes",)
    found = predict_expression(corpus, model, _ids(cells, genes), use=use, hide_genes=_ids(cells, hidden))
    measured = cells.log_expression(genes, found.depth)
    others = np.setdiff1d(np.flatnonzero(cells.measured_everywhere), hidden)
    baseline = name = None
    if len(others):
        # the depth, too, is that of the visible genes: one over all genes would tell of the hidden ones
        visible = cells.log_expression(others, depth_of=others)

        def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            return np.asarray(visible[rows].toarray(), np.float32)

        baseline = _baseline(read, measured, cells, train, test, job.settings.seed)
        name = f"ridge regression on {COMPONENTS} principal components of the other genes"
    return _Outcome("imputation", genes, measured, found.mean, found.lower, found.upper, baseline, name, test, note)


def _parts(job: Job, cells: EmbeddedCells, seen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the training and the held-out cells that can be predicted."""
    train, test = (rows[seen[rows]] for rows in (cells.part(job.corpus, part) for part in ("train", "test")))
    if min(len(train), len(test)) < LEAST_CELLS:
        raise Skipped(
            f"Of the cells that can be predicted {len(train):,} are training cells and {len(test):,} are held out: too few to judge "
            "predictions on."
        )
    return train, test


def _judged(cells: EmbeddedCells, train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the genes that a prediction can be judged on.

    A gene that a section does not measure would be told by the section alone.
    """
    share = np.asarray((cells.counts[train] > 0).mean(axis=0)).ravel()
    known = cells.genes["known_to_model"].to_numpy(bool)
    genes = np.flatnonzero((share >= LEAST_DETECTED) & known & cells.measured_everywhere)
    if not len(genes):
        raise Skipped(
            f"No gene is measured in every section, known to the model and seen in {LEAST_DETECTED:.0%} of the training cells, so "
            "predictions cannot be judged."
        )
    return genes


def _ids(cells: EmbeddedCells, genes: NDArray[np.int64]) -> list[str]:
    return cells.genes.index[genes].astype(str).tolist()


def _small_crops(corpus: Corpus, channels: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the crops of some cells, ``rows`` ascending, averaged to a few pixels, (rows, channels · y · x)."""
    parts, start = [], 0
    for section in corpus.sections.values():
        own = rows[(rows >= start) & (rows < start + section.entry.n_cells)] - start
        start += section.entry.n_cells
        for block in np.unique(own // CROPS_AT_ONCE):
            first = int(block) * CROPS_AT_ONCE
            stop = min(first + CROPS_AT_ONCE, section.entry.n_cells)
            crops = section.cells.read(f"obsm/{keys.CELL_IMAGES}", first, stop)[
                own[own // CROPS_AT_ONCE == block] - first
            ]
            parts.append(_shrunk(crops[:, [section.entry.channels.index(channel) for channel in channels]]))
    return np.concatenate(parts)


def _shrunk(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    cells, channels, height, width = crops.shape
    step = max(1, height // CROP_PX)
    cut = crops[:, :, : height // step * step, : width // step * step].astype(np.float32)
    small = cut.reshape(cells, channels, height // step, step, width // step, step).mean(axis=(3, 5))
    return small.reshape(cells, -1)


def _baseline(
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    measured: sp.csr_matrix,
    cells: EmbeddedCells,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int,
) -> Floats:
    """Return held-out cells as a ridge regression on principal components predicts them, (held-out cells, genes).

    Parameters
    ----------
    read
        Returns what is predicted from of some cells, (cells, width): that of all cells at once need not fit into memory.
    """
    from sklearn.decomposition import PCA

    if len(train) > BASELINE_CELLS:
        train = np.sort(np.random.default_rng(seed).choice(train, BASELINE_CELLS, replace=False))
    inputs = read(train)
    components = PCA(min(COMPONENTS, inputs.shape[1], len(train) - 1), svd_solver="randomized", random_state=0)
    place: dict[str, Any] = {"positions_um": cells.position_um[train], "sections": cells.sample[train]}
    ridge = fit_ridge(components.fit_transform(inputs), measured[train].toarray(), seed=seed, **place)
    return ridge.predict(components.transform(read(test)))


def _write(job: Job, cells: EmbeddedCells, outcomes: list[_Outcome]) -> None:
    scores, values, shown = [], [], []
    for one in outcomes:
        symbols, pearson = cells.symbols[one.genes], one.pearson
        columns = {
            "task": one.task,
            "gene": symbols,
            "pearson": pearson,
            "baseline_pearson": one.baseline_pearson,
            "coverage": one.covered,
        }
        scores.append(pd.DataFrame(columns))
        for place in _chosen(pearson):
            shown.append(str(symbols[place]))
            values.append(_values(cells, one, place))
    job.results.mkdir(parents=True, exist_ok=True)
    pd.concat(scores, ignore_index=True).to_parquet(job.results / "expression_genes.parquet")
    pd.concat(values, ignore_index=True).to_parquet(job.results / "predicted_genes.parquet")
    result = ExpressionResult(
        tasks=tuple(_summary(one) for one in outcomes), shown_genes=tuple(shown), shown_because=SHOWN_BECAUSE
    )
    write_result(job.results / "expression.json", result)


def _chosen(pearson: Floats) -> list[int]:
    order = np.argsort(-np.nan_to_num(pearson, nan=-1), kind="stable")
    places = dict.fromkeys((0, 1, len(order) // 2, len(order) - 1))
    return [int(order[place]) for place in places if place < len(order)]


def _values(cells: EmbeddedCells, one: _Outcome, place: int) -> pd.DataFrame:
    rows = np.flatnonzero(np.isfinite(one.mean[:, place]))
    columns = {
        "cell_id": cells.obs.index[rows].astype(str),
        keys.SAMPLE: cells.sample[rows],
        "gene": str(cells.symbols[one.genes[place]]),
        "task": one.task,
        "measured": one.measured[rows, place].toarray().ravel().astype(np.float32),
        "predicted": one.mean[rows, place],
        "lower": one.lower[rows, place],
        "upper": one.upper[rows, place],
        "held_out": np.isin(rows, one.test),
    }
    return pd.DataFrame(columns)


def _summary(one: _Outcome) -> ExpressionTask:
    return ExpressionTask(
        name=one.task,
        n_cells=len(one.test),
        n_genes=len(one.genes),
        mean_pearson=float(np.nanmean(one.pearson)),
        baseline=one.baseline_name,
        baseline_mean_pearson=float(np.nanmean(one.baseline_pearson)) if one.baseline is not None else None,
        interval=INTERVAL,
        coverage=float(one.covered.mean()),
        note=one.note,
    )
