"""The step that trains a generator and draws held-out cells from their genes: only where it is asked for."""

import json
import shutil

import numpy as np

from spatia.corpus.corpus import Corpus
from spatia.generation.checkpoint import WEIGHTS_FILE
from spatia.inference.beside_real import beside_real
from spatia.inference.generate import generate
from spatia.models.checkpoint import load_model
from spatia.pipeline.slide import SPLIT, require_image
from spatia.pipeline.steps import Job, Skipped
from spatia.report.contents import write_result
from spatia.report.schema import DrawnResult
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_train import train_generator
from spatia.training.settings import read_settings_of

FOLDER, STORE = "generator", "drawn.zarr"
SHOWN_CELLS = 12
# The proxy of the morphology term needs 12,000 images of its own, and stops where it cannot read a slide's features.
SETTINGS = ("weights.morphology=0", "sample_rows=0")


def draw_cells(job: Job) -> str:
    """Train a generator on the training cells and draw held-out ones from their genes and surroundings."""
    if not job.settings.generate:
        raise Skipped(
            "Not asked for: `--generate 40000` trains a generator on so many images, and draws held-out cells."
        )
    require_image(job.corpus)
    corpus, folder, store = Corpus.open(job.corpus), job.out / FOLDER, job.out / STORE
    if job.begin_anew:
        for made in (folder, store):
            shutil.rmtree(made, ignore_errors=True)
    budget = f"presentations.generator={job.settings.generate}"
    given = {"seed": job.settings.seed, "split": SPLIT}
    settings = read_settings_of(GeneratorSettings, "spatia run", overrides=[*SETTINGS, budget], given=given)
    if not (folder / WEIGHTS_FILE).is_file():
        train_generator(corpus, folder, job.model, settings, resume=True)
    generate(corpus, folder, store, split=SPLIT, part="test", limit=SHOWN_CELLS, seed=job.settings.seed)
    shown = beside_real(store, corpus, load_model(job.model).vocabulary, SPLIT, cells=SHOWN_CELLS)
    job.results.mkdir(parents=True, exist_ok=True)
    pictures = {name: getattr(shown, name).numpy() for name in ("generated", "real", "nearest")}
    np.savez_compressed(job.results / "drawn.npz", **pictures)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    rgb = any(bool(corpus.section(sample).details.get("rgb")) for sample in corpus.sections)
    result = DrawnResult(
        n_cells=len(shown.generated),
        channels=shown.channels,
        rgb=rgb,
        n_images=job.settings.generate,
        seconds=round(float(run["seconds"]), 1),
        evaluations=settings.solver.evaluations,
    )
    write_result(job.results / "drawn.json", result)
    return f"{len(shown.generated)} cells drawn from their genes, after training on {job.settings.generate:,} images"
