"""`spatia pair` on a simulated slide: from the command line to the folder, with the truth as states."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from spatia.cli.main import app
from spatia.corpus.corpus import Corpus
from spatia.corpus.splits import SplitSettings, make_split
from spatia.pairing.pairs import read_pairs

TRANSITIONS = """
transitions:
  - name: emt
    group: progression
    source: {where: "type in ['tumour', 'luminal'] & state_emt < 0.2"}
    target: {where: "type in ['tumour', 'luminal'] & state_emt > 0.3"}
  - {name: to macrophage, key: type, source: t_cell, target: [macrophage, b_cell]}
"""


def spatia(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def split_corpus(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("split") / "corpus"
    shutil.copytree(corpus, copy)
    make_split(Corpus.open(copy), "block", settings=SplitSettings(validation=0, test=0.3, block_um=60, margin_um=5))
    return copy


@pytest.fixture(scope="module")
def pairs(split_corpus: Path, slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "transitions.yaml").write_text(TRANSITIONS, encoding="utf-8")
    arguments = ["--transitions", folder / "transitions.yaml", "--cells", slide / "truth" / "cells.parquet"]
    figure = ["--figure", folder / "pairs.png"]
    finished = spatia("pair", split_corpus, *arguments, "-o", folder / "pairs", *figure, "--json")
    assert finished.exit_code == 0, finished.stderr or finished.exception
    content = json.loads(finished.stdout)
    assert content["out"] == str(folder / "pairs")
    assert content["calibrated"]
    assert content["transitions"][0]["parts"]["train"]["n_paired"] > 20
    assert (folder / "pairs.png").read_bytes().startswith(b"\x89PNG")
    return folder / "pairs"


def test_the_folder_is_of_this_corpus_and_knows_morphology(pairs: Path, split_corpus: Path) -> None:
    found = read_pairs(pairs, Corpus.open(split_corpus))
    assert found.transitions == ("emt", "to macrophage")
    shift = found.signature("emt", "gene")
    change = (shift["delta"] / shift["source_sd"]).groupby(shift["symbol"]).first()
    assert change[["VIM", "FN1", "ZEB1", "SPARC"]].mean() > 0.1 > change[["EPCAM", "CDH1", "KRT8", "KRT18"]].mean()
    assert np.isfinite(found.signature("emt", "morphology").loc["eccentricity", "delta"])


def test_all_cells_of_both_states_are_kept_and_not_only_partners(pairs: Path, split_corpus: Path, slide: Path) -> None:
    found, truth = read_pairs(pairs), pd.read_parquet(slide / "truth" / "cells.parquet").astype({"type": str})
    corpus = Corpus.open(split_corpus)
    parts = corpus.split("block").part_of_rows("s1", corpus.section("s1").entry.n_cells)
    ids = corpus.section("s1").cells.obs().index.to_numpy(object)[parts != "margin"]
    wanted = truth[truth["type"].isin(["macrophage", "b_cell"]) & truth["cell_id"].isin(ids)]["cell_id"]
    assert sorted(found.cells_at("to macrophage", "target")["cell_id"]) == sorted(wanted)
    first = found.table[found.table["rank"] == 0]  # as with top_k=1, in a folder of before
    fewer = dataclasses.replace(found, ends=None, table=first).cells_at("to macrophage", "target")
    assert {*fewer["cell_id"]} < {*wanted}
    assert not fewer.duplicated().any()


def test_most_partners_are_of_the_sources_type(pairs: Path, slide: Path) -> None:
    kind = pd.read_parquet(slide / "truth" / "cells.parquet").set_index("cell_id")["type"].astype(str)
    table = read_pairs(pairs).table
    own = table[(table["transition"] == "emt") & (table["rank"] == 0)]
    assert (kind[own["source"]].to_numpy() == kind[own["target"]].to_numpy()).mean() > 0.7


def test_the_same_again_gives_the_same_bytes(pairs: Path, split_corpus: Path, slide: Path, tmp_path: Path) -> None:
    arguments = ["--transitions", pairs.parent / "transitions.yaml", "--cells", slide / "truth" / "cells.parquet"]
    finished = spatia("pair", split_corpus, *arguments, "-o", tmp_path / "again")
    assert finished.exit_code == 0
    assert "emt: train" in finished.stdout
    for name in ("pairs.parquet", "ends.parquet", "signatures.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (pairs / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scope", "world"], "scope is 'world'"),
        (["--set", "solver.epsilom=1"], "unknown setting 'solver.epsilom', did you mean 'epsilon'"),
        (["--set", "solver"], "expected NAME=VALUE"),
        (["--set", "solver.max_iterations=1"], "did not converge"),
        (["--split", "donor"], "no split 'donor' (there: block)"),
        (["--figure", "x.jpg"], "ends in .png"),
        (["--epsilon", "0"], "solver.epsilon is 0.0"),
        (["--embedding", "X_q"], "embedding 'X_q'"),
    ],
)
def test_wrong_use_exits_2_and_leaves_nothing(
    pairs: Path, split_corpus: Path, slide: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    given = ["--transitions", pairs.parent / "transitions.yaml", "--cells", slide / "truth" / "cells.parquet"]
    finished = spatia("pair", split_corpus, *given, "-o", tmp_path / "out", *arguments)
    assert finished.exit_code == 2
    assert said in " ".join(finished.stderr.split())
    assert list(tmp_path.iterdir()) == []
