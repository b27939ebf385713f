"""The step that trains a generator and draws held-out cells from their genes: only where it is asked for."""

import json
import shutil

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from spatia import keys
from spatia.config import read_settings_of
from spatia.corpus.corpus import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.generation.checkpoint import WEIGHTS_FILE
from spatia.inference.beside_real import beside_real, pictures_of
from spatia.inference.generate import generate
from spatia.inference.generator import Generator
from spatia.inference.real_cells import RealCells, real_cells
from spatia.log import logger
from spatia.models.checkpoint import load_model
from spatia.pipeline.slide import SPLIT, require_image
from spatia.pipeline.steps import Job, Skipped
from spatia.report.contents import write_result
from spatia.report.schema import DrawnResult
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_train import train_generator

FOLDER, STORE, REAL_STORE = "generator", "drawn.zarr", "drawn_from_real_cells.zarr"
SHOWN_CELLS = 12
REAL_CELLS = 10_000  # looked among, of the training cells: each is embedded once more
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
        for made in (folder, store, job.out / REAL_STORE):
            shutil.rmtree(made, ignore_errors=True)
    budget = f"presentations.generator={job.settings.generate}"
    given = {"seed": job.settings.seed, "split": SPLIT}
    settings = read_settings_of(GeneratorSettings, "spatia run", overrides=[*SETTINGS, budget], given=given)
    if not (folder / WEIGHTS_FILE).is_file():
        train_generator(corpus, folder, job.model, settings, resume=True)
    generate(corpus, folder, store, split=SPLIT, part="test", limit=SHOWN_CELLS, seed=job.settings.seed)
    vocabulary = load_model(job.model).vocabulary
    shown = beside_real(store, corpus, vocabulary, SPLIT, cells=SHOWN_CELLS)
    job.results.mkdir(parents=True, exist_ok=True)
    pictures = {name: getattr(shown, name).numpy() for name in ("generated", "real", "nearest")}
    n_real, not_begun = 0, ""
    try:
        real = real_cells(corpus, Generator.load(folder), split=SPLIT, most=REAL_CELLS, seed=job.settings.seed)
    except SettingsError as error:  # of too few training cells: the drawings above do not need them
        not_begun = str(error)
        logger.warning("nothing is drawn from real cells: %s", error)
    else:
        n_real, pictures = len(real), pictures | _begun_at(real, job, corpus, vocabulary)
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
        n_real=n_real,
        not_begun=not_begun,
    )
    write_result(job.results / "drawn.json", result)
    return f"{len(shown.generated)} cells drawn from their genes, after training on {job.settings.generate:,} images"


def _begun_at(real: RealCells, job: Job, corpus: Corpus, vocabulary: Vocabulary) -> dict[str, NDArray[np.uint8]]:
    """Draw the same cells once more, each from the training cell whose picture is said to be the most alike; return both pictures."""
    store, seed = job.out / REAL_STORE, job.settings.seed
    generate(corpus, job.out / FOLDER, store, split=SPLIT, part="test", limit=SHOWN_CELLS, seed=seed, real=real)
    drawn = ad.read_zarr(store)
    began = pictures_of(drawn.obs["real_cell_id"], drawn.obs["real_sample"], corpus, vocabulary)
    return {"from_real": np.asarray(drawn.obsm[keys.CELL_IMAGES]), "began": began.numpy()}
