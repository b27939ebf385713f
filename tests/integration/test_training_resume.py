"""Kill −9 at any moment, resume, and the run is the unbroken one: same losses, same weights, bit for bit on a CPU."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tests.unit.conftest import SECTIONS, write_corpus

ROOT = Path(__file__).parents[2]
VARYING = {"rows_per_s", "memory_bytes"}
SETTINGS = ["accelerator=cpu", "log_every=3", "lr=0.01", "checkpoint_every_steps=5", "epochs=3"]


def train(corpus: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.integration.toy_training", str(corpus), str(out), *SETTINGS, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def losses(out: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in VARYING} for line in lines]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", SECTIONS)


@pytest.fixture(scope="module")
def unbroken(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "model"
    finished = train(tiny, out)
    assert finished.returncode == 0, finished.stderr
    return out


@pytest.mark.slow
def test_killed_twice_and_resumed(tiny: Path, unbroken: Path, tmp_path: Path) -> None:
    """At two random steps; what a kill in the middle of a checkpoint leaves aside is cleared away."""
    n_steps = losses(unbroken)[-1]["step"]
    assert isinstance(n_steps, int)
    out = tmp_path / "model"
    for kill_after in sorted(random.Random(0).sample(range(6, n_steps), 2)):
        killed = train(tiny, out, f"kill_after={kill_after}", "resume=true")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        aside = out / "checkpoint" / ".000099.part"
        aside.mkdir()
        (aside / "state.json").write_text('{"half": ')
    finished = train(tiny, out, "resume=true")
    assert finished.returncode == 0, finished.stderr
    assert "resuming after step" in finished.stderr
    assert losses(out) == losses(unbroken)
    expected, found = load_file(unbroken / "weights.safetensors"), load_file(out / "weights.safetensors")
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    assert len(list((out / "checkpoint").iterdir())) == 1
