"""``spatia embed``: alone and in two processes, killed and continued, and into a SpatialData table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from click.testing import Result
from tests.unit.conftest import SECTIONS, Tiny, write_corpus
from tests.unit.model_setup import save_small_model
from typer.testing import CliRunner

from spatia import Corpus
from spatia.cli.main import app
from spatia.corpus.store import quiet_about_sharding

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus and a model that knows it."""
    folder = tmp_path_factory.mktemp("embed")
    path = Tiny(write_corpus(folder / "corpus", SECTIONS, "knn"), SECTIONS).path
    return path, save_small_model(Corpus.open(path), folder / "model")


def command(corpus: Path, model: Path, out: Path, *options: str) -> list[str]:
    return ["-m", "spatia.cli.main", "embed", str(corpus), "--model", str(model), "-o", str(out), *options]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(made: tuple[Path, Path], tmp_path: Path) -> None:
    corpus, model = made
    alone = run(*command(corpus, model, tmp_path / "alone.h5ad", "--json"))
    assert alone.returncode == 0, alone.stderr
    assert json.loads(alone.stdout)["n_cells"] == Corpus.open(corpus).n_cells
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = run(*launcher, *command(corpus, model, tmp_path / "two.h5ad"))
    assert two.returncode == 0, two.stderr
    one, other = ad.read_h5ad(tmp_path / "alone.h5ad"), ad.read_h5ad(tmp_path / "two.h5ad")
    for key in one.obsm:
        np.testing.assert_array_equal(one.obsm[key], other.obsm[key], err_msg=key)
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.slow
def test_a_killed_run_leaves_no_table_and_continues(made: tuple[Path, Path], tmp_path: Path) -> None:
    corpus, model = made
    out = tmp_path / "cells.h5ad"
    process = subprocess.Popen(
        [sys.executable, *command(corpus, model, out)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    blocks = tmp_path / ".cells.h5ad.parts"
    while process.poll() is None and not list(blocks.glob("*/*.npy")):
        time.sleep(0.01)  # until the first block stands
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = run(*command(corpus, model, out))
    assert again.returncode == 0, again.stderr
    whole = run(*command(corpus, model, tmp_path / "whole.h5ad"))
    assert whole.returncode == 0, whole.stderr
    one, other = ad.read_h5ad(out), ad.read_h5ad(tmp_path / "whole.h5ad")
    np.testing.assert_array_equal(one.obsm["X_spatia"], other.obsm["X_spatia"])


@pytest.mark.slow
def test_a_spatialdata_table_gets_the_embeddings(made: tuple[Path, Path], tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    from spatia.inference.spatialdata_table import write_into_spatialdata

    corpus, model = made
    out = tmp_path / "cells.h5ad"
    assert run(*command(corpus, model, out, "--section", "left")).returncode == 0
    cells = ad.read_h5ad(out)
    table = ad.AnnData(obs=cells.obs[[]].iloc[::-1].copy())
    with quiet_about_sharding():
        spatialdata.SpatialData(tables={"table": table}).write(tmp_path / "slide.zarr")
    assert write_into_spatialdata(out, tmp_path / "slide.zarr") == "table"
    written = spatialdata.read_zarr(tmp_path / "slide.zarr").tables["table"]
    np.testing.assert_array_equal(written.obsm["X_spatia"], cells.obsm["X_spatia"][::-1])


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_columns_of_other_commands_are_not_written_over(made: tuple[Path, Path], tmp_path: Path) -> None:
    corpus, model = made
    for name in ("cells.h5ad", "cells.zarr"):
        words = ["embed", corpus, "--model", model, "-o", tmp_path / name]
        assert call(*words).exit_code == 0
        assert call(*words).exit_code == 0  # nothing but its own is in it
        assert call("cluster", tmp_path / name, "--resolution", 1, "--neighbours", 5).exit_code == 0
        again = call(*words)
        assert again.exit_code == 2
        assert "holds spatia_cluster, which embedding anew would remove" in again.output


def test_a_model_that_is_not_there_is_one_sentence(made: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "unfinished" / "checkpoint").mkdir(parents=True)
    for name, hint in (("none", "Expected a model folder"), ("unfinished", "--resume")):
        found = call("embed", made[0], "--model", tmp_path / name, "-o", tmp_path / "x.h5ad")
        assert found.exit_code == 2
        assert hint in found.output
    found = call("embed", made[0], "-o", tmp_path / "x.h5ad", "--hide-genes", tmp_path / "no")
    assert found.exit_code == 2
    assert "not a readable text file" in found.output
