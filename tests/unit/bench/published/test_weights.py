"""Files of others are read without running them."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from spatia.bench.published.weights import n_layers, read_checkpoint, read_json, read_mapping, shape_of, tensors_of
from spatia.errors import ModelError


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_dictionaries_of_numbers_are_read_from_pickles(protocol: int, tmp_path: Path) -> None:
    content = {"a": np.float64(1.5), "b": np.int64(2), "c": 3, "d": "text"}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_mapping(path) == content
    old = pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(old)  # as numpy 1 wrote them
    assert read_mapping(path) == content


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    path, trace = tmp_path / "x.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"a": Attack(trace)}))
    with pytest.raises(ModelError, match=r"asks for pathlib\.[\w.]*Path.*touch|asks for builtins.getattr"):
        read_mapping(path)
    torch.save({"a": torch.ones(1), "b": Attack(trace)}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"cannot be read as tensors alone.*safetensors"):
        read_checkpoint(tmp_path / "x.pt")
    assert not trace.exists()
    path.write_bytes(b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00idnatR.")
    with pytest.raises(ModelError, match="asks for idna"):
        read_mapping(path)


def test_dictionaries_may_be_json_or_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_mapping(tmp_path / "x.json") == {"a": 1}
    pd.DataFrame({"name": ["a"], "token": [1]}).to_parquet(tmp_path / "x.parquet")
    assert read_mapping(tmp_path / "x.parquet") == {"a": 1}
    pd.DataFrame({"name": ["a"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ModelError, match="1 columns; expected two"):
        read_mapping(tmp_path / "x.parquet")


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(ModelError, match="found list"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(ModelError, match="holds a list; expected a dictionary"):
        read_mapping(tmp_path / "x.pkl")
    for name in ("x.pt", "x.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ModelError, match="cannot be read"):
            read_checkpoint(tmp_path / name)
    torch.save([torch.ones(1)], tmp_path / "x.pt")
    with pytest.raises(ModelError, match="holds a list; expected tensors by name"):
        read_checkpoint(tmp_path / "x.pt")
    with pytest.raises(ModelError, match="'a' is a int; expected tensors alone"):
        tensors_of({"a": 1}, "x")
    with pytest.raises(ModelError, match=r"expected a of 2 dimensions, found \(1,\)"):
        shape_of({"a": torch.ones(1)}, "a", "x")
    assert n_layers({"a.0.w": torch.ones(1), "a.11.w": torch.ones(1), "b.12": torch.ones(1)}, "a.") == 12
