"""Two processes train as one would on both their batches: same losses, same weights, with DDP and with sharded parameters."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.unit.conftest import SECTIONS, write_corpus

from spatia.corpus.corpus import Corpus

ROOT = Path(__file__).parents[2]
SETTINGS = ["accelerator=cpu", "log_every=2", "lr=0.01", "epochs=2"]
TOY = ["-m", "tests.integration.toy_training"]

pytestmark = pytest.mark.slow


def start(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


def one(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return start([sys.executable, *TOY, *map(str, arguments)])


def two(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return start([*launcher, *TOY, *map(str, arguments)])


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_same_run(found: Path, expected: Path) -> None:
    """Sums in another order: equal to rounding, after some tens of steps of Adam."""
    assert len(lines(found)) == len(lines(expected)) > 5
    for one_line, other in zip(lines(found), lines(expected), strict=True):
        assert one_line["step"] == other["step"]
        assert one_line["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one_line["terms"] == pytest.approx(other["terms"], rel=1e-4)
        assert one_line.get("rows") == other.get("rows")
        assert one_line.get("gradient_norm", 0) == pytest.approx(other.get("gradient_norm", 0), rel=1e-3)
    weights, wanted = (load_file(out / "weights.safetensors") for out in (found, expected))
    assert set(weights) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(weights[name], value, atol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", SECTIONS)


@pytest.fixture(scope="module")
def alone(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process fed with the batches of both ranks."""
    out = tmp_path_factory.mktemp("alone") / "model"
    finished = one(tiny, out, *SETTINGS, "concatenate=2")
    assert finished.returncode == 0, finished.stderr
    return out


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def strategy(request: pytest.FixtureRequest) -> str:
    """How two processes share the work."""
    return str(request.param)


@pytest.fixture(scope="module")
def together(strategy: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, unbroken."""
    out = tmp_path_factory.mktemp(strategy) / "model"
    finished = two(tiny, out, *SETTINGS, f"strategy={strategy}")
    assert finished.returncode == 0, finished.stderr
    assert (
        finished.stderr.count("communication is ended") == 2
    )  # or threads that are left may abort a process at its end
    return out


def test_two_processes_equal_one(together: Path, alone: Path) -> None:
    assert_same_run(together, alone)


def test_two_processes_resume(strategy: str, together: Path, tiny: Path, tmp_path: Path) -> None:
    """Bit for bit: the order of sums is that of the unbroken run."""
    out = tmp_path / "model"
    settings = [*SETTINGS, f"strategy={strategy}", "checkpoint_every_steps=3"]
    killed = two(tiny, out, *settings, "kill_after=14")
    assert killed.returncode != 0
    assert not (out / "weights.safetensors").exists()
    finished = two(tiny, out, *settings, "resume=true")
    assert finished.returncode == 0, finished.stderr
    assert [line["loss"] for line in lines(out)] == [line["loss"] for line in lines(together)]
    weights, wanted = (load_file(folder / "weights.safetensors") for folder in (out, together))
    assert all(np.array_equal(weights[name], value) for name, value in wanted.items())


def test_processes_started_without_torchrun(tiny: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    finished = one(tiny, out, *SETTINGS, "devices=2")
    assert finished.returncode == 0, finished.stderr
    assert_same_run(out, alone)


def test_ctrl_c_on_one_rank_stops_all(tiny: Path, tmp_path: Path) -> None:
    """A scheduler that signals one process leaves a checkpoint of them all, at one step."""
    out = tmp_path / "model"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *TOY, str(tiny), str(out), *SETTINGS, "devices=2", "epochs=2000"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (out / "checkpoint" / "000001").is_dir():
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    state = json.loads((max((out / "checkpoint").iterdir()) / "state.json").read_text())
    assert state["step"] > 0


def train_in_two(corpus: Path, out: Path, *values: str) -> subprocess.CompletedProcess[str]:
    """Run `spatia train` with the real model."""
    common = ["epochs.cells=1", "epochs.context=1", "accelerator=cpu", "weights.adversarial=0.1"]
    settings = [text for value in [*common, *values] for text in ("--set", value)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return start([*launcher, "-m", "spatia.cli.main", "train", str(corpus), "-o", str(out), *settings])


@pytest.fixture(scope="module")
def with_crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus with crops that the real model takes."""
    px = {"cell": 16, "niche": 16, "tissue": 16}
    return write_corpus(tmp_path_factory.mktemp("crops") / "corpus", SECTIONS, px=px)


def test_the_real_model_trains_in_two_processes(strategy: str, with_crops: Path, tmp_path: Path) -> None:
    """Not all parameters are used by every batch, some are empty, and stages freeze parts."""
    out = tmp_path / "model"
    finished = train_in_two(with_crops, out, "batch_cells=31", f"strategy={strategy}")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"{out}\n"
    assert (out / "model.safetensors").is_file()


def test_the_real_model_is_validated_in_two_processes(with_crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    finished = train_in_two(with_crops, out, "batch_cells=20", "split=block", "validation_part=test")
    assert finished.returncode == 0, finished.stderr
    assert any(line["kind"] == "validation" and line["loss"] is not None for line in lines(out))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_share_one_validation_window(strategy: str, tmp_path: Path) -> None:
    """One of them has none, and must not be waited for."""
    corpus = write_corpus(tmp_path / "corpus", SECTIONS, px={"cell": 16, "niche": 16, "tissue": 16})
    file = corpus / "splits" / "block.json"
    split = json.loads(file.read_text())
    window = Corpus.open(corpus).section("left").tissues.obs().iloc[-1]
    whole = [[int(window["cell_start"]), int(window["cell_stop"])]]
    split["parts"] |= {"validation": {"left": whole}, "test": {}}
    file.write_text(json.dumps(split))
    out = tmp_path / "model"
    finished = train_in_two(corpus, out, "batch_cells=20", "split=block", f"strategy={strategy}")
    assert finished.returncode == 0, finished.stderr
    validated = [line for line in lines(out) if line["kind"] == "validation"]
    assert [line["stage"] for line in validated] == ["cells", "context"]
    assert all(line["loss"] is not None for line in validated)
