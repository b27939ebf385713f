"""The result files of a run: what each holds, as validated frozen dataclasses.

``spatia run`` writes them into ``OUT/results``, the report reads them back; ``docs/report.md`` lists the files. A number that
could not be computed is ``None`` (``null`` in the file), never a stand-in.
"""

from dataclasses import field
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_CONFIG = ConfigDict(extra="forbid")
StepStatus = Literal["done", "skipped", "running", "failed", "refused"]
LeftOut = Literal["refused", "failed"]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class StepRecord:
    """One step of a run.

    Attributes
    ----------
    status
        "skipped" steps say why in ``message``; the report repeats it where the step's section would be.
    seconds
        Wall-clock time of the run that finished the step.
    digest
        SHA-256 of what decides the step's result: its settings, the digests of the steps it stands on, the version.
    times_done
        How often it was done in this folder.
    stood_on
        ``times_done`` of each step that it read, 0 where that one had no result.
    left_out
        Sections that it left out, by name.
    """

    name: str
    status: StepStatus
    seconds: float = 0.0
    message: str = ""
    digest: str = ""
    times_done: int = 0
    stood_on: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: dict[str, LeftOut] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class RunFacts:
    """``run.json``: the steps of a run and how it was made."""

    command: str
    started: str  # ISO 8601, UTC
    seed: int
    versions: dict[str, str]
    machine: dict[str, str]
    settings: dict[str, str | int | float | bool | None]
    steps: tuple[StepRecord, ...] = ()
    peak_memory_bytes: int | None = None

    def step(self, name: str) -> StepRecord | None:
        """Return the step of this name, None where the run never came to it."""
        return next((step for step in self.steps if step.name == name), None)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class CheckFinding:
    """One finding of the doctor, as ``spatia check --json`` prints it."""

    code: str
    severity: Literal["ok", "warning", "refused"]
    what: str
    found: str
    expected: str
    remedy: str = ""
    forceable: bool = False


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SectionCheck:
    """What the doctor says of one section (an element of ``check.json``)."""

    sample: str
    refused: bool
    findings: tuple[CheckFinding, ...]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SectionFacts:
    """One section of the corpus."""

    sample: str
    platform: str
    n_cells: int
    n_niches: int
    n_windows: int
    n_genes: int
    channels: tuple[str, ...]
    median_counts: float
    extent_um: tuple[float, float]
    um_per_px: float | None = None
    image_absence: str | None = None
    donor: str | None = None
    tissue: str | None = None
    organism: str | None = None
    disease: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SplitFacts:
    """How cells were held out.

    Attributes
    ----------
    rule
        In words: what was kept whole, and the distance between the parts.
    margin_um
        Least distance between cells of different parts, µm.
    n_cells
        Cells of each part: train, validation, test, margin.
    """

    rule: str
    margin_um: float
    n_cells: dict[str, int]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SlideResult:
    """``results/slide.json``: what was built."""

    sections: tuple[SectionFacts, ...]
    split: SplitFacts | None = None


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Collapse:
    """Is the embedding still spread over many directions?

    Attributes
    ----------
    effective_rank
        exp of the entropy of the normalised singular values: the number of directions in use.
    most
        The highest it could be: the width, or the number of cells it was measured on less one.
    """

    collapsed: bool
    effective_rank: float
    most: int
    message: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class TrainingResult:
    """``results/training.json``: how the model came to be; ``trained`` is False for a model that was given."""

    trained: bool
    model_id: str
    n_parameters: int
    preset: str | None = None
    n_train_cells: int | None = None
    seconds: float | None = None
    epochs: dict[str, int] = field(default_factory=dict)  # by stage
    cells_per_second: float | None = None
    loss_weights: dict[str, float] = field(default_factory=dict)
    settings: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    collapse: Collapse | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class EmbeddingResult:
    """``results/embedding.json``.

    Attributes
    ----------
    gene_coverage
        Share of each section's counts that fall on genes the model knows, by sample.
    unusual_share
        Share of cells whose ``obs['spatia_ood']`` is above ``unusual_above``.
    """

    n_cells: int
    width: int
    use: tuple[str, ...]
    gene_coverage: dict[str, float]
    seconds: float | None = None
    unusual_above: float | None = None
    unusual_share: float | None = None
    unusual_meaning: str = ""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Resolution:
    """One resolution that was tried."""

    resolution: float
    n_clusters: int
    # of clusters the mean adjusted Rand index between halves, of domains the share of variance that is told of other places
    stability: float | None


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class GroupsResult:
    """``results/clusters.json`` and ``results/domains.json``; the groups themselves stand in ``cells.h5ad``."""

    method: str
    embedding: str
    n_groups: int
    resolution: float | None = None
    tried: tuple[Resolution, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ExpressionTask:
    """One way of predicting expression, on held-out cells. ``name``: "image" or "imputation".

    Attributes
    ----------
    mean_pearson
        Mean over genes of the correlation over held-out cells between predicted and measured log1p expression.
    baseline, baseline_mean_pearson
        The simple predictor beside it, in words, and its mean on the same cells and genes.
    interval, coverage
        Nominal probability of the predicted interval, and the share of measured values inside it.
    """

    name: Literal["image", "imputation"]
    n_cells: int
    n_genes: int
    mean_pearson: float | None
    baseline: str | None = None
    baseline_mean_pearson: float | None = None
    interval: float | None = None
    coverage: float | None = None
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ExpressionResult:
    """``results/expression.json``; per gene in ``expression_genes.parquet``, values in ``predicted_genes.parquet``."""

    tasks: tuple[ExpressionTask, ...]
    shown_genes: tuple[str, ...]
    shown_because: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ReconstructionResult:
    """``results/reconstructions.json``; the crops stand in ``reconstructions.npz`` (uint8, (cells, channels, y, x)).

    Attributes
    ----------
    error
        Mean absolute difference to the real crop in grey values 0–255, by kind of reconstruction.
    """

    n_cells: int
    channels: tuple[str, ...]
    rgb: bool
    error: dict[str, float]
    note: str = ""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class DrawnResult:
    """``results/drawn.json``; the images stand in ``drawn.npz`` (uint8, (cells, channels, y, x)): generated, real, nearest, from_real, began.

    Attributes
    ----------
    n_images, seconds
        What the generator was trained on, counted anew in every epoch, and how long that took.
    evaluations
        Of the network for one image.
    n_real
        Training cells that drawings could begin at; 0: ``from_real`` and ``began`` are not there, and ``not_begun`` says why.
    """

    n_cells: int
    channels: tuple[str, ...]
    rgb: bool
    n_images: int
    seconds: float
    evaluations: int
    n_real: int = 0
    not_begun: str = ""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class BenchmarkTask:
    """One column of the benchmark: what is asked, and how the answer is judged; larger is better.

    Attributes
    ----------
    name, metric
        As in the rows.
    title, measure
        The same in words.
    """

    name: str
    metric: str
    title: str
    measure: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class BenchmarkResult:
    """``results/benchmark.json``; every value in ``benchmark.parquet`` (task, method, ours, seed, value)."""

    tasks: tuple[BenchmarkTask, ...]
    n_seeds: int
    protocol: str
    left_out: dict[str, str] = field(default_factory=dict)  # method -> why


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class AnnotationResult:
    """``results/annotation.json``: labels were given for some cells, the others were predicted.

    Attributes
    ----------
    judged
        In words: how labelled cells were held out.
    confusion
        Rows true, columns predicted, in the order of ``labels``; held-out labelled cells that were not abstained on.
    reliability
        (mean stated probability, share right, cells) of each bin.
    """

    source: str
    labels: tuple[str, ...]
    n_labelled: int
    judged: str
    accuracy: float | None
    macro_f1: float | None
    abstained_share: float
    abstain_below: float
    calibration_error: float | None
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[tuple[float, float, int], ...]
    note: str = ""
