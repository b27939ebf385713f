"""The model of the package in use: cells of a slide it never saw are embedded without any training, and training starts from it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.integration.small_runs import BUDGET, ENVIRONMENT

from spatia.corpus.build import build
from spatia.corpus.corpus import Corpus
from spatia.corpus.same_cells import known_again
from spatia.corpus.settings import BuildSettings, NicheSettings
from spatia.corpus.sketch import SIZE
from spatia.io.source import Source
from spatia.models.checkpoint import model_id, read_description
from spatia.models.shipped import shipped_model
from spatia.tasks.seen import saw_test_cells

pytestmark = pytest.mark.slow


def _spatia(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spatia.cli.main", "-q", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def test_cells_are_embedded_with_no_training_at_all(corpus: Path, slide: Path, tmp_path: Path) -> None:
    done = _spatia("embed", corpus, "-o", tmp_path / "cells.h5ad")
    assert done.returncode == 0, done.stderr
    cells = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert cells.uns["spatia"]["model_id"] == model_id("tiny")
    truth = pd.read_parquet(slide / "truth" / "cells.parquet").set_index("cell_id")
    types = truth.loc[cells.obs_names, "type"].astype(str)
    known = types.map(types.value_counts()) >= 15
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    score = cross_val_score(probe, cells[known.to_numpy()].obsm["X_spatia"], types[known], cv=3)
    assert score.mean() > 0.8
    assert (cells.obs["spatia_ood"] > 0).all()


def test_training_starts_from_it(slide: Path, tmp_path: Path) -> None:
    budget = [word for word in BUDGET if word not in ("--generate", "64")]
    done = _spatia("run", slide, "-o", tmp_path / "out", "--from", "tiny", "--no-benchmark", *budget)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = read_description(tmp_path / "out" / "model")["facts"]
    assert facts["start"]["model_id"] == model_id("tiny")
    step = {one["name"]: one for one in json.loads((tmp_path / "out" / "run.json").read_text())["steps"]}["train"]
    assert step["status"] == "done"


def test_a_generator_is_told_by_it_and_draws_the_channels_of_the_slide(corpus: Path, tmp_path: Path) -> None:
    budget = ("--set", "presentations.generator=64", "--set", "weights.morphology=0", "--set", "sample_rows=0")
    done = _spatia("train-generator", corpus, "--model", "tiny", "-o", tmp_path / "generator", *budget)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "generator" / "model" / "model.json").is_file()
    drawn = [
        "generate",
        corpus,
        "-g",
        tmp_path / "generator",
        "-o",
        tmp_path / "drawn.zarr",
        "--limit",
        "3",
        "--evaluations",
        "2",
    ]
    done = _spatia(*drawn)
    assert done.returncode == 0, done.stderr
    store = ad.read_zarr(tmp_path / "drawn.zarr")
    known = Corpus.open(corpus).channels
    assert set(store.uns["spatia"]["channels"]) == set(known)
    assert store.obsm["single_cell_images"].shape[:2] == (3, len(known))


def _trained_on() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_description(shipped_model())["facts"]["corpora"]
    return found


def test_it_says_by_which_cells_every_slide_that_it_saw_is_known_again() -> None:
    every = [cells for one in _trained_on() for cells in one["cells"].values()]
    assert len(every) == 9  # five real slides, two simulated ones of two sections
    for cells in every:
        assert 100 <= len(cells) <= SIZE
        assert cells == sorted(set(cells))
        assert all(re.fullmatch("[0-9a-f]{32}", value) for value in cells)
    assert len({value for cells in every for value in cells}) == sum(map(len, every))  # no cell of two slides


def test_a_slide_that_it_never_saw_is_no_slide_that_it_saw(corpus: Path) -> None:
    assert known_again(_trained_on(), Corpus.open(corpus)) is None
    assert not saw_test_cells(shipped_model(), Corpus.open(corpus), None, "test").certain


@pytest.mark.real
def test_a_slide_that_it_saw_is_known_again_under_another_name(real_data: Path, tmp_path: Path) -> None:
    source = Source("mine", real_data / "xenium_breast" / "outs")
    assert build([source], tmp_path, BuildSettings(niches=NicheSettings(definition="grid"))).exit_code == 0
    corpus = Corpus.open(tmp_path)
    assert corpus.corpus_id not in {one["corpus_id"] for one in _trained_on()}
    assert "section xenium_breast of xenium_breast, which holds cells of section mine" in str(
        known_again(_trained_on(), corpus)
    )
    seen = saw_test_cells(shipped_model(), corpus, None, "test")
    assert seen.certain
    assert "so it has seen the cells it is to judge" in str(seen.problem)
