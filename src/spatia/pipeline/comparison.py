"""The step that compares the model with simple methods, on the cells that it never saw."""

from dataclasses import dataclass, replace

import pandas as pd

from spatia import keys
from spatia.bench.dataset import DataSet
from spatia.bench.methods.method import Modality, Problem
from spatia.bench.methods.registry import BASELINES
from spatia.bench.methods.spatia_model import Parts, SpatiaSource, spatia_methods
from spatia.bench.protocols import labels, retrieval, values
from spatia.bench.protocols.trial import Task
from spatia.bench.run import Plan, run
from spatia.pipeline.cells import cell_ids, embedded_cells
from spatia.pipeline.labels import read_labels
from spatia.pipeline.slide import SPLIT
from spatia.pipeline.steps import Job, Skipped
from spatia.report.contents import write_result
from spatia.report.schema import BenchmarkResult, BenchmarkTask

FOLDER = "benchmark"
TAKES_LONGER = "not run here; `spatia bench` compares with it"
# seconds each; the benchmark has others that take longer than the rest of a run
QUICK = (
    "pca",
    "pca smoothed",
    "pca + pca smoothed",
    "morphology",
    "pca of crops",
    "pca + morphology",
    "pca + morphology + smoothed",
    "knn on pca",
    "knn on morphology",
    "knn on pca + morphology",
)
OURS = ("spatia", "spatia image", "spatia genes", "spatia, decoder", "spatia image, decoder", "spatia genes, decoder")
PROTOCOL = (
    "The same cells, the same hidden genes and the same simple predictors (ridge and logistic regression) for every method; "
    "the model and all methods learned from the training blocks alone, and every number is measured on the held-out blocks. "
    "There is one split, that of the model, so the spread over seeds is that of hidden genes and of what a method draws. "
    "“Decoder” is the model's own prediction, without a ridge regression. The best of our rows is held against the best of theirs."
)


@dataclass(frozen=True)
class _Asked:
    task: Task
    metric: str
    title: str
    measure: str


ASKED = (
    _Asked(values.IMAGE_TO_EXPRESSION, "Pearson", "Genes from the image", "mean Pearson r"),
    _Asked(values.IMPUTATION, "Pearson", "Hidden genes", "mean Pearson r"),
    _Asked(values.EXPRESSION_TO_IMAGE, "R2", "Morphology from genes", "mean R²"),
    _Asked(retrieval.RETRIEVAL, "image→genes", "Find the genes of an image", "recall@10"),
    _Asked(retrieval.RETRIEVAL, "genes→image", "Find the image of genes", "recall@10"),
    _Asked(labels.ANNOTATION, "macro-F1", "Labels", "macro F1"),
)


class RunData(DataSet):
    """The corpus of a run, split as the model's training was."""

    def split_name(self, seed: int) -> str:  # noqa: ARG002 - one model, one split
        """Return the run's split, whatever the seed."""
        return SPLIT


class OneModel(SpatiaSource):
    """The run's model. It is the same for every seed, so what it makes of the cells is made once."""

    def parts(self, problem: Problem, view: frozenset[Modality]) -> Parts:
        """Return every level of one view of all cells."""
        return super().parts(replace(problem, seed=0), view)


def compare(job: Job) -> str:
    """Run the tasks that the slide can ask, for our embeddings and the quick baselines."""
    if not job.settings.benchmark:
        raise Skipped("It was left out on request (`--no-benchmark`).")
    folder = job.results / FOLDER
    if job.begin_anew:
        (folder / "rows.parquet").unlink(missing_ok=True)
    data = RunData(name="slide", corpus=job.corpus, **_labels(job))
    ours = [method for method in spatia_methods(OneModel(model=job.model)) if method.name in OURS]
    simple = [BASELINES[name] for name in QUICK]
    tasks = list({asked.task.name: asked.task for asked in ASKED}.values())
    rows = run(Plan([data], tasks, [*ours, *simple], job.settings.benchmark_seeds, command="spatia run"), folder)
    result = BenchmarkResult(
        tasks=_titles(rows),
        n_seeds=job.settings.benchmark_seeds,
        protocol=PROTOCOL,
        left_out={name: TAKES_LONGER for name in BASELINES if name not in QUICK},
    )
    write_result(job.results / "benchmark.json", result)
    failed = rows[rows["status"] == "failed"].drop_duplicates(["method", "message"])
    for row in failed.itertuples():
        job.warn(f"{row.method} on {row.task}: {row.message}")
    return f"{len(result.tasks)} tasks, {len([*ours, *simple])} methods"


def _titles(rows: pd.DataFrame) -> tuple[BenchmarkTask, ...]:
    good = rows[rows["status"] == "ok"]
    found = set(zip(good["task"], good["metric"], strict=True))
    return tuple(
        BenchmarkTask(name=asked.task.name, metric=asked.metric, title=asked.title, measure=asked.measure)
        for asked in ASKED
        if (asked.task.name, asked.metric) in found
    )


def _labels(job: Job) -> dict[str, object]:
    """Return the labels as the benchmark reads them, where some were given."""
    settings = job.settings
    if settings.labels_key is None and settings.annotations is None:
        return {}
    cells = embedded_cells(job)
    label = read_labels(cells, job)
    path = job.results / FOLDER / "labels.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"cell_id": cell_ids(job.corpus), keys.SAMPLE: cells.sample, "label": label.to_numpy()}
    pd.DataFrame(columns).to_parquet(path)
    return {"labels": path, "cell_type": "label"}
