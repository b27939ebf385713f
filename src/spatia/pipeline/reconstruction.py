"""The step that lets the model draw held-out cells, from their image and from their genes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus
from spatia.inference.predict import reconstruct as draw
from spatia.models.checkpoint import load_model
from spatia.models.names import known_by_symbol
from spatia.pipeline.model import warn_of_seen_cells
from spatia.pipeline.slide import SPLIT, require_image
from spatia.pipeline.steps import Job, Skipped
from spatia.report.contents import write_result
from spatia.report.schema import ReconstructionResult

JUDGED_CELLS, SHOWN_CELLS, MEAN_CELLS = 512, 12, 2_048


def reconstruct(job: Job) -> str:
    """Draw held-out cells from each modality, and compare with the real crops and with the mean crop."""
    require_image(job.corpus)
    warn_of_seen_cells(job)
    corpus = Corpus.open(job.corpus)
    model = known_by_symbol(load_model(job.model), [corpus])
    sample, test = _most_cells(corpus, "test")
    rng = np.random.default_rng(job.settings.seed)
    test = np.sort(rng.permutation(test)[:JUDGED_CELLS])
    train = np.sort(rng.permutation(_whole(corpus, sample, "train"))[:MEAN_CELLS])
    if not len(test) or not len(train):
        raise Skipped("No held-out or no training cell has a whole crop.")
    drawn = {kind: draw(corpus, model, sample, test.tolist(), use=(kind,)) for kind in ("image", "genes")}
    real = drawn["image"].measured
    mean = draw(corpus, model, sample, train.tolist(), use=("genes",)).measured.astype(np.float32).mean(axis=0)
    guesses = {**{kind: one.drawn for kind, one in drawn.items()}, "mean": np.broadcast_to(mean, real.shape)}
    error = {kind: float(np.abs(guess.astype(np.float32) - real).mean()) for kind, guess in guesses.items()}
    shown = np.unique(np.linspace(0, len(real) - 1, min(len(real), SHOWN_CELLS)).astype(np.int64))
    job.results.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Any] = {"real": real[shown], **{kind: one.drawn[shown] for kind, one in drawn.items()}}
    np.savez_compressed(job.results / "reconstructions.npz", **pictures)
    result = ReconstructionResult(
        n_cells=len(real),
        channels=drawn["image"].channels,
        rgb=bool(corpus.section(sample).details.get("rgb")),
        error=error,
        note="The reconstruction from the image saw the whole crop; that from the genes saw none of it.",
    )
    write_result(job.results / "reconstructions.json", result)
    return f"mean error {error['image']:.1f} from the image, {error['genes']:.1f} from the genes, of 255"


def _most_cells(corpus: Corpus, part: str) -> tuple[str, NDArray[np.int64]]:
    """Return the section with most whole crops in a part of the split, and their rows."""
    rows = {sample: _whole(corpus, sample, part) for sample in corpus.sections}
    sample = max(rows, key=lambda name: len(rows[name]))
    return sample, rows[sample]


def _whole(corpus: Corpus, sample: str, part: str) -> NDArray[np.int64]:
    ranges = [np.arange(start, stop) for start, stop in corpus.split(SPLIT).ranges(part, sample)]
    rows = np.concatenate(ranges) if ranges else np.zeros(0, np.int64)
    obs = corpus.section(sample).cells.obs()
    return rows[obs["image_share"].to_numpy(np.float64)[rows] >= 1] if "image_share" in obs else rows[:0]
