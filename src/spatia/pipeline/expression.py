"""The step that predicts genes of held-out cells: from the image alone, and hidden genes from the others."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.inference.predict import INTERVAL, ExpressionPrediction, predict_expression
from spatia.metrics.regression import pearson_per_gene
from spatia.pipeline.cells import EmbeddedCells, embedded_cells
from spatia.pipeline.slide import has_image
from spatia.pipeline.steps import Job, Skipped
from spatia.readout.predictors import fit_ridge
from spatia.report.contents import write_result
from spatia.report.schema import ExpressionResult, ExpressionTask

LEAST_DETECTED = 0.02  # of training cells: the correlation of a gene seen in fewer is noise
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
    """One way of predicting, on all cells; scores on the held-out ones."""

    task: Task
    genes: NDArray[np.int64]
    measured: Floats
    prediction: ExpressionPrediction
    baseline: Floats | None  # (held-out cells, genes)
    baseline_name: str | None
    test: NDArray[np.int64]

    @property
    def pearson(self) -> Floats:
        return pearson_per_gene(self.measured[self.test], self.prediction.mean[self.test]).values

    @property
    def baseline_pearson(self) -> Floats:
        if self.baseline is None:
            return np.full(len(self.genes), np.nan)
        return pearson_per_gene(self.measured[self.test], self.baseline).values

    @property
    def covered(self) -> Floats:
        inside = (self.measured >= self.prediction.lower) & (self.measured <= self.prediction.upper)
        return inside[self.test].mean(axis=0)


def predict_genes(job: Job) -> str:
    """Predict genes and compare with what was measured, and with a ridge regression, on held-out cells."""
    cells = embedded_cells(job)
    train, test = cells.part(job.corpus, "train"), cells.part(job.corpus, "test")
    if len(test) < 10:
        raise Skipped(f"Only {len(test)} cells are held out: too few to judge predictions on.")
    outcomes = []
    if has_image(job.corpus):
        outcomes.append(_from_image(job, cells, train, test))
    else:
        job.warn("The slide has no image, so nothing was predicted from it.")
    outcomes.append(_hidden_genes(job, cells, train, test))
    _write(job, cells, outcomes)
    return "; ".join(f"{one.task} r {np.nanmean(one.pearson):.3f}" for one in outcomes)


def _detected(cells: EmbeddedCells, train: NDArray[np.int64]) -> NDArray[np.int64]:
    share = np.asarray((cells.counts[train] > 0).mean(axis=0)).ravel()
    return np.flatnonzero(share >= LEAST_DETECTED)


def _from_image(job: Job, cells: EmbeddedCells, train: NDArray[np.int64], test: NDArray[np.int64]) -> _Outcome:
    candidates = _detected(cells, train)
    variance = cells.log_expression(candidates)[train].var(axis=0)
    genes = np.sort(candidates[np.argsort(-variance, kind="stable")[: job.settings.variable_genes]])
    prediction = predict_expression(job.corpus, job.model, _ids(cells, genes), use=("image",))
    measured = cells.log_expression(genes, prediction.depth)
    crops = _small_crops(Corpus.open(job.corpus))
    baseline = _ridge(_components(crops, train), measured, cells, train, test, job.settings.seed)
    name = f"ridge regression on {COMPONENTS} principal components of the crops"
    return _Outcome("image", genes, measured, prediction, baseline, name, test)


def _hidden_genes(job: Job, cells: EmbeddedCells, train: NDArray[np.int64], test: NDArray[np.int64]) -> _Outcome:
    candidates = _detected(cells, train)
    rng = np.random.default_rng([job.settings.seed, 20])
    genes = np.sort(rng.choice(candidates, max(1, round(job.settings.hidden_share * len(candidates))), replace=False))
    ids = _ids(cells, genes)
    use = ("image", "genes") if has_image(job.corpus) else ("genes",)
    prediction = predict_expression(job.corpus, job.model, ids, use=use, hide_genes=ids)
    measured = cells.log_expression(genes, prediction.depth)
    others = np.setdiff1d(np.arange(len(cells.genes)), genes)
    seen = cells.log_expression(others).astype(np.float32)
    baseline = _ridge(_components(seen, train), measured, cells, train, test, job.settings.seed)
    name = f"ridge regression on {COMPONENTS} principal components of the other genes"
    return _Outcome("imputation", genes, measured, prediction, baseline, name, test)


def _ids(cells: EmbeddedCells, genes: NDArray[np.int64]) -> list[str]:
    return cells.genes.index[genes].astype(str).tolist()


def _small_crops(corpus: Corpus) -> NDArray[np.float32]:
    """Return the crops of all cells averaged to a few pixels, (cells, channels · y · x)."""
    parts = []
    for section in corpus.sections.values():
        n = section.entry.n_cells
        for start in range(0, n, 4096):
            crops = section.cells.read(f"obsm/{keys.CELL_IMAGES}", start, min(start + 4096, n)).astype(np.float32)
            cells, channels, height, width = crops.shape
            step = max(1, height // CROP_PX)
            cut = crops[:, :, : height // step * step, : width // step * step]
            small = cut.reshape(cells, channels, height // step, step, width // step, step).mean(axis=(3, 5))
            parts.append(small.reshape(cells, -1))
    return np.concatenate(parts)


def _components(values: NDArray[np.float32], train: NDArray[np.int64]) -> Floats:
    """Return principal components of the training cells, for all cells."""
    from sklearn.decomposition import PCA

    n = min(COMPONENTS, values.shape[1], len(train) - 1)
    fitted = PCA(n, svd_solver="randomized", random_state=0).fit(values[train])
    return np.asarray(fitted.transform(values), np.float64)


def _ridge(
    inputs: Floats,
    measured: Floats,
    cells: EmbeddedCells,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int,
) -> Floats:
    place: dict[str, Any] = {"positions_um": cells.position_um[train], "sections": cells.sample[train]}
    return fit_ridge(inputs[train], measured[train], seed=seed, **place).predict(inputs[test])


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
    held_out = np.zeros(len(one.measured), bool)
    held_out[one.test] = True
    columns = {
        "cell_id": cells.obs.index.astype(str),
        "sample": pd.Categorical(cells.sample),
        "gene": pd.Categorical([cells.symbols[one.genes[place]]] * len(held_out)),
        "task": pd.Categorical([one.task] * len(held_out)),
        "measured": one.measured[:, place].astype(np.float32),
        "predicted": one.prediction.mean[:, place].astype(np.float32),
        "lower": one.prediction.lower[:, place].astype(np.float32),
        "upper": one.prediction.upper[:, place].astype(np.float32),
        "held_out": held_out,
    }
    return pd.DataFrame(columns).astype({"gene": str, "task": str, "sample": str})


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
    )
