"""The steps that make the model and embed the cells with it."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from anndata.io import read_elem
from numpy.typing import NDArray

from spatia import keys
from spatia.config import flatten
from spatia.corpus.corpus import Corpus
from spatia.inference.embed import embed
from spatia.log import duration, logger
from spatia.models.checkpoint import WEIGHTS_FILE, load_model, model_id
from spatia.models.spatia import n_parameters
from spatia.pipeline.slide import SPLIT, has_image
from spatia.pipeline.steps import Job
from spatia.report.contents import CELLS_FILE, write_result
from spatia.report.schema import Collapse, EmbeddingResult, TrainingResult
from spatia.tasks.seen import saw_test_cells
from spatia.training.settings import TrainSettings, read_settings
from spatia.training.stages import make_stages
from spatia.training.train import train

UNUSUAL_ABOVE = 1.0  # of ``obs['spatia_ood']``: 99 % of the training cells are below
UNUSUAL_MEANING = (
    "The score says how far a cell is from the cells that the model was trained on; 99% of these are below 1. High scores are folds, debris, wrong "
    "segmentation, or biology that is new to the model."
)


def given_model(job: Job) -> Any:
    """Return the identity of a given model, or of one to start from, for the digest."""
    given = job.settings.model or job.settings.start_from
    return model_id(given) if given is not None else None


def warn_of_seen_cells(job: Job) -> None:
    """Warn where the model's folder says that it was trained on cells that are held out here."""
    seen = saw_test_cells(job.model, Corpus.open(job.corpus), SPLIT, "test")
    if seen.problem is not None and seen.certain:
        job.warn(f"{seen.problem}: the scores may be too good")


def train_settings(job: Job) -> TrainSettings:
    """Return the settings of training: those of the run, over the defaults."""
    known = Corpus.open(job.corpus).split_names()
    own: dict[str, Any] = {
        "preset": job.settings.preset,
        "seed": job.settings.seed,
        "split": SPLIT if SPLIT in known else None,
    }
    return read_settings(overrides=job.settings.train, given=own)


def train_model(job: Job) -> str:
    """Train a model on the training part, or take the one that was given."""
    if job.settings.model is not None:
        _write_training(job, None)
        return f"the given model {job.settings.model.name} is used as it is"
    from spatia.plotting.curves import plot_curves

    settings = train_settings(job)
    folder = job.out / "model"
    if job.begin_anew and folder.exists():
        shutil.rmtree(folder)  # of other settings or another slide
    if not (folder / WEIGHTS_FILE).is_file():
        seconds = forecast_seconds(job.corpus, settings)
        logger.info("training will take about %s on this machine", duration(seconds))
    train([job.corpus], folder, settings, resume=True, start_from=job.settings.start_from, draw=plot_curves)
    result = _write_training(job, settings)
    for warning in _run_facts(folder).get("warnings", ()):
        job.warn(warning)
    return f"{result.preset} model, {result.n_parameters / 1e6:.1f} million parameters"


def forecast_seconds(corpus: Path, settings: TrainSettings) -> float:
    """Say how long training will take, from two steps of each stage on the real data; nothing of them is kept."""
    generator = torch.get_rng_state()
    seconds = 0.0
    for stage in make_stages([Corpus.open(corpus)], settings):
        if stage.epochs == 0:
            continue
        module, loader = stage.module, stage.loader(0, 1)
        loader.set_epoch(0)
        batches = iter(loader)
        times = []
        for batch in (next(batches), next(batches, None)):
            if batch is None:
                continue
            started = time.monotonic()
            terms = module(batch, 0)
            total = sum(stage.weights[name] * term.total / term.count.clamp(min=1) for name, term in terms.items())
            total.backward()
            times.append(time.monotonic() - started)
        seconds += times[-1] * len(loader) * stage.epochs
    torch.set_rng_state(generator)
    return seconds


def _run_facts(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write_training(job: Job, settings: TrainSettings | None) -> TrainingResult:
    model, facts = load_model(job.model), _run_facts(job.model) if settings is not None else {}
    stages = facts.get("stages", [])
    flat = flatten(settings.model_dump(mode="json")) if settings is not None else {}
    weights = {
        name.removeprefix("weights."): float(value) for name, value in flat.items() if name.startswith("weights.")
    }
    others = {name: value for name, value in flat.items() if not name.startswith("weights.")}
    epochs = {stage["name"]: int(stage["epochs"]) for stage in stages}
    n_cells = _n_training_cells(job, settings) if settings is not None else None
    seconds = facts.get("seconds")
    shown = sum(epochs.values()) * (n_cells or 0)
    result = TrainingResult(
        trained=settings is not None,
        model_id=model_id(job.model),
        n_parameters=n_parameters(model),
        preset=model.config.preset,
        n_train_cells=n_cells,
        seconds=seconds,
        epochs=epochs,
        cells_per_second=shown / seconds if seconds and shown else None,
        loss_weights=weights,
        settings={name: value if _is_plain(value) else json.dumps(value) for name, value in others.items()},
        collapse=_collapse(stages, settings) if settings is not None else None,
    )
    write_result(job.results / "training.json", result)
    return result


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _n_training_cells(job: Job, settings: TrainSettings) -> int:
    corpus = Corpus.open(job.corpus)
    if settings.split is None:
        return corpus.n_cells
    ranges = corpus.split(settings.split).parts[settings.part].values()
    return sum(stop - start for of_sample in ranges for start, stop in of_sample)


def _collapse(stages: list[dict[str, Any]], settings: TrainSettings) -> Collapse | None:
    measured = [stage for stage in stages if stage.get("effective_rank") is not None]
    if not measured:
        return None
    last = measured[-1]
    rank, most = float(last["effective_rank"]), int(last["effective_rank_most"])
    collapsed = rank < settings.collapse_share * most
    message = f"the embedding uses about {rank:.0f} directions of at most {most}; below {settings.collapse_share:.0%} of them is collapse."
    return Collapse(collapsed=collapsed, effective_rank=rank, most=most, message=message)


def embed_cells(job: Job) -> str:
    """Embed every cell at every level into ``cells.h5ad``."""
    started = time.monotonic()
    use = ("image", "genes") if has_image(job.corpus) else ("genes",)
    embed(job.corpus, job.model, job.out / CELLS_FILE, use=use)
    with h5py.File(job.out / CELLS_FILE, "r") as file:
        n_cells, width = file["obsm/X_spatia"].shape
        score = np.asarray(read_elem(file["obs"])[keys.UNUSUAL], np.float64)
        facts = read_elem(file["uns/spatia"])
    write_result(
        job.results / "embedding.json", _embedding_result(facts, n_cells, width, time.monotonic() - started, score)
    )
    return f"{n_cells:,} cells, {width} numbers each"


def _embedding_result(
    facts: dict[str, Any], n_cells: int, width: int, seconds: float, score: NDArray[np.float64]
) -> EmbeddingResult:
    names = [str(name) for name in facts["sections"]]
    coverage = dict(zip(names, map(float, facts["gene_coverage"]), strict=True))
    return EmbeddingResult(
        n_cells=n_cells,
        width=width,
        use=tuple(map(str, facts["use"])),
        gene_coverage=coverage,
        seconds=seconds,
        unusual_above=UNUSUAL_ABOVE,
        unusual_share=float((score > UNUSUAL_ABOVE).mean()),
        unusual_meaning=UNUSUAL_MEANING,
    )
