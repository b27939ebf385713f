"""A generator and a section that it did not learn from: what is told of its cells is moved, always in the same way."""

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.model_setup import save_small_model

import spatia
from spatia import Corpus, Generator, generate_cells, train_generator
from spatia.inference.asked import Asked
from spatia.inference.conditions import cell_conditions
from spatia.screening.drawing import CellEncoder
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.settings import read_settings_of

GENES = ("EPCAM", "CD3E", "ACTB")
SECTIONS = (
    TinySection("first", 1, GENES, n_windows=12, features=("nucleus.area",)),
    TinySection("second", 4, GENES, n_windows=12, features=("nucleus.area",)),
)
SETTINGS = [
    "accelerator=cpu",
    "epochs.generator=1",
    "batch=32",
    "weights.morphology=0",
    "network.kind=transformer",
    "network.width=16",
    "network.layers=2",
    "network.heads=2",
    "network.patch_px=2",
    "network.stem=4",
    "solver.evaluations=3",
    "sample_rows=0",
    "split=donor",
    "conditions=[genes,niche,tissue]",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", SECTIONS)
    n = {name: section.entry.n_cells for name, section in Corpus.open(path).sections.items()}
    parts = {"train": {"first": [[0, n["first"]]]}, "margin": {}, "test": {"second": [[0, n["second"]]]}}
    split = {"name": "donor", "by": "section", "seed": 0, "settings": {}, "parts": parts}
    (path / "splits" / "donor.json").write_text(json.dumps(split))
    return path


@pytest.fixture(scope="module")
def generator(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    model = save_small_model(Corpus.open(corpus), folder / "model")
    settings = read_settings_of(GeneratorSettings, "spatia train-generator", overrides=SETTINGS)
    return train_generator(corpus, folder / "generator", model, settings)


def drawn(corpus: Path, generator: Path, out: Path, **more: Any) -> ad.AnnData:
    return ad.read_zarr(generate_cells(corpus, generator, out, device="cpu", **more))


def test_a_section_that_was_not_learnt_from_is_moved_and_the_images_say_so(
    corpus: Path, generator: Path, tmp_path: Path
) -> None:
    maker = Generator.load(generator, device="cpu")
    assert [one.sample for one in maker.references] == ["first"]
    table = drawn(corpus, generator, tmp_path / "all.zarr")
    aligned = table.uns["spatia"]["aligned"]
    assert list(aligned) == ["second"]
    assert aligned["second"]["to"] == "first"
    as_it_is = drawn(corpus, generator, tmp_path / "as_it_is.zarr", align=False)
    assert not as_it_is.uns["spatia"]["aligned"]
    same = (table.obsm["single_cell_images"] == as_it_is.obsm["single_cell_images"]).all(axis=(1, 2, 3))
    first = (table.obs["sample"] == "first").to_numpy()
    assert same[first].all()  # what was learnt from stays where it lay
    assert not same[~first].all()


def test_it_is_moved_alike_whatever_is_drawn(corpus: Path, generator: Path, tmp_path: Path) -> None:
    table = drawn(corpus, generator, tmp_path / "all.zarr")
    ids = ["second-3", "second-40"]
    some = drawn(corpus, generator, tmp_path / "some.zarr", cells=ids)
    expected = table.obsm["single_cell_images"][table.obs["cell_id"].isin(ids).to_numpy()]
    assert np.array_equal(some.obsm["single_cell_images"], expected)


def test_its_cells_come_nearer_to_those_of_training(corpus: Path, generator: Path) -> None:
    maker = Generator.load(generator, device="cpu")
    rows = {name: np.arange(section.entry.n_cells) for name, section in Corpus.open(corpus).sections.items()}
    mean: dict[bool, list[dict[str, torch.Tensor]]] = {}
    for align in (True, False):
        references = maker.references if align else ()
        with cell_conditions(Corpus.open(corpus), maker.model, device="cpu", references=references) as told:
            mean[align] = []
            for number, name in enumerate(rows):
                values = told.read(torch.full((len(rows[name]),), number), torch.from_numpy(rows[name]))
                mean[align].append({level: value.mean(dim=0) for level, value in values.items()})
    for level in ("genes", "niche", "tissue"):
        apart = {align: float((second[level] - first[level]).norm()) for align, (first, second) in mean.items()}
        assert apart[True] < 0.7 * apart[False], level


def test_a_cell_that_a_screen_leaves_unchanged_is_told_as_it_was(
    corpus: Path, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Asked, Asked]] = []
    real = CellEncoder.__call__

    def spied(self: CellEncoder, cells: np.ndarray, counts: Any) -> Asked:
        found = real(self, cells, counts)
        told.append((self.base, found))
        assert self.shifts["genes"].any()
        return found

    monkeypatch.setattr(CellEncoder, "__call__", spied)
    spatia.screen(corpus, generator, device="cpu", split="donor", limit=6, draws=1, evaluations=3, read="image")
    base, unchanged = told[0]  # the first to be drawn are the cells with their own counts
    for name in ("genes", "niche", "tissue"):
        torch.testing.assert_close(unchanged.conditions[name], base.conditions[name], atol=1e-5, rtol=1e-5)
