"""The model that ships with the package: small, whole, free of paths, and ready to embed cells it never saw."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from spatia.errors import ModelError
from spatia.models import shipped
from spatia.models.checkpoint import MODEL_FILE, WEIGHTS_FILE, load_model, model_id, read_description, read_tensors
from spatia.models.shipped import NAME, model_folder, shipped_model
from spatia.simulate.genes import choose_symbols, make_panel


def test_it_is_small_and_says_what_it_is() -> None:
    folder = shipped_model()
    assert (folder / WEIGHTS_FILE).stat().st_size <= 15_000_000
    assert all(value.dtype != torch.float32 for value in read_tensors(folder / WEIGHTS_FILE).values())
    text = (folder / "CARD.md").read_text(encoding="utf-8")
    facts = read_description(folder)["facts"]
    for one in facts["corpora"]:
        assert set(one) == {"name", "corpus_id", "n_cells", "cells"}
        assert one["name"].partition("_2")[0] in text
    assert "benchmarks/pretrain.py" in text
    assert "/" not in json.dumps(facts["corpora"])


def test_it_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_folder(NAME) == shipped_model()
    assert model_id(NAME) == model_id(shipped_model())
    (tmp_path / NAME).mkdir()  # a folder of the user's own comes first
    assert model_folder(NAME) == Path(NAME)
    with pytest.raises(ModelError, match="Expected a model folder"):
        load_model(NAME)


def test_without_it_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped, "files", lambda _: tmp_path)
    with pytest.raises(ModelError, match="Install spatia again"):
        shipped_model()


def test_it_knows_simulated_and_real_panels_and_has_not_collapsed() -> None:
    model = load_model(NAME)
    known = set(model.vocabulary.genes)
    assert set(make_panel(300, seed=7).gene_ids) <= known
    assert {"GCG", "ERBB2"} & known or len(known) > 1_000
    assert "DAPI" in model.vocabulary.channels
    assert len(choose_symbols(300)) == 300
    embedding = model.gene_encoder.embedding.detach()
    assert torch.isfinite(embedding).all()
    assert float(embedding.std(dim=0).min()) > 0


def test_it_is_part_of_the_package() -> None:
    inside = files("spatia") / "weights" / NAME
    assert {MODEL_FILE, WEIGHTS_FILE, "CARD.md"} <= {entry.name for entry in inside.iterdir()}
    assert np.isfinite(Path(str(inside / WEIGHTS_FILE)).stat().st_size)
