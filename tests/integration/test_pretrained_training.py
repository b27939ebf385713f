"""A run that starts from pretrained pieces keeps them: nothing is drawn anew, and the run says where they came from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.model_setup import SMALL, wake
from tests.unit.vit_mae import SIDE, output_of, random_vit_mae, save_vit_mae
from typer import Typer
from typer.testing import CliRunner

from spatia.cli.train import train as train_command
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import sha256
from spatia.data.loader import RowReader
from spatia.models.checkpoint import load_model, read_description
from spatia.models.config import PRESETS
from spatia.models.image_encoder import FIRST_PATCH
from spatia.models.inputs import ImageInput
from spatia.models.spatia import Spatia
from spatia.training.settings import read_settings
from spatia.training.stages import make_stages

COMMAND = Typer()  # alone: the whole program sends the log elsewhere, for all tests after
COMMAND.command()(train_command)
SECTION = TinySection("he", 1, ("EPCAM", "CD3E", "ACTB"), ("r", "g", "b"))
TABLE = pd.DataFrame(np.arange(12.0).reshape(3, 4) / 10, index=pd.Index(["ACTB", "CD3E", "VIM"], name="gene_id"))


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", SMALL.model_copy(update={"preset": "tiny"}))
        yield


@pytest.fixture(scope="module")
def source() -> Any:
    return random_vit_mae()


@pytest.fixture(scope="module")
def pieces(source: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pieces")
    TABLE.rename(columns=str).to_parquet(folder / "genes.parquet")
    return {
        "pretrained.image": str(save_vit_mae(source, folder / "vit")),
        "pretrained.genes": str(folder / "genes.parquet"),
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = write_corpus(
        tmp_path_factory.mktemp("corpus") / "corpus", [SECTION], px={"cell": SIDE, "niche": 8, "tissue": 16}
    )
    return Corpus.open(path)


def pretrained_part(model: Spatia) -> dict[str, torch.Tensor]:
    weights = {f"image_encoder.{name}": value for name, value in model.image_encoder.state_dict().items()}
    return weights | {"gene_encoder.embedding": model.gene_encoder.embedding.detach()}


@torch.no_grad()
def assert_is_the_source(model: Spatia, corpus: Corpus, source: Any) -> None:
    model.eval()
    batch = RowReader([corpus], "cell", vocabulary=model.vocabulary)(0, np.arange(1, 6))
    image = ImageInput(
        pixels=batch.images,
        channels_present=batch.channels_present,
        masks=batch.masks,
        mask_present=torch.ones_like(batch.mask_present),
        um_per_px=batch.um_per_px,
    )
    patches = model.image_encoder(image).tokens[:, FIRST_PATCH:]
    assert torch.allclose(patches, output_of(source, batch.images)[:, 1:], atol=1e-4)
    assert model.gene_encoder.embedding.tolist() == [
        pytest.approx(TABLE.to_numpy().mean(axis=0).tolist()),
        pytest.approx(TABLE.loc["CD3E"].tolist()),
        pytest.approx(TABLE.loc["ACTB"].tolist()),
    ]


def test_nothing_is_drawn_anew_before_or_after_a_step(
    corpus: Corpus, source: Any, pieces: dict[str, str], tmp_path: Path
) -> None:
    # a rate at which no float32 moves
    values = {
        **pieces,
        "lr": "1e-30",
        "accelerator": "cpu",
        "batch_cells": "40",
        "epochs.cells": "1",
        "epochs.context": "1",
    }
    lines = [f"{name}={value}" for name, value in values.items()]
    start: Any = make_stages([corpus], read_settings(overrides=lines))[0].module.model
    assert_is_the_source(start, corpus, source)

    out = tmp_path / "model"
    done = CliRunner().invoke(COMMAND, [str(corpus.path), "-o", str(out), *(f"--set={line}" for line in lines)])
    assert done.exit_code == 0, done.output
    trained = load_model(out)
    assert_is_the_source(trained, corpus, source)
    found = pretrained_part(trained)
    for name, value in pretrained_part(start).items():
        assert torch.allclose(value, found[name], rtol=0, atol=1e-20), name  # what starts at zero moves by the rate
    facts = read_description(out)["facts"]["start"]
    assert facts["image"]["sha256"] == sha256(Path(pieces["pretrained.image"]) / "model.safetensors")
    assert facts["genes"]["missing"] == 1


def test_they_learn_on(corpus: Corpus, pieces: dict[str, str]) -> None:
    lines = [f"{name}={value}" for name, value in pieces.items()]
    stage = make_stages([corpus], read_settings(overrides=[*lines, "batch_cells=20"]))[0]
    wake(stage.module.model)  # fusion starts closed: in the first step nothing of a gene's token is asked for
    terms = stage.module(next(iter(stage.loader(0, 1))), 0)
    sum(term.total for term in terms.values()).backward()
    model: Any = stage.module.model
    named = dict(model.named_parameters())
    for name in (
        "image_encoder.patch_weight",
        "image_encoder.blocks.0.attention.query.weight",
        "gene_encoder.embedding",
    ):
        assert named[name].grad is not None
        assert named[name].grad.abs().sum() > 0, name
    assert named["image_encoder.mask_weight"].grad.abs().sum() > 0  # starts unread, and can learn to be read
