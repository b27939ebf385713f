"""What is drawn stands on the same audit as what is embedded."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from spatia.bench import drawing
from spatia.bench.cells import BenchCells
from spatia.bench.dataset import DataSet
from spatia.bench.drawing import DrawingPlan, run_drawing
from spatia.bench.generators import diffusers_unet
from spatia.bench.generators.generator import GenerationProblem, Training
from spatia.bench.rows import RowStore
from spatia.corpus.corpus import Level
from spatia.errors import LeakError

PARTS = {"train": np.arange(100), "validation": np.arange(100, 120), "test": np.arange(200, 300)}


@pytest.fixture
def drawable(cells: BenchCells, monkeypatch: pytest.MonkeyPatch) -> BenchCells:
    """The made-up cells 100 µm apart, with a split and a model."""
    xy = 100.0 * np.stack(np.divmod(np.arange(len(cells)), 20), axis=1)
    level = Level(size_um=6.8, px=16)
    corpus = SimpleNamespace(
        **{**vars(cells.corpus), "path": Path("nowhere")}, levels={"cell": level}, channels=("DAPI",)
    )
    monkeypatch.setattr(DataSet, "split_name", lambda _, seed: f"planted-{seed}")
    monkeypatch.setattr(drawing, "part_rows", lambda corpus, split, part: PARTS[part])
    monkeypatch.setattr("spatia.bench.generators.problems.part_rows", lambda corpus, split, part: PARTS[part])
    monkeypatch.setattr(drawing, "model_of", lambda *_: Path("model"))
    monkeypatch.setattr(drawing, "draw_niches", lambda *_: None)
    monkeypatch.setattr(drawing, "make_reference", lambda *_, **__: None)
    return replace(cells, corpus=corpus, position_um=xy)  # type: ignore[arg-type]


def test_a_leak_stops_the_drawing(drawable: BenchCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = drawable.counts.toarray()
    counts[203] = counts[7]
    leaky = replace(drawable, counts=sp.csr_matrix(counts))
    monkeypatch.setattr(drawing, "load_cells", lambda data: leaky)
    with pytest.raises(LeakError, match=r"'7' \(training\) and '203' \(test\) have the same counts"):
        run_drawing(leaky.data, [0], DrawingPlan([], images=0), RowStore(tmp_path), tmp_path, "c")


def test_what_no_transition_changes_is_trained_once(
    drawable: BenchCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The U-Net learns from all training cells, whatever is asked of it then: all problems of a seed share its weights."""
    asked: list[GenerationProblem] = []
    monkeypatch.setattr(drawing, "load_cells", lambda data: drawable)
    monkeypatch.setattr(drawing, "draw_rows", lambda plan, problem, *_, **__: asked.append(problem))
    data = drawable.data.model_copy(update={"transitions": ("type 0→type 1", "type 1→type 2")})
    run_drawing(data, [0, 1], DrawingPlan([], images=64), RowStore(tmp_path), tmp_path, "c")
    assert [problem.transition and problem.transition.name for problem in asked[:3]] == [
        None,
        "type 0→type 1",
        "type 1→type 2",
    ]
    files = [diffusers_unet._weights(problem) for problem in asked]
    assert len(set(files[:3])) == len(set(files[3:])) == 1
    assert len(set(files)) == 2


def test_weights_of_a_corpus_that_was_built_anew_are_not_taken(drawable: BenchCells, tmp_path: Path) -> None:
    anew = replace(drawable, corpus=SimpleNamespace(**{**vars(drawable.corpus), "corpus_id": "1"}))  # type: ignore[arg-type]
    training = Training("split", Path("model"))
    rows = PARTS["train"]
    files = {
        diffusers_unet._weights(GenerationProblem(cells, rows, PARTS["test"], work=tmp_path, training=training))
        for cells in (drawable, anew)
    }
    assert len(files) == 2
