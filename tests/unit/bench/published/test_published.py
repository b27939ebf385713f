"""What holds for every published model: strict loading, an embedding of every cell, nothing read that may not be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.unit.bench.published.layouts import Tensors, as_it_is
from tests.unit.bench.published.toy import N, make_problem, permuted, with_hidden_changed, without_symbols_of
from tests.unit.bench.published.writers import WRITERS

from spatia.bench.methods.method import GENES, IMAGE, Method, Problem
from spatia.bench.published.registry import PUBLISHED, published_method
from spatia.errors import ModelError, SettingsError

GENE_MODELS = [name for name, model in PUBLISHED.items() if model.reads == GENES]
IMAGE_MODELS = [name for name, model in PUBLISHED.items() if model.reads == IMAGE]
pytest.importorskip("transformers")


def method_of(name: str, folder: Path, change: Callable[[Tensors], None] = as_it_is) -> Method:
    return published_method(name, WRITERS[name](folder / name, change))


def embedding(method: Method, problem: Problem) -> np.ndarray:
    assert method.embed is not None
    return method.embed(problem)


def test_every_model_has_a_folder_to_test_with() -> None:
    assert WRITERS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_folder_becomes_an_embedding_of_every_cell_the_same_way_twice(
    name: str, tmp_path: Path, problem: Problem
) -> None:
    method = method_of(name, tmp_path)
    first, second = embedding(method, problem), embedding(method, problem)
    assert first.shape[0] == N
    assert np.isfinite(first).all()
    assert first.dtype == np.float32
    assert len(np.unique(first[:-1].round(6), axis=0)) == N - 1, "different cells, different embeddings"
    np.testing.assert_array_equal(first, second)
    side = method.image_side if method.reads == IMAGE else method.genes_side
    assert side is method.embed


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_are_loaded_strictly(name: str, tmp_path: Path, problem: Problem) -> None:
    seen: Tensors = {}
    method_of(name, tmp_path, seen.update)
    # the last tensor that a layer of the encoder needs
    own = [key for key in seen if ".norm1.weight" in key or "attention.output.LayerNorm.weight" in key][-1]

    told = own[own.index("blocks.") :] if "blocks." in own else own.split(".", 1)[1]  # wrappers' prefixes are stripped
    with pytest.raises(ModelError, match=f"1 missing: [^;]*{told}"):
        embedding(method_of(name, tmp_path / "missing", lambda tensors: tensors.pop(own)), problem)
    beside = own.replace("weight", "surplus")
    with pytest.raises(ModelError, match=f"1 unknown: [^;]*{told.replace('weight', 'surplus')}"):
        embedding(
            method_of(name, tmp_path / "unknown", lambda tensors: tensors.update({beside: torch.ones(2)})), problem
        )
    with pytest.raises(ModelError, match=r"1 of another shape: .*norm1?\.weight \(3,\) instead of \(\d+,\)|LayerNorm"):
        embedding(method_of(name, tmp_path / "shape", lambda tensors: tensors.update({own: torch.ones(3)})), problem)
    with pytest.raises(ModelError, match=r"holds NaN or infinite numbers"):
        embedding(
            method_of(name, tmp_path / "nan", lambda tensors: tensors.update({own: tensors[own] * torch.nan})), problem
        )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_file_is_named_before_anything_is_read(name: str, tmp_path: Path) -> None:
    folder = WRITERS[name](tmp_path, as_it_is)
    of_ours = ("config.json", "spatia.json", "conch_ViT-B-16.json")  # may be left out, where published sizes are known
    for file in [path for path in folder.rglob("*") if path.is_file() and path.name not in of_ours]:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(ModelError, match=r"no file "):
            published_method(name, folder)
        file.write_bytes(content)
    published_method(name, folder)


@pytest.mark.parametrize("name", GENE_MODELS)
def test_the_order_of_the_panel_changes_nothing(name: str, tmp_path: Path, problem: Problem) -> None:
    method = method_of(name, tmp_path)
    np.testing.assert_allclose(embedding(method, problem), embedding(method, permuted(problem)), atol=1e-6)


@pytest.mark.parametrize("name", GENE_MODELS)
def test_a_gene_that_is_withheld_changes_nothing(name: str, tmp_path: Path, problem: Problem) -> None:
    method = method_of(name, tmp_path)
    hidden, changed = with_hidden_changed(problem, 3)
    np.testing.assert_array_equal(embedding(method, hidden), embedding(method, changed))
    assert not np.allclose(embedding(method, hidden), embedding(method, problem))


@pytest.mark.parametrize("name", GENE_MODELS)
def test_a_gene_that_the_vocabulary_lacks_is_reported(
    name: str, tmp_path: Path, problem: Problem, said: pytest.LogCaptureFixture
) -> None:
    embedding(method_of(name, tmp_path), problem)
    assert "11 of 12 genes are in its vocabulary, missing: ENSG00000000011" in said.text


@pytest.mark.parametrize("name", GENE_MODELS)
def test_a_panel_of_other_names_is_refused(name: str, tmp_path: Path, problem: Problem) -> None:
    foreign = tuple(f"FBgn{gene}" for gene in range(12))
    other = replace(without_symbols_of(problem, gene_id=foreign, symbol=foreign))
    other = replace(other, cells=replace(other.cells, genes=foreign))
    with pytest.raises(ModelError, match=r"has 0 of the 12 genes; expected at least 50%"):
        embedding(method_of(name, tmp_path), other)


@pytest.mark.parametrize("name", GENE_MODELS)
def test_intensities_are_refused(name: str, tmp_path: Path, problem: Problem) -> None:
    section = SimpleNamespace(details={"measure": "intensity"}, entry=SimpleNamespace(platform="codex"))
    corpus = SimpleNamespace(**{**vars(problem.cells.corpus), "sections": {"a": section, "b": section}})
    measured = replace(problem, cells=replace(problem.cells, corpus=corpus))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="molecule counts"):
        embedding(method_of(name, tmp_path), measured)


@pytest.mark.parametrize("name", GENE_MODELS)
def test_other_counts_of_a_cell_change_that_cell(name: str, tmp_path: Path, problem: Problem) -> None:
    method = method_of(name, tmp_path)
    counts = problem.cells.counts.toarray()
    counts[1] = counts[1, ::-1]
    changed = replace(problem, cells=replace(problem.cells, counts=sp.csr_matrix(counts)))
    moved = np.abs(embedding(method, problem) - embedding(method, changed)).max(axis=1) > 1e-5
    allowed = {0, 1, 2, 3, 4} if name == "cellplm" else {1}  # CellPLM: cells of a section see each other
    assert 1 in np.flatnonzero(moved)
    assert set(np.flatnonzero(moved)) <= allowed


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_an_image_model_reads_crops_alone_each_by_itself(name: str, tmp_path: Path, problem: Problem) -> None:
    method = method_of(name, tmp_path)
    found = embedding(method, problem)
    counts = replace(problem, cells=replace(problem.cells, counts=problem.cells.counts * 3))
    np.testing.assert_array_equal(found, embedding(method, counts))
    crops = problem.cells.images.copy()
    crops[2] = crops[2, :, ::-1]
    changed = replace(problem, cells=replace(problem.cells, _read_images=lambda: crops))
    moved = np.abs(found - embedding(method, changed)).max(axis=1) > 1e-5
    assert list(np.flatnonzero(moved)) == [2]


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_red_green_and_blue_are_found_by_name(
    name: str, tmp_path: Path, problem: Problem, said: pytest.LogCaptureFixture
) -> None:
    method = method_of(name, tmp_path)
    found = embedding(method, problem)
    assert "trained on stained tissue" not in said.text
    crops = problem.cells.images[:, ::-1].copy()
    corpus = SimpleNamespace(**{**vars(problem.cells.corpus), "channels": ("b", "g", "r")})
    turned = replace(problem.cells, _read_images=lambda: crops, corpus=corpus)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, embedding(method, replace(problem, cells=turned)))
    grey = SimpleNamespace(**{**vars(corpus), "channels": ("DAPI",)})
    alone = replace(problem.cells, _read_images=crops[:, :1].copy, corpus=grey)  # type: ignore[arg-type]
    embedding(method, replace(problem, cells=alone))
    assert "the channels here are DAPI" in said.text


def test_an_embedding_is_kept_until_something_it_depends_on_changes(tmp_path: Path) -> None:
    folder = WRITERS["scgpt"](tmp_path / "model", as_it_is)
    method = published_method("scgpt:small", folder)
    assert method.name == "scgpt:small"
    problem = make_problem(work=tmp_path / "work")
    first = embedding(method, problem)
    kept = list((tmp_path / "work" / "embeddings").iterdir())
    assert len(kept) == 1
    np.save(kept[0], first + 1)
    np.testing.assert_array_equal(embedding(method, problem), first + 1)  # read, not made again
    for other in (replace(problem, seed=1), replace(problem, hidden=np.array([0]))):
        assert not np.allclose(embedding(method, other), first + 1)
    WRITERS["scgpt"](tmp_path / "model", lambda tensors: tensors.update({"flag_encoder.weight": torch.ones(2, 8)}))
    np.testing.assert_array_equal(embedding(method, problem), first)  # other files: made again


def test_a_raised_revision_makes_what_is_kept_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem(work=tmp_path / "work")
    method = method_of("conch", tmp_path)
    first = embedding(method, problem)
    [kept] = (tmp_path / "work" / "embeddings").iterdir()
    np.save(kept, first + 1)
    monkeypatch.setitem(PUBLISHED, "conch", replace(PUBLISHED["conch"], revision=PUBLISHED["conch"].revision + 1))
    np.testing.assert_array_equal(embedding(published_method("conch", tmp_path / "conch"), problem), first)


def test_unknown_names_and_folders_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Unknown published model 'bert'. Known: geneformer, scgpt"):
        published_method("bert", tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        published_method("uni", tmp_path / "nowhere")
    folder = WRITERS["geneformer"](tmp_path, as_it_is)
    (folder / "token_dictionary_old.pkl").write_bytes(b"")
    with pytest.raises(ModelError, match=r"2 files fit token_dictionary\*\.pkl"):
        published_method("geneformer", folder)
