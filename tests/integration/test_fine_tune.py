"""`spatia train --from`: on a corpus of other genes and channels, everything is found by name and the loss falls."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.model_setup import SMALL
from typer import Typer
from typer.testing import CliRunner

from spatia.cli.train import train as train_command
from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.data.vocabulary import Vocabulary
from spatia.errors import ModelError, SettingsError
from spatia.models.checkpoint import load_model, model_id, read_description
from spatia.models.config import PRESETS
from spatia.training.run_folder import read_run
from spatia.training.settings import TrainSettings, read_settings
from spatia.training.start import start_model
from spatia.training.train import train

COMMAND = Typer()  # alone: the whole program sends the log elsewhere, for all tests after
COMMAND.command()(train_command)
OLD = TinySection("old", 1, ("EPCAM", "CD3E", "ACTB"), ("DAPI", "boundary"))
NEW = TinySection("new", 2, ("KRT5", "ACTB", "VIM", "CD3E"), ("RNA", "DAPI"), n_windows=6)
FAST = {"batch_cells": 20, "window_cells": 60, "log_every": 1, "accelerator": "cpu"}


def settings(**more: Any) -> TrainSettings:
    return read_settings(given={**FAST, **more})


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    """Let the preset be a model that learns in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", SMALL.model_copy(update={"preset": "tiny"}))
        yield


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("corpora")
    return write_corpus(folder / "old", [OLD]), write_corpus(folder / "new", [NEW])


@pytest.fixture(scope="module")
def model(corpora: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "model"
    return train([corpora[0]], out, settings(epochs={"cells": 2, "context": 1}))


@pytest.fixture(scope="module")
def tuned(corpora: tuple[Path, Path], model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "tuned"
    masking = {"image": [0.5]}  # the same share in every epoch, so that losses of epochs compare
    return train(
        [corpora[1]], out, settings(lr=3e-3, epochs={"cells": 12, "context": 1}, masking=masking), start_from=model
    )


def test_the_loss_falls(tuned: Path) -> None:
    lines = [json.loads(line) for line in (tuned / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["stage"] == "cells" and line["loss"] is not None]
    n = len(losses) // 4
    assert np.mean(losses[-n:]) < 0.95 * np.mean(losses[:n]), losses


def test_the_vocabulary_grew_by_name_and_the_folder_says_so(tuned: Path, model: Path) -> None:
    assert load_model(tuned).vocabulary == Vocabulary(
        ("EPCAM", "CD3E", "ACTB", "KRT5", "VIM"), ("DAPI", "boundary", "RNA")
    )
    facts = read_description(tuned)["facts"]["start"]
    assert facts["model_id"] == model_id(model)
    assert facts["added"]["genes"] == {"n": 2, "first": ["KRT5", "VIM"]}
    assert facts["absent"] == {"genes": {"n": 1, "first": ["EPCAM"]}, "channels": {"n": 1, "first": ["boundary"]}}
    run = read_run(tuned)
    assert run is not None
    assert run["start"] == facts


@torch.no_grad()
def test_before_the_first_step_old_cells_are_embedded_as_before(
    corpora: tuple[Path, Path], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="spatia"):
        start = start_model([Corpus.open(corpora[1])], settings(), model)
    assert (
        "genes: 2 of 4 of the corpus are known, 2 added (KRT5, VIM), 1 of the model's absent from the corpus (EPCAM)"
        in (caplog.text)
    )
    assert "channels: 1 of 2 of the corpus are known, 1 added (RNA)" in caplog.text
    old, grown, corpus = load_model(model), start.model.eval(), Corpus.open(corpora[0])
    batches = [
        RowReader([corpus], "cell", vocabulary=of.vocabulary)(0, np.arange(corpus.n_cells)) for of in (old, grown)
    ]
    before, after = old.encode_cells(batches[0]), grown.encode_cells(batches[1])
    assert torch.allclose(before.cell, after.cell, atol=1e-5, rtol=0)
    assert torch.allclose(before.image, after.image, atol=1e-5, rtol=0)


def test_other_crops_are_refused(model: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [NEW], px={"cell": 16, "niche": 8, "tissue": 16})
    with pytest.raises(
        ModelError, match=r"'cell' are 27\.2 µm on 16 px, but the model was trained on 27\.2 µm on 8 px"
    ):
        train([corpus], tmp_path / "out", settings(), start_from=model)


def test_another_size_of_model_is_refused(corpora: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is of preset 'tiny', but preset='base' is asked for"):
        train([corpora[1]], tmp_path / "out", settings(preset="base"), start_from=model)
    with pytest.raises(SettingsError, match=r"its fusion_layers is \d, but sizes\.fusion_layers=7 is asked for"):
        train([corpora[1]], tmp_path / "out", settings(sizes={"fusion_layers": 7}), start_from=model)
    pieces = settings(pretrained={"genes": "genes.parquet"})
    with pytest.raises(SettingsError, match=r"pretrained\.genes=genes\.parquet: a trained model keeps its own weights"):
        train([corpora[1]], tmp_path / "out", pieces, start_from=model)


def test_no_gene_in_common_is_warned_of(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = write_corpus(tmp_path / "corpus", [TinySection("other", 4, ("ENSG1", "ENSG2"), ())])
    with caplog.at_level(logging.WARNING, logger="spatia"):
        start_model([Corpus.open(corpus)], settings(), model)
    assert re.search("knows none of the corpus's 2 genes", caplog.text)


def test_the_command(corpora: tuple[Path, Path], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    few = [f"--set={name}={value}" for name, value in {**FAST, "epochs.cells": 1, "epochs.context": 0}.items()]
    done = CliRunner().invoke(COMMAND, [str(corpora[1]), "-o", str(out), "--from", str(model), *few])
    assert done.exit_code == 0, done.output
    assert load_model(out).vocabulary.genes[3:] == ("KRT5", "VIM")
    resumed = CliRunner().invoke(COMMAND, [str(corpora[1]), "-o", str(out), "--resume"])
    assert resumed.exit_code != 0  # what it began from is part of the run
