"""A generator and a section that it did not learn from: what is told of its cells is moved, always in the same way."""

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from tests.integration.small_runs import TINY_GENERATOR
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.model_setup import save_small_model

import spatia
from spatia import Corpus, Generator, generate_cells, train_generator
from spatia.config import read_settings_of
from spatia.inference.asked import Asked
from spatia.inference.conditions import cell_conditions
from spatia.screening.drawing import CellEncoder
from spatia.training.generator_settings import GeneratorSettings

GENES = ("EPCAM", "CD3E", "ACTB")
SECTIONS = (
    TinySection("first", 1, GENES, n_windows=44, features=("nucleus.area",)),
    TinySection("second", 4, GENES, n_windows=44, features=("nucleus.area",)),
)
SETTINGS = [
    *TINY_GENERATOR,
    "epochs.generator=1",
    "batch=32",
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
    ids = ["second-3", "second-400"]
    some = drawn(corpus, generator, tmp_path / "some.zarr", cells=ids)
    expected = table.obsm["single_cell_images"][table.obs["cell_id"].isin(ids).to_numpy()]
    assert np.array_equal(some.obsm["single_cell_images"], expected)


def test_what_is_told_of_its_cells_is_less_by_the_shift_and_nothing_else_is(corpus: Path, generator: Path) -> None:
    maker = Generator.load(generator, device="cpu")
    opened = Corpus.open(corpus)
    rows = {name: torch.arange(section.entry.n_cells) for name, section in opened.sections.items()}
    told: dict[bool, dict[str, dict[str, torch.Tensor]]] = {}
    for align in (True, False):
        references = maker.references if align else ()
        with cell_conditions(opened, maker.model, device="cpu", references=references) as conditions:
            told[align] = {
                name: conditions.read(torch.full_like(of, number), of) for number, (name, of) in enumerate(rows.items())
            }
            if align:
                shift = conditions.shifts["second"]
    assert list(told) == [True, False]
    for level in ("genes", "niche", "tissue"):
        assert torch.equal(told[True]["first"][level], told[False]["first"][level])
        less = told[False]["second"][level] - told[True]["second"][level]
        torch.testing.assert_close(less, torch.from_numpy(shift.of[level]).expand_as(less), atol=1e-5, rtol=0)
        assert shift.of[level].any(), level
    expected = maker.references[0].shift_of({level: one.numpy() for level, one in told[False]["second"].items()})
    for level, value in expected.of.items():
        np.testing.assert_allclose(shift.of[level], value, atol=1e-5)


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
    options = {"split": "donor", "limit": 6, "draws": 1, "evaluations": 3, "read": "image"}
    found = spatia.screen(corpus, generator, device="cpu", **options)
    assert found.facts["aligned"]["second"]["to"] == "first"
    base, unchanged = told[0]  # the first to be drawn are the cells with their own counts
    for name in ("genes", "niche", "tissue"):
        torch.testing.assert_close(unchanged.conditions[name], base.conditions[name], atol=1e-5, rtol=1e-5)


def test_a_screen_can_leave_sections_as_they_are(
    corpus: Path, generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = CellEncoder.__call__

    def spied(self: CellEncoder, cells: np.ndarray, counts: Any) -> Asked:
        assert not self.shifts["genes"].any()
        return real(self, cells, counts)

    monkeypatch.setattr(CellEncoder, "__call__", spied)
    options = {"split": "donor", "limit": 6, "draws": 1, "evaluations": 3, "read": "image"}
    assert spatia.screen(corpus, generator, device="cpu", align=False, **options).facts["aligned"] == {}
