"""Our model in the benchmark: weights that saw test cells are refused, and tensors go where the model is."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.conftest import Tiny
from tests.unit.model_setup import SMALL, wake

from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.dataset import DataSet, part_rows
from spatia.bench.methods import spatia_model
from spatia.bench.methods.method import Problem
from spatia.bench.methods.spatia_model import SpatiaSource, decode, spatia_methods
from spatia.bench.methods.spatia_surroundings import surroundings
from spatia.corpus.corpus import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.errors import LeakError, SettingsError, SpatiaError
from spatia.models.checkpoint import save_model
from spatia.models.shipped import model_folder
from spatia.models.spatia import Spatia

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")),
]


@pytest.fixture(scope="module")
def cells(tiny_corpus: Tiny) -> BenchCells:
    return load_cells(DataSet(name="tiny", corpus=tiny_corpus.path, least_counts=1))


@pytest.fixture
def problem(cells: BenchCells, tmp_path: Path) -> Problem:
    parts = (part_rows(cells.corpus, "block", part) for part in ("train", "validation", "test"))
    return Problem(cells, "block", *parts, seed=0, work=tmp_path)


@pytest.fixture
def model(cells: BenchCells) -> Spatia:
    torch.manual_seed(0)
    model = Spatia(SMALL, Vocabulary.of([cells.corpus]))
    wake(model)
    return model.eval()


def _saved(folder: Path, model: Spatia, **facts: Any) -> Path:
    save_model(folder, model, facts)
    return folder


def _not_trained(corpora: list[Corpus], out: Path, *_: object, start_from: Path, **__: object) -> Path:
    return Path(f"{out.name} from {start_from.name}")


@pytest.mark.parametrize("how", ["model", "start_from"])
def test_weights_that_saw_every_cell_are_refused_as_they_are_and_as_a_start(
    problem: Problem, model: Spatia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(spatia_model, "train", _not_trained)
    corpora = [{"corpus_id": problem.cells.corpus.corpus_id}]
    seen = _saved(tmp_path / "seen", model, corpora=corpora, split=None)
    source = SpatiaSource(**{how: seen})
    for _ in range(2):  # each method asks again
        with pytest.raises(SpatiaError, match="seen was trained on every cell of"):
            source.folder(problem)


def test_weights_of_another_split_are_refused_where_they_saw_test_cells(
    problem: Problem, model: Spatia, tmp_path: Path
) -> None:
    corpus = problem.cells.corpus
    seen = _saved(tmp_path / "seen", model, corpora=[{"corpus_id": corpus.corpus_id}], split="block")
    assert SpatiaSource(model=seen).folder(problem) == seen
    other = replace(problem, split="other", test=np.r_[problem.test, problem.train[:2]])
    with pytest.raises(LeakError, match=r"split 'block' of .* on 2 of the .* test cells of 'other'"):
        SpatiaSource(model=seen).folder(other)


def test_weights_of_a_split_that_is_gone_or_was_made_anew_are_refused(
    problem: Problem, model: Spatia, tmp_path: Path
) -> None:
    known = {"corpus_id": problem.cells.corpus.corpus_id}
    same = {**known, "split_sha256": problem.cells.corpus.split("block").digest}
    seen = _saved(tmp_path / "same", model, corpora=[same], split="block")
    assert SpatiaSource(model=seen).folder(problem) == seen
    gone = _saved(tmp_path / "gone", model, corpora=[known], split="old")
    anew = _saved(tmp_path / "anew", model, corpora=[{**known, "split_sha256": "0" * 64}], split="block")
    for folder in (gone, anew):
        with pytest.raises(LeakError, match="is not there any more or was made anew"):
            SpatiaSource(model=folder).folder(problem)


def test_weights_of_other_slides_are_a_start(
    problem: Problem, model: Spatia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spatia_model, "train", _not_trained)
    other = _saved(tmp_path / "other", model, corpora=[{"corpus_id": "another"}], split=None)
    for start in (other, model_folder("tiny")):
        here = f"corpus-{problem.cells.corpus.corpus_id[:8]}-block-0"
        assert SpatiaSource(start_from=start).folder(problem) == Path(f"{here} from {start.name}")


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_decoded_and_what_is_around_comes_back_from_any_device(
    problem: Problem, model: Spatia, device: str
) -> None:
    cell = np.random.default_rng(0).normal(size=(len(problem.cells), SMALL.cell_width)).astype(np.float32)
    before = surroundings(model, problem.cells.corpus, cell)
    counts = decode(model, problem, before["fused"], np.arange(3))
    after = surroundings(model.to(device), problem.cells.corpus, cell)
    np.testing.assert_allclose(after["around"], before["around"], atol=1e-4)
    assert after["around"].any(axis=1).all()
    np.testing.assert_allclose(decode(model, problem, after["fused"], np.arange(3)), counts, atol=1e-4)


def test_expected_counts_follow_depth_and_hold_nothing_of_hidden_genes(
    problem: Problem, model: Spatia, tmp_path: Path
) -> None:
    source = SpatiaSource(model=_saved(tmp_path / "given", model, corpora=[], split=None))
    (method,) = (one for one in spatia_methods(source) if one.name == "spatia genes, expected counts")
    assert method.embed is not None
    assert (method.reads, method.genes_side) == (frozenset({"genes"}), None)
    every = replace(
        problem.cells, measured=np.ones_like(problem.cells.measured)
    )  # so that there are genes to choose from
    problem = replace(problem, cells=every)
    taken, kept = problem.visible[:1].tolist(), problem.visible[1:].tolist()
    hidden = replace(problem, hidden=np.array(taken))
    found = method.embed(hidden)
    assert len(found) == len(problem.cells)
    counts = problem.cells.counts.toarray()

    def changed(genes: list[int]) -> np.ndarray:
        other = counts.copy()
        other[:, genes] += np.arange(len(counts), dtype=counts.dtype)[:, None]
        return method.embed(replace(hidden, cells=replace(problem.cells, counts=type(problem.cells.counts)(other))))

    np.testing.assert_array_equal(changed(taken), found)
    assert not np.allclose(changed(kept), found)  # the depth is of the genes that may be seen


class _Elsewhere:
    """A model on a device that no test machine need have; it says where what it is given lies."""

    device = torch.device("meta")

    def __init__(self, model: Spatia) -> None:
        self.vocabulary, self.seen = model.vocabulary, set[torch.device]()

    def log_rates(self, embedding: torch.Tensor, genes: torch.Tensor) -> torch.Tensor:
        self.seen |= {embedding.device, genes.device}
        return torch.zeros(len(embedding), len(genes))

    def encode_niches(
        self, batch: Any, cell: torch.Tensor, *, cell_shown: torch.Tensor, **_: object
    ) -> SimpleNamespace:
        self.seen |= {batch.device, batch.cells.device, cell.device, cell_shown.device}
        raise InterruptedError


def test_tensors_go_where_the_model_is(problem: Problem, model: Spatia) -> None:
    elsewhere: Any = _Elsewhere(model)
    found = decode(elsewhere, problem, np.zeros((5, SMALL.fused_width), np.float32), np.arange(3))
    assert (found.shape, elsewhere.seen) == ((5, 3), {torch.device("meta")})
    elsewhere.seen.clear()
    with pytest.raises(InterruptedError):
        surroundings(elsewhere, problem.cells.corpus, np.zeros((len(problem.cells), SMALL.cell_width), np.float32))
    assert elsewhere.seen == {torch.device("meta")}


@pytest.mark.parametrize("label", ["lr=0.1, wide", "with image", "genes"])
def test_a_label_that_reads_like_the_name_of_a_view_is_refused(label: str) -> None:
    with pytest.raises(SettingsError, match="without a comma, please, and not ending in image or genes"):
        SpatiaSource(label)
    assert SpatiaSource("image wide").label == "image wide"
