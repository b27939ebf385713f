"""A checkpoint is whole or not there, holds what was put in bit for bit, and nothing pickled."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from spatia.errors import TrainingError
from spatia.training import checkpoint
from spatia.training.checkpoint import (
    generator_states,
    read_checkpoint,
    seed_generators,
    set_generator_states,
    write_checkpoint,
)

CPU = torch.device("cpu")


def tensors() -> dict[str, dict[str, torch.Tensor]]:
    shared = torch.randn(2, 3)
    return {"weights": {"a": shared, "tied": shared, "t": shared.T, "s": torch.tensor(3.0)}, "average": {}}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written, state = tensors(), {"step": 3, "loss": 0.1 + 0.2, "best": None}
    write_checkpoint(tmp_path / "c", written, state)
    read = read_checkpoint(tmp_path / "c")
    assert read is not None
    assert {name: read.state[name] for name in state} == state
    assert all(torch.equal(read.tensors["weights"][name], value) for name, value in written["weights"].items())


def test_only_safetensors_and_json(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", tensors(), {})
    assert sorted(file.name for file in path.iterdir()) == ["average.safetensors", "state.json", "weights.safetensors"]


def test_the_newest_counts_and_the_others_go(tmp_path: Path) -> None:
    for step in range(12):
        write_checkpoint(tmp_path / "c", tensors(), {"step": step})
    read = read_checkpoint(tmp_path / "c")
    assert read is not None
    assert read.state["step"] == 11
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["000012"]


@pytest.mark.parametrize("at", ["save_file", "_flush_to_disk"])
def test_one_that_fails_leaves_the_one_before(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "c", tensors(), {"step": 1})

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, at, fail)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path / "c", tensors(), {"step": 2})
    read = read_checkpoint(tmp_path / "c")
    assert read is not None
    assert read.state["step"] == 1


def test_there_may_be_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "c") is None
    (tmp_path / "c" / ".000001.part").mkdir(parents=True)
    assert read_checkpoint(tmp_path / "c") is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights.safetensors", "damaged", "cannot be read"),
        ("state.json", "{", "cannot be read"),
        ("state.json", '{"format": "spatia-checkpoint", "format_version": 9}', "version 9; expected"),
    ],
)
def test_damage_is_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", tensors(), {})
    (path / name).write_text(content)
    with pytest.raises(TrainingError, match=f"000001: .*{said}"):
        read_checkpoint(tmp_path / "c")


def test_a_flipped_bit_is_noticed_where_digests_were_written(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", tensors(), {})
    weights, state = path / "weights.safetensors", path / "state.json"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        TrainingError, match=r"cannot be read \(weights\.safetensors is not as it was written\)\. Delete"
    ):
        read_checkpoint(tmp_path / "c")
    facts = json.loads(state.read_text())
    state.write_text(json.dumps(facts | {"groups": sorted(facts["groups"])}))  # as it was written before 2026-11-28
    assert read_checkpoint(tmp_path / "c") is not None


@pytest.mark.parametrize("spare_gauss", [False, True])
def test_generators_go_on_where_they_were(spare_gauss: bool, tmp_path: Path) -> None:
    seed_generators(3, 1)
    if spare_gauss:  # both keep the second of a pair of normal numbers
        random.gauss(0, 1)
        np.random.standard_normal()  # noqa: NPY002
    write_checkpoint(tmp_path / "c", {"generators": generator_states(CPU)}, {})

    def draw() -> list[float]:
        return [
            random.gauss(0, 1),
            random.random(),
            np.random.standard_normal(),  # noqa: NPY002
            np.random.rand(),  # noqa: NPY002
            torch.rand(()).item(),
        ]

    expected = draw()
    seed_generators(99)
    read = read_checkpoint(tmp_path / "c")
    assert read is not None
    set_generator_states(read.tensors["generators"], CPU)
    assert draw() == expected


def test_seeds_differ_in_every_number() -> None:
    drawn = set()
    for numbers in itertools.product((0, 1), repeat=3):
        seed_generators(*numbers)
        drawn.add((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    assert len(drawn) == 8


def test_state_is_plain_json(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", {}, {"loader": {"epoch": 1}})
    assert json.loads((path / "state.json").read_text())["loader"] == {"epoch": 1}
