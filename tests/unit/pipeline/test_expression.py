"""Genes of held-out cells: which are judged, in which cells, and what the simple predictor may see."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata.io import write_elem
from tests.unit.conftest import TinySection, pixel, write_corpus
from tests.unit.model_setup import save_small_model

from spatia.corpus.corpus import Corpus
from spatia.inference.embed import embed
from spatia.inference.predict import predict_expression
from spatia.pipeline import expression
from spatia.pipeline.cells import EmbeddedCells, embedded_cells
from spatia.pipeline.settings import RunSettings
from spatia.pipeline.steps import Job, Skipped
from spatia.training import run_folder as training_run

GENES = tuple(f"G{number}" for number in range(12))
SECTIONS = (
    TinySection("left", 1, GENES, ("DAPI", "boundary"), n_windows=9),
    TinySection("right", 2, GENES[2:], ("RNA", "DAPI"), n_windows=9),  # another panel, other channels
    TinySection("bare", 3, GENES, (), n_windows=9),
)


def make_run(out: Path, sections: tuple[TinySection, ...] = SECTIONS, **settings: Any) -> Job:
    """Return a run whose cells are embedded by a model that was not trained on them."""
    corpus = Corpus.open(write_corpus(out / "corpus", sections, "knn"))
    split = json.loads((corpus.path / "splits" / "block.json").read_text()) | {"name": "held-out"}
    (corpus.path / "splits" / "held-out.json").write_text(json.dumps(split))
    model = save_small_model(corpus, out / "model")
    cells = embed(corpus, model)
    assert isinstance(cells, ad.AnnData)
    cells.obs["sample"] = np.repeat(list(corpus.sections), [one.entry.n_cells for one in corpus.sections.values()])
    cells.write_h5ad(out / "cells.h5ad")
    return Job(out, (), RunSettings(hidden_share=0.3, **settings))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Three sections. Do not change it."""
    return make_run(tmp_path_factory.mktemp("run"))


def values_of(job: Job) -> pd.DataFrame:
    return pd.read_parquet(job.results / "predicted_genes.parquet")


def test_cells_without_an_image_are_left_out_of_what_is_predicted_from_it(job: Job) -> None:
    assert expression.predict_genes(job).startswith("image r")
    values = values_of(job)
    has_image = ad.read_h5ad(job.out / "cells.h5ad").obs["has_image"]
    from_image = values[values["task"] == "image"]
    assert set(from_image["sample"]) == {"left", "right"}
    assert set(from_image["cell_id"]) == set(has_image.index[has_image])
    assert set(values.loc[values["task"] == "imputation", "sample"]) == {"left", "right", "bare"}
    assert np.isfinite(values["predicted"]).all()


def test_what_one_prediction_lacks_does_not_take_the_other_with_it(tmp_path: Path) -> None:
    warnings: list[str] = []
    bare = replace(make_run(tmp_path, SECTIONS[2:]), warn=warnings.append)
    assert expression.predict_genes(bare).startswith("imputation r")
    assert any("The slide has no image" in warning for warning in warnings)


def test_a_gene_of_one_panel_is_not_judged(job: Job) -> None:
    cells = embedded_cells(job)
    train = cells.part(job.corpus, "train")
    judged = cells.genes.index[expression._judged(cells, train)]
    assert set(judged) == set(GENES[2:])


def test_a_gene_that_the_model_does_not_know_is_not_judged(tmp_path: Path) -> None:
    job = make_run(tmp_path, SECTIONS[:1])
    with h5py.File(job.out / "cells.h5ad", "r+") as file:
        known = file["var/known_to_model"][:]
        known[3] = False
        del file["var/known_to_model"]
        write_elem(file, "var/known_to_model", known)
    cells = embedded_cells(job)
    train = cells.part(job.corpus, "train")
    assert set(cells.genes.index[expression._judged(cells, train)]) == set(GENES) - {"G3"}
    with h5py.File(job.out / "cells.h5ad", "r+") as file:
        del file["var/known_to_model"]
        write_elem(file, "var/known_to_model", np.zeros(len(known), bool))
    with pytest.raises(Skipped, match="No gene is measured in every section, known to the model"):
        expression.predict_genes(job)


def test_the_simple_predictor_does_not_see_the_hidden_genes(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the depth, either: other counts of hidden genes change what is to be predicted and nothing that it is predicted from."""
    inputs = {}

    def run(name: str, factor: int) -> None:
        class Cells(EmbeddedCells):
            @property
            def counts(self) -> Any:  # type: ignore[override]
                counts = super().counts.copy().tolil()
                counts[:, hidden] = counts[:, hidden] * factor
                return counts.tocsr()

        def keep(read: Any, *others: Any) -> Any:
            inputs[name] = read(np.arange(30))
            return np.zeros((len(others[3]), others[0].shape[1]))

        monkeypatch.setattr(expression, "embedded_cells", lambda job: Cells(job.out / "cells.h5ad"))
        monkeypatch.setattr(expression, "_baseline", keep)
        expression.predict_genes(job)

    hidden = np.zeros(0, np.int64)
    run("as it is", 1)
    scores = pd.read_parquet(job.results / "expression_genes.parquet")
    names = scores.loc[scores["task"] == "imputation", "gene"]
    hidden = np.flatnonzero(np.isin(embedded_cells(job).symbols, names))
    run("more of the hidden ones", 7)
    np.testing.assert_array_equal(inputs["as it is"], inputs["more of the hidden ones"])


def test_of_many_hidden_genes_some_are_judged_and_all_stay_hidden(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def predict(corpus: Any, model: Any, genes: Any, *, hide_genes: Any = (), **more: Any) -> Any:
        asked[tuple(more["use"])] = (list(genes), list(hide_genes))
        return predict_expression(corpus, model, genes, hide_genes=hide_genes, **more)

    monkeypatch.setattr(expression, "predict_expression", predict)
    expression.predict_genes(job)
    every, hidden = asked["image", "genes"]
    assert every == hidden
    assert len(hidden) > 2
    monkeypatch.setattr(expression, "JUDGED_GENES", 2)
    expression.predict_genes(job)
    few, still_hidden = asked["image", "genes"]
    assert still_hidden == hidden
    assert len(few) == 2
    assert set(few) < set(hidden)
    result = json.loads((job.results / "expression.json").read_text())
    of_hidden = next(task for task in result["tasks"] if task["name"] == "imputation")
    assert of_hidden["n_genes"] == 2
    assert of_hidden["note"].startswith(f"of {len(hidden)} genes that are hidden a random 2")


def test_declared_intensities_are_taken_as_they_are(tmp_path: Path) -> None:
    values = np.array([[1.0, 3.0], [2.0, 0.0], [0.25, 0.25]], np.float32)
    table = ad.AnnData(sp.csr_matrix(values))
    genes = np.arange(2)
    for measure, expected in (("intensity", values), ("counts", values * 2 / values.sum(axis=1, keepdims=True))):
        table.uns["spatia"] = {"measure": np.array([measure], object)}
        table.write_h5ad(tmp_path / f"{measure}.h5ad")
        cells = EmbeddedCells(tmp_path / f"{measure}.h5ad")
        np.testing.assert_allclose(cells.log_expression(genes).toarray(), np.log1p(expected), rtol=1e-6)


def test_a_large_slide_is_read_in_parts(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simple predictor learns from a sample, and no table of all cells is made dense."""
    n_cells = len(embedded_cells(job).obs)
    monkeypatch.setattr(expression, "BASELINE_CELLS", 20)
    monkeypatch.setattr(expression, "CROPS_AT_ONCE", 7)
    rows: list[int] = []
    fit = expression.fit_ridge

    def watched(inputs: Any, targets: Any, **more: Any) -> Any:
        rows.append(len(inputs))
        return fit(inputs, targets, **more)

    monkeypatch.setattr(expression, "fit_ridge", watched)
    expression.predict_genes(job)
    assert rows == [20, 20]
    assert n_cells > 100


def test_small_crops_are_those_of_the_cells_asked_for(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.open(job.corpus)
    n_left = corpus.section("left").entry.n_cells
    rows = np.array([1, 8, n_left - 1, n_left + 3, n_left + 40])
    whole = expression._small_crops(corpus, ["DAPI"], rows)
    monkeypatch.setattr(expression, "CROPS_AT_ONCE", 7)
    np.testing.assert_array_equal(expression._small_crops(corpus, ["DAPI"], rows), whole)
    wanted = [pixel(SECTIONS[0], rows[:3], 0), pixel(SECTIONS[1], rows[3:] - n_left, 1)]
    np.testing.assert_array_equal(whole[:, 0], np.concatenate(wanted))


@pytest.mark.parametrize("split", [None, "held-out"])
def test_a_model_that_saw_the_held_out_cells_is_named(tmp_path: Path, split: str | None) -> None:
    warnings: list[str] = []
    job = replace(make_run(tmp_path, SECTIONS[:1]), warn=warnings.append)
    corpora = [{"corpus_id": Corpus.open(job.corpus).corpus_id}]
    run = {"format": training_run.FORMAT, "format_version": training_run.FORMAT_VERSION}
    run |= {"corpora": corpora, "settings": {"split": split, "part": "train"}, "start_from": None}
    (job.model / "run.json").write_text(json.dumps(run))
    expression.predict_genes(job)
    said = [warning for warning in warnings if "was trained on all cells of this corpus" in warning]
    assert len(said) == (split is None)
