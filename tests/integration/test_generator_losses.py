"""All terms of a generator's loss together, from a corpus to a folder, with a proxy that is trained, judged and trusted or not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests.unit.conftest import TinySection, pixel, write_corpus, write_manifest
from tests.unit.model_setup import save_small_model

from spatia import Corpus, pair, train_generator
from spatia.config import read_settings_of
from spatia.errors import TrainingError
from spatia.pairing.settings import CostSettings, PairSettings, SolverSettings
from spatia.training.generator_settings import GeneratorSettings

GENES = ("EPCAM", "CD3E", "ACTB", "VIM", "MS4A1", "KRT8")
SECTION = TinySection("left", 1, GENES, n_windows=24, features=("brightness", "noise"))
TERMS = {"flow", "contrastive", "morphology", "adversarial"}
SETTINGS = (
    "accelerator=cpu", "log_every=1", "batch=16", "sample_rows=0", "lr=0.01", "epochs.proxy=12", "epochs.generator=2",
    "weights.contrastive=0.1", "weights.morphology=0.05", "weights.adversarial=0.01", "network.kind=transformer", "network.width=16",
    "network.layers=1", "network.heads=2", "network.patch_px=4", "network.stem=4", "solver.evaluations=3",
)  # fmt: skip


def settings(*more: str) -> GeneratorSettings:
    return read_settings_of(GeneratorSettings, "spatia train-generator", overrides=[*SETTINGS, *more])


def corpus_of(path: Path, *, readable: bool) -> Path:
    """Write a corpus whose images show one of the two features, or, where its values went to other cells, none."""
    write_corpus(path, (SECTION,))
    section = path / "sections" / SECTION.sample
    features = zarr.open_group(section / "cells.zarr/obsm/morphology", mode="r+")
    measured = np.isfinite(features["noise"][:])
    rng = np.random.default_rng(0)
    brightness = pixel(SECTION, np.arange(len(measured)), 0).astype(np.float32)
    features["brightness"][:] = np.where(measured, brightness if readable else rng.permutation(brightness), np.nan)
    features["noise"][:] = np.where(measured, rng.normal(size=len(measured)), np.nan)
    write_manifest(section)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_of(tmp_path_factory.mktemp("tiny") / "corpus", readable=True)


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(Corpus.open(corpus), tmp_path_factory.mktemp("model") / "model")


def test_all_losses_together(corpus: Path, model: Path, tmp_path: Path) -> None:
    folder = train_generator(corpus, tmp_path / "generator", model, settings())
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    proxy, generator = (
        [line["terms"] for line in lines if line["kind"] == "step" and line["stage"] == stage]
        for stage in ("proxy", "generator")
    )
    assert {name for terms in proxy for name in terms} == {"proxy"}
    errors = [terms["proxy"] for terms in proxy]
    assert np.mean(errors[-8:]) < 0.8 * np.mean(errors[:8])  # half of it is noise, which nobody can read
    assert all(set(terms) == TERMS for terms in generator)
    for name in TERMS:  # a step may have no late point of a path to ask of; the term is null there
        values = [terms[name] for terms in generator if terms[name] is not None]
        assert len(values) > len(generator) / 2, name
        assert all(math.isfinite(value) for value in values), name
    assert all(terms["contrastive"] < 0 < terms["flow"] for terms in generator)

    run = json.loads((folder / "run.json").read_text())
    assert run["status"] == "finished"
    assert [stage["name"] for stage in run["stages"]] == ["proxy", "generator"]
    facts = json.loads((folder / "generator.json").read_text())["facts"]
    assert facts["weights"]["contrastive"] == 0.1
    assert facts["proxy_r2"]["brightness"] > 0.5 > facts["proxy_r2"]["noise"]


def test_a_proxy_that_reads_nothing_stops_the_training(model: Path, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", readable=False)
    out = tmp_path / "generator"
    with pytest.raises(
        TrainingError, match=r"reads no feature with R² ≥ 0.5 on \d+ held-out cells; best: .*weights.morphology=0"
    ):
        train_generator(corpus, out, model, settings("epochs.proxy=4"))
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "failed"
    assert not (out / "generator.safetensors").exists()


def test_between_states_the_proxy_reads_every_training_cell(corpus: Path, model: Path, tmp_path: Path) -> None:
    """The targets of pairs are few, and a reader that has seen no others reads nothing on cells that are held out."""
    how = PairSettings(solver=SolverSettings(tolerance=1e-3), cost=CostSettings(n_components=3), top_k=2)
    change = {"name": "to immune", "key": "cell_type", "source": "tumour", "target": "immune"}
    pairs = pair(corpus, [change], tmp_path / "pairs", settings=how)
    n_targets = pairs.table["target_row"].nunique()
    flow = settings("task=transition", "coupling=ot", "weights.contrastive=0", "weights.adversarial=0")
    folder = train_generator(corpus, tmp_path / "generator", model, flow, pairs=pairs.path)
    seen = [
        line["rows"]
        for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        if line["kind"] == "step" and line["stage"] == "proxy" and line["epoch"] == 1
    ]
    assert sum(seen) > 2 * n_targets
    assert json.loads((folder / "generator.json").read_text())["facts"]["proxy_r2"]["brightness"] > 0.5
