"""Embedding a corpus: blocks, resuming, coverage, and what stands in the table."""

import shutil
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.unit import conftest

from spatia import Corpus
from spatia.errors import ModelError, SettingsError
from spatia.inference import blocks
from spatia.inference.cell_labels import CellLabels
from spatia.inference.embed import GENES_ALONE, OBSM, embed
from spatia.inference.predict import predict_expression, reconstruct
from spatia.inference.session import choose_device
from spatia.inference.spatialdata_table import _rows
from spatia.pairing.cells import read_cells


def test_blocks_of_any_size_give_the_same_embedding(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embed(setup.corpus, setup.model)
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 5)
    monkeypatch.setattr(blocks, "ENCODED_AT_ONCE", 2)
    cut = embed(setup.corpus, setup.model)
    for key in (*OBSM.values(), GENES_ALONE):
        np.testing.assert_allclose(cut.obsm[key], whole.obsm[key], atol=1e-5, err_msg=key)


def test_genes_alone_are_the_cell_as_if_there_were_no_image(setup: Any) -> None:
    table, alone = embed(setup.corpus, setup.model), embed(setup.corpus, setup.model, use=["genes"])
    assert GENES_ALONE not in alone.obsm  # it would be the cell itself
    np.testing.assert_allclose(table.obsm[GENES_ALONE], alone.obsm["X_spatia_cell"], atol=1e-5)
    assert not np.allclose(table.obsm[GENES_ALONE], table.obsm["X_spatia_cell"], atol=1e-3)


def test_the_table_carries_the_corpus_over(setup: Any) -> None:
    table = embed(setup.corpus, setup.model)
    assert table.n_obs == setup.corpus.n_cells
    facts = table.uns["spatia"]
    assert set(facts) >= {"version", "model_id", "corpus_id", "gene_coverage", "use", "measured", "position_units"}
    assert list(facts["measure"]) == ["counts"] * len(setup.corpus.sections)  # none declared intensities
    first = next(iter(setup.corpus.sections.values()))
    counts = first.cells.read_csr("X", 0, first.entry.n_cells).toarray()
    columns = table.var_names.get_indexer(first.cells.var().index.astype(str))
    np.testing.assert_array_equal(table.X[: first.entry.n_cells][:, columns].toarray(), counts)
    assert (
        table.obsm["spatial"][: first.entry.n_cells].tolist()
        == first.cells.read("obsm/spatial", 0, first.entry.n_cells).tolist()
    )


def test_files_hold_what_memory_holds(setup: Any, tmp_path: Path) -> None:
    table = embed(setup.corpus, setup.model)
    for name in ("cells.h5ad", "cells.zarr"):
        path = embed(setup.corpus, setup.model, tmp_path / name)
        read = ad.read_h5ad(path) if name.endswith("h5ad") else ad.read_zarr(path)
        for key in (*OBSM.values(), GENES_ALONE):
            np.testing.assert_array_equal(np.asarray(read.obsm[key]), table.obsm[key])
        assert (read.X != table.X).nnz == 0
        assert list(read.obs.columns) == list(table.obs.columns)
        assert list(tmp_path.glob(".*")) == []


def test_a_folder_of_others_is_not_removed(setup: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.zarr"
    (path / "images").mkdir(parents=True)
    (path / "images" / "thesis.tif").touch()
    with pytest.raises(SettingsError, match="is there already, and is no table of embedded cells"):
        embed(setup.corpus, setup.model, path)
    assert (path / "images" / "thesis.tif").is_file()
    ours = embed(setup.corpus, setup.model, tmp_path / "ours.zarr")
    embed(setup.corpus, setup.model, ours)  # what it wrote itself is replaced


def test_sections_stand_in_the_order_that_is_asked_for(setup: Any) -> None:
    names = list(setup.corpus.sections)[::-1]
    table = embed(setup.corpus, setup.model, sections=names)
    assert names == list(table.uns["spatia"]["sections"])
    assert str(table.obs_names[0]).startswith(names[0])
    whole = embed(setup.corpus, setup.model)
    share = dict(zip(whole.uns["spatia"]["sections"], whole.uns["spatia"]["gene_coverage"], strict=True))
    assert table.uns["spatia"]["gene_coverage"].tolist() == [share[name] for name in names]
    np.testing.assert_allclose(table[whole.obs_names].obsm["X_spatia"], whole.obsm["X_spatia"], atol=1e-5)


def test_ids_that_repeat_between_sections_can_be_joined_again(
    setup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = conftest._write_store

    def with_equal_ids(path: Path, section: Any, counts: Any, obs: pd.DataFrame, *rest: Any, **more: Any) -> None:
        if path.name == "cells.zarr":
            obs = obs.set_index(pd.Index([f"aaaa-{row}" for row in range(len(obs))])).assign(sample=section.sample)
        write(path, section, counts, obs, *rest, **more)

    monkeypatch.setattr(conftest, "_write_store", with_equal_ids)
    genes = tuple(setup.model.vocabulary.genes)[:3]
    sections = (conftest.TinySection("one", 1, genes), conftest.TinySection("two", 2, genes))
    corpus = Corpus.open(conftest.write_corpus(tmp_path / "corpus", sections))
    table = embed(corpus, setup.model)
    assert table.obs_names.is_unique
    assert table.obs["cell_id"].iloc[0] == "aaaa-0"
    cells = read_cells(corpus, corpus.split("block"), table, "X_spatia")
    np.testing.assert_array_equal(cells.embedding, table.obsm["X_spatia"])
    labels = pd.DataFrame({"cell_id": ["aaaa-0", "aaaa-1"], "label": ["a", "b"]})
    with pytest.raises(SettingsError, match=r"'aaaa-0' is a cell of two sections.* column 'sample'"):
        CellLabels.of(corpus, labels)
    first, other = corpus.sections
    told = CellLabels.of(corpus, labels.assign(sample=first))
    assert (told.codes[first][:2].tolist(), (told.codes[other] >= 0).any()) == ([0, 1], False)
    store = pd.Index([f"aaaa-{row}" for row in range(3)])
    assert max((rows >= 0).sum() for rows in _rows(table, store)) == 3


def test_a_broken_run_goes_on_where_it_was(setup: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 4)
    whole = embed(setup.corpus, setup.model)
    written: list[str] = []
    write = blocks.BlockFiles.write

    def stumbling(self: Any, block: int, values: Any) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(f"{self.folder.name}/{self.name}-{block}")
        write(self, block, values)

    monkeypatch.setattr(blocks.BlockFiles, "write", stumbling)
    with pytest.raises(KeyboardInterrupt):
        embed(setup.corpus, setup.model, tmp_path / "cells.h5ad")
    assert not (tmp_path / "cells.h5ad").exists()
    again: list[str] = []

    def counting(self: Any, block: int, values: Any) -> None:
        again.append(f"{self.folder.name}/{self.name}-{block}")
        write(self, block, values)

    monkeypatch.setattr(blocks.BlockFiles, "write", counting)
    read = ad.read_h5ad(embed(setup.corpus, setup.model, tmp_path / "cells.h5ad"))
    assert not set(written) & set(again)
    np.testing.assert_array_equal(read.obsm["X_spatia"], whole.obsm["X_spatia"])


def test_a_panel_that_the_model_hardly_knows_is_refused(setup: Any) -> None:
    genes = setup.model.vocabulary.genes
    small = type(setup.model.vocabulary)(genes[:1], setup.model.vocabulary.channels, setup.model.vocabulary.features)
    stranger = type(setup.model)(setup.model.config, small).eval()
    with pytest.raises(ModelError, match=r"knows \d of the \d genes of the panel"):
        embed(setup.corpus, stranger)
    table = embed(setup.corpus, stranger, min_coverage=0.0)
    assert (table.uns["spatia"]["gene_coverage"] < 0.5).any()


def test_hidden_genes_must_be_known_and_take_effect(setup: Any) -> None:
    with pytest.raises(SettingsError, match="not known to the model"):
        embed(setup.corpus, setup.model, hide_genes=["NO_SUCH_GENE"])
    hidden = embed(setup.corpus, setup.model, hide_genes=[setup.model.vocabulary.genes[0]])
    assert not np.allclose(hidden.obsm["X_spatia"], embed(setup.corpus, setup.model).obsm["X_spatia"])


def test_windows_of_another_scale_are_refused(setup: Any, tmp_path: Path) -> None:
    import json

    path = shutil.copytree(setup.corpus.path, tmp_path / "corpus")
    content = json.loads((path / "corpus.json").read_text())
    content["levels"]["cell"]["size_um"] = 13.6
    (path / "corpus.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"13\.6 µm on 8 px, but the model was trained on 27\.2"):
        embed(Corpus.open(path), setup.model)


def test_an_odd_name_is_refused(setup: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ends in \.h5ad or \.zarr"):
        embed(setup.corpus, setup.model, tmp_path / "cells.csv")


def test_predictions_lie_in_their_intervals(setup: Any) -> None:
    genes = setup.model.vocabulary.genes[:2]
    found = predict_expression(setup.corpus, setup.model, genes, use=("genes",))
    assert found.mean.shape == (setup.corpus.n_cells, 2)
    assert (found.lower <= found.upper).all()
    assert (found.lower >= 0).all()
    assert np.isfinite(found.mean).all()


def test_reconstructions_show_the_sections_own_channels(setup: Any) -> None:
    sample = next(iter(setup.corpus.sections))
    found = reconstruct(setup.corpus, setup.model, sample, [2, 0], use=("genes",))
    assert found.measured.shape == found.drawn.shape
    assert found.channels == setup.corpus.section(sample).entry.channels
    with pytest.raises(SettingsError, match="nothing to draw"):
        reconstruct(setup.corpus, setup.model, "bare", [0])


@pytest.mark.parametrize(("name", "n"), [("cuda", 0), ("cuda:1", 1)])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, n: int) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: n)
    with pytest.raises(SettingsError, match=f"device '{name}' is not there, or this torch cannot use it. There: cpu"):
        choose_device(name)
    assert choose_device("cpu").type == "cpu"
