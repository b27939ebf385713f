"""The commands of the tasks on a simulated slide with a model that was given its statistics and no training."""

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from spatia.cli.main import app
from spatia.corpus.corpus import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.inference.embed import embed
from spatia.models.checkpoint import save_model
from spatia.models.config import ModelConfig
from spatia.models.spatia import Spatia
from spatia.tasks import predict_expression
from spatia.tasks.cells import most_variable
from spatia.tasks.impute import Parts, impute
from spatia.training.statistics import measure_statistics

pytest.importorskip("igraph")
FIGURE = b"\x89PNG"


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    opened = Corpus.open(corpus)
    vocabulary, config = Vocabulary.of([opened]), ModelConfig()
    torch.manual_seed(0)
    statistics = measure_statistics([opened], vocabulary, config)
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, Spatia(config, vocabulary, statistics))
    return folder


@pytest.fixture(scope="module")
def cells(corpus: Path, model: Path, slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embedded cells with the true type of every second one in obs['known']."""
    table = embed(corpus, model)
    truth = pd.read_parquet(slide / "truth" / "cells.parquet").set_index("cell_id")
    kind = truth.loc[table.obs_names, "type"].astype(str).to_numpy(object)
    table.obs["type"] = pd.Categorical(kind)
    table.obs["known"] = pd.Categorical(np.where(np.arange(len(kind)) % 2 == 0, kind, None))
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    table.write_h5ad(path)
    return path


def spatia(*arguments: object) -> Result:
    """Run a command in this process: starting Python and torch anew costs more than the commands do here."""
    return CliRunner().invoke(app, [str(one) for one in arguments])


def result(*arguments: object) -> dict:
    finished = spatia(*arguments, "--json")
    assert finished.exit_code == 0, finished.stderr or finished.exception
    return json.loads(finished.stdout)


def test_annotate_labels_what_was_not_known(cells: Path, tmp_path: Path) -> None:
    out, figure = tmp_path / "annotated.h5ad", tmp_path / "annotated.png"
    arguments = ["annotate", cells, "--labels", "known", "--ignore-rare", "--target-accuracy", 0.8, "-o", out]
    content = result(*arguments, "--figure", figure)
    assert content["out"] == str(out)
    assert content["held_out"]["accuracy"] > 0.6
    table, before = ad.read_h5ad(out), ad.read_h5ad(cells)
    told = (table.obs["spatia_label_status"] == "predicted").to_numpy()
    assert told.sum() == content["n_cells"]["predicted"] > 100
    right = table.obs.loc[told, "spatia_label"].astype(str) == table.obs.loc[told, "type"].astype(str)
    assert right.mean() > 0.75
    withheld = table.obs["spatia_label_status"].isin(["uncertain", "unlike"])
    assert table.obs.loc[withheld, "spatia_label"].isna().all()
    assert (table.X != before.X).nnz == 0
    assert (table.obsm["X_spatia"] == before.obsm["X_spatia"]).all()
    assert set(before.obs) <= set(table.obs)
    how = table.uns["spatia_label"]
    assert how["held_out"]["accuracy"] == content["held_out"]["accuracy"]
    assert len(how["aligned"]) == 0  # every section has labelled cells
    assert figure.read_bytes().startswith(FIGURE)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_labels_are_transferred_from_another_table(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "transferred.zarr"
    content = result("annotate", cells, "--labels", "type", "--reference", cells, "--ignore-rare", "-o", out)
    assert content["n_cells"]["given"] == 0
    table = ad.read_zarr(out)
    assert "spatia_label" in table.obs
    how = table.uns["spatia_label"]
    assert how["embedding"] == content["embedding"]
    moved = how["aligned"].set_index("section")
    assert moved.index.tolist() == [f"cells {sample}" for sample in table.obs["sample"].unique()]
    assert moved["to"].str.startswith("reference ").all()
    assert (moved["sd_embedding"] < 0.1).all()  # they are the same cells


def test_an_unknown_column_lists_the_columns(cells: Path) -> None:
    finished = spatia("annotate", cells, "--labels", "tpye")
    assert finished.exit_code == 2
    assert "no column 'tpye'. Did you mean 'type'? Columns:" in finished.stderr


def test_cluster_and_domains_write_into_the_table_they_are_given(cells: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.h5ad"
    own.write_bytes(cells.read_bytes())
    found = result("cluster", own, "--figure", tmp_path / "c.png")
    assert 2 <= found["n_groups"] < 30
    assert set(found["told"]) == {"X_spatia", "X_spatia_cell", "X_spatia_genes"} & set(ad.read_h5ad(own).obsm)
    assert found["embedding"] == max(found["told"], key=found["told"].get)
    named = result("cluster", own, "--embedding", found["embedding"], "-o", tmp_path / "named.h5ad")
    assert "told" not in named
    assert (named["sizes"], named["resolution"]) == (found["sizes"], found["resolution"])
    regions = result("domains", own, "--resolution", 0.5, "--figure", tmp_path / "d.png")
    table = ad.read_h5ad(own)
    assert list(table.obs["spatia_cluster"].cat.categories) == [str(i) for i in range(found["n_groups"])]
    assert table.obs["spatia_domain"].notna().all()
    assert table.uns["spatia_domain"]["aligned"]["section"].tolist() == list(regions["aligned"])
    assert sum(sum(row.values()) for row in regions["composition"].values()) == table.n_obs
    assert all((tmp_path / name).read_bytes().startswith(FIGURE) for name in ("c.png", "d.png"))
    assert result("cluster", cells, "-o", tmp_path / "again.h5ad") == found | {"out": str(tmp_path / "again.h5ad")}


@pytest.mark.parametrize("method", ["ridge", "model"])
def test_hidden_genes_are_imputed_and_the_interval_is_judged(corpus: Path, model: Path, tmp_path: Path, method) -> None:
    out, figure = tmp_path / "imputed.h5ad", tmp_path / "imputed.png"
    arguments = ["impute", corpus, "--model", model, "--share", 0.1, "--method", method]
    content = result(*arguments, "-o", out, "--figure", figure)
    assert 0.7 <= content["coverage"] <= 1  # some 120 calibration and 120 judged cells
    assert content["mean_pearson"] > (0.1 if method == "ridge" else -1)  # the decoder is not trained
    table = ad.read_h5ad(out)
    imputed = table.obsm["X_spatia_imputed"]
    assert list(imputed.columns) == list(content["genes"])
    assert set(imputed.columns) == set(table.uns["spatia"]["hidden_genes"])
    assert (table.obsm["X_spatia_imputed_lower"].to_numpy() <= imputed.to_numpy() + 1e-6).all()
    assert (imputed.to_numpy() <= table.obsm["X_spatia_imputed_upper"].to_numpy() + 1e-6).all()
    assert figure.read_bytes().startswith(FIGURE)
    table.obs["mine"] = 1.0
    table.write_h5ad(out)
    for command, lost in (("impute", "mine"), ("predict-expression", "mine, X_spatia_imputed")):
        refused = CliRunner().invoke(app, [command, str(corpus), "--model", str(model), "-o", str(out)])
        assert refused.exit_code == 2
        assert f"holds {lost}" in " ".join(refused.output.split())


def test_expression_is_predicted_from_the_image_alone(corpus: Path, model: Path, tmp_path: Path) -> None:
    figure = tmp_path / "image.png"
    content = result("predict-expression", corpus, "--model", model, "--n-genes", 12, "--figure", figure)
    assert content["n_genes"] == 12
    assert content["mean_pearson"] > 0.05
    assert content["out"] is None
    assert figure.read_bytes().startswith(FIGURE)


def test_the_cells_that_are_judged_do_not_choose_the_genes(
    corpus: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen_on, judged_on = [], []

    def choose(table: ad.AnnData, n: int, rows: np.ndarray) -> list[str]:
        chosen_on.append(rows)
        return most_variable(table, n, rows)

    def regress(embedding: np.ndarray, measured: np.ndarray, genes: list[str], *, parts: Parts, **more: Any) -> Any:
        judged_on.append(parts.judge)
        return impute(embedding, measured, genes, parts=parts, **more)

    monkeypatch.setattr(predict_expression, "most_variable", choose)
    monkeypatch.setattr(predict_expression, "impute", regress)
    predict_expression.predict_from_image(corpus, model, n_genes=5)
    assert chosen_on[0].any()
    assert judged_on[0].any()
    assert not (chosen_on[0] & judged_on[0]).any()


def test_named_genes_go_by_symbol(corpus: Path, model: Path) -> None:
    symbol = Corpus.open(corpus).genes["symbol"].iloc[0]
    content = result("predict-expression", corpus, "--model", model, "--genes", symbol)
    assert content["n_genes"] == 1


def test_an_unknown_gene_is_refused_before_anything_is_embedded(corpus: Path, model: Path) -> None:
    symbol = Corpus.open(corpus).genes["symbol"].iloc[0]
    for command in ("predict-expression", "impute"):
        finished = spatia(command, corpus, "--model", model, "--genes", f"{symbol},{symbol}X")
        assert finished.exit_code == 2
        assert f"1 of 2 genes are not in the corpus, first '{symbol}X'. Did you mean" in finished.stderr
        finished = spatia(command, corpus, "--model", model, "--genes", "NOSUCH", "--method", "model")
        assert "not known to the model, first 'NOSUCH'" in finished.stderr


def test_retrieval_says_among_how_many(corpus: Path, model: Path, tmp_path: Path) -> None:
    out, figure = tmp_path / "ranks.csv", tmp_path / "retrieval.png"
    content = result("retrieve", corpus, "--model", model, "--candidates", 100, "-o", out, "--figure", figure)
    assert content["n_candidates"] == 100
    ranks = pd.read_csv(out)
    assert len(ranks) == content["n_queries"]
    assert ranks["rank_image_to_genes"].between(1, 100).all()
    assert (ranks["rank_image_to_genes"] <= 10).mean() == pytest.approx(
        content["image_to_genes"]["recall@10"], abs=0.02
    )
    assert figure.read_bytes().startswith(FIGURE)


def test_a_wrong_name_is_refused_before_the_work(cells: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["cluster", cells, "-o", tmp_path / "x.csv"], "ends in .h5ad or .zarr"),
        (["cluster", tmp_path / "no.h5ad"], "no such file"),
        (["cluster", cells, "--figure", tmp_path / "x.jpg"], "ends in .png"),
        (["cluster", cells, "--embedding", "X_pca"], "no embedding 'X_pca' in obsm; there: "),
        (["cluster", cells, "--resolution", "-1"], "resolution is -1.0"),
    ):
        finished = spatia(*arguments)
        assert finished.exit_code == 2, finished.stderr
        assert said in finished.stderr
