"""`spatia train` on a tiny corpus with the real model: what it writes, what it refuses, how it goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tests.unit.conftest import SECTIONS, write_corpus

from spatia.corpus.lock import LOCK_FILE
from spatia.models.checkpoint import load_model
from spatia.training.run_folder import read_run

pytestmark = pytest.mark.slow

VARYING = {"rows_per_s", "memory_bytes"}
SMALL = {
    "epochs": {"cells": 2, "context": 2},
    "batch_cells": 31,
    "window_cells": 60,
    "log_every": 1,
    "accelerator": "cpu",
}


def spatia(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spatia.cli.main", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | more
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def losses(out: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in VARYING} for line in lines]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    px = {"cell": 16, "niche": 16, "tissue": 16}
    return write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", SECTIONS, px=px)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(json.dumps(SMALL))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def trained(tiny: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    finished = spatia("train", tiny, "-o", out, "--config", config, "--set", "weights.adversarial=0.1", "--seed", 3)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"{out}\n"
    assert "weights: genes=1.0, image=1.0, contrastive=0.1, adversarial=0.1" in finished.stderr
    return out


def test_the_folder_holds_all_there_is_to_say(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} - {LOCK_FILE} == {
        "curves.png", "log.jsonl", "model.json", "model.safetensors", "run.json"
    }  # fmt: skip
    model = load_model(trained)
    assert model.vocabulary.channels == ("DAPI", "boundary", "RNA")
    run = read_run(trained)
    assert run is not None
    assert (run["status"], run["seed"], run["settings"]["batch_cells"]) == ("finished", 3, 31)
    assert [stage["name"] for stage in run["stages"]] == ["cells", "context"]
    assert all(stage["effective_rank"] > 0 for stage in run["stages"])
    terms = {name for line in losses(trained) for name, value in line["terms"].items() if value is not None}  # type: ignore[attr-defined]
    assert {"genes", "image", "contrastive", "adversarial", "niche", "tissue"} <= terms


def test_a_finished_run_is_not_trained_again(trained: Path, tiny: Path) -> None:
    before = (trained / "model.safetensors").stat().st_mtime_ns
    again = spatia("train", tiny, "-o", trained, "--resume")
    assert (again.returncode, again.stdout) == (0, f"{trained}\n")
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    refused = spatia("train", tiny, "-o", trained)
    assert refused.returncode == 2
    assert "holds a training run already (finished)" in refused.stderr
    other = spatia("train", tiny, "-o", trained, "--resume", "--set", "lr=0.5")
    assert other.returncode == 2
    assert "lr was 0.001, is 0.5" in other.stderr


def test_killed_and_resumed_with_the_settings_it_had(trained: Path, tiny: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    every = ["--set", "weights.adversarial=0.1", "--seed", "3", "--set", "checkpoint_every_steps=2"]
    arguments = ["train", tiny, "-o", out, "--config", config, *every]
    command = [sys.executable, "-m", "spatia.cli.main", *map(str, arguments)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((out / "checkpoint").glob("00000[3-9]")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    resumed = spatia("train", tiny, "-o", out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step" in resumed.stderr
    assert losses(out) == losses(trained)
    expected, found = (load_file(folder / "model.safetensors") for folder in (trained, out))
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    run = read_run(out)
    assert run is not None
    assert len(run["resumed"]) == 1


def test_ctrl_c_writes_a_checkpoint_and_exits_130(tiny: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    arguments = ["train", tiny, "-o", out, "--config", config, "--set", "epochs.cells=500"]
    command = [sys.executable, "-m", "spatia.cli.main", *map(str, arguments)]
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((out / "checkpoint").glob("0*")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith("interrupted\n")
    assert "Traceback" not in stderr
    run = read_run(out)
    assert run is not None
    assert (run["status"], run["steps"] > 0) == ("interrupted", True)
    assert (out / "curves.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "lrr=1"], r"unknown setting 'lrr', did you mean 'lr'\?"),
        (["--part", "train"], "say which with --split"),
        (["--split", "donor"], "no split 'donor'"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], said: str, tiny: Path, tmp_path: Path) -> None:
    refused = spatia("-q", "train", tiny, "-o", tmp_path / "model", *arguments)
    assert refused.returncode == 2, refused.stderr
    assert re.fullmatch(rf"spatia: error: .*{said}.*\n", refused.stderr)


def test_a_run_that_failed_at_once_is_not_in_the_way(tiny: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert spatia("train", tiny, "-o", out, "--config", config, "--split", "donor").returncode == 2
    finished = spatia(
        "train", tiny, "-o", out, "--config", config, "--set", "epochs.context=0", "--set", "epochs.cells=1"
    )
    assert finished.returncode == 0, finished.stderr
