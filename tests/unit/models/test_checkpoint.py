"""A model folder gives back the same model, or says what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spatia.errors import ModelError
from spatia.models.checkpoint import load_model, model_id, save_model


@pytest.fixture
def folder(setup: Any, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", setup.model, {"seed": 3})
    return tmp_path / "model"


def test_a_loaded_model_embeds_as_the_saved_one(setup: Any, folder: Path) -> None:
    loaded, batch = load_model(folder), setup.batch(0, [0, 1, 2])
    assert torch.equal(loaded.encode_cells(batch).cell, setup.model.encode_cells(batch).cell)
    assert loaded.vocabulary == setup.model.vocabulary


def test_the_id_changes_with_the_weights(setup: Any, folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "same", setup.model, {"seed": 3})
    assert model_id(folder) == model_id(tmp_path / "same")
    other = load_model(folder)
    with torch.no_grad():
        other.gene_head.bias += 1e-3
    save_model(tmp_path / "other", other, {"seed": 3})
    assert model_id(folder) != model_id(tmp_path / "other")


def test_a_damaged_file_is_named(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors: digest"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content["vocabulary"]["genes"].append("NEW"), "weights do not fit the model"),
        (lambda content: content["config"].update(image_layers=2), r"missing image_encoder\.blocks\.1"),
        (lambda content: content.update(format_version=99), "version 99; expected"),
        (lambda content: content["config"].update(wdith=3), "did you mean 'width'"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(folder: Path, change: Any, complaint: str) -> None:
    content = json.loads((folder / "model.json").read_text())
    change(content)
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(Exception, match=complaint) as caught:
        load_model(folder)
    assert type(caught.value).__name__ in ("ModelError", "SettingsError")


def test_no_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_model(tmp_path / "nowhere")
