"""Labels of some cells: from a column or a table, joined by id, or refused with the reason."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from spatia.corpus.corpus import Corpus
from spatia.corpus.given_cells import GivenCells
from spatia.errors import SettingsError
from spatia.pipeline import labels
from spatia.pipeline.cells import cell_ids, embedded_cells
from spatia.pipeline.labels import read_labels, require_known_cells, require_known_sections
from spatia.pipeline.settings import RunSettings
from spatia.pipeline.steps import Job
from spatia.readout.alignment import Shift


def job_with(tiny: Any, out: Path, **settings: Any) -> Job:
    """Return a job on the tiny corpus with its cells embedded."""
    (out / "corpus").symlink_to(tiny.path)
    sections = Corpus.open(tiny.path).sections.values()
    obs = pd.concat([section.cells.obs() for section in sections])
    obs["sample"] = np.concatenate([[section.sample] * section.entry.n_cells for section in sections])
    obs.index = [f"{sample}:{cell}" for sample, cell in zip(obs["sample"], obs.index, strict=True)]
    ad.AnnData(np.zeros((len(obs), 1), np.float32), obs=obs[["sample"]].assign(mine="a")).write_h5ad(out / "cells.h5ad")
    return Job(out, (), RunSettings(**settings))


def table_of(job: Job, path: Path, **columns: Any) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_a_table_is_joined_by_id_and_section(tiny_corpus: Any, tmp_path: Path) -> None:
    job = job_with(tiny_corpus, tmp_path, annotations=tmp_path / "labels.csv")
    cells, ids = embedded_cells(job), cell_ids(job.corpus)
    wanted = [0, 5, len(ids) - 1]
    table_of(job, tmp_path / "labels.csv", cell_id=ids[wanted], sample=cells.sample[wanted], label=["x", "y", "z"])
    found = read_labels(cells, job)
    assert found[wanted].tolist() == ["x", "y", "z"]
    assert found.notna().sum() == 3


def test_an_id_of_two_sections_needs_the_section(
    tiny_corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(tiny_corpus, tmp_path, annotations=tmp_path / "labels.csv")
    ids = cell_ids(job.corpus)
    ids[-1] = ids[0]
    monkeypatch.setattr(labels, "cell_ids", lambda corpus: ids)
    table_of(job, tmp_path / "labels.csv", cell_id=ids[[0, 1]], label=["x", "y"])
    with pytest.raises(SettingsError, match="is a cell of two sections"):
        read_labels(embedded_cells(job), job)
    table_of(job, tmp_path / "labels.csv", cell_id=ids[[1]], label=["y"])
    assert read_labels(embedded_cells(job), job).notna().sum() == 1


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"cell_id": ["a"], "kind": ["x"]}, "no column label; found cell_id, kind"),
        ({"cell_id": ["a", "a"], "label": ["x", "y"]}, "cell_id 'a' stands twice"),
        ({"cell_id": ["nobody"], "label": ["x"]}, r"none of its cells \(first: 'nobody'\) is a cell of the slide"),
    ],
)
def test_a_wrong_table_is_refused(tiny_corpus: Any, tmp_path: Path, columns: dict[str, Any], complaint: str) -> None:
    job = job_with(tiny_corpus, tmp_path, annotations=tmp_path / "labels.csv")
    table_of(job, tmp_path / "labels.csv", **columns)
    with pytest.raises(SettingsError, match=complaint):
        read_labels(embedded_cells(job), job)


def test_an_unknown_column_lists_the_columns(tiny_corpus: Any, tmp_path: Path) -> None:
    job = job_with(tiny_corpus, tmp_path, labels_key="cell_typ")
    with pytest.raises(SettingsError, match=r"'cell_typ': no such column\. The cells have: sample, mine"):
        read_labels(embedded_cells(job), job)


def test_rows_of_no_cell_are_counted(tiny_corpus: Any, tmp_path: Path) -> None:
    job, said = job_with(tiny_corpus, tmp_path, annotations=tmp_path / "labels.csv"), []
    job = replace(job, warn=said.append)
    cells, ids = embedded_cells(job), cell_ids(job.corpus)
    given = {"cell_id": [ids[0], "gone"], "sample": [cells.sample[0]] * 2, "label": ["x", "y"]}
    table_of(job, tmp_path / "labels.csv", **given)
    assert read_labels(cells, job).notna().sum() == 1
    assert "1 of its 2 rows (first: 'gone' of section" in said[0]
    assert "no cell of the slide; " in said[0]
    table_of(job, tmp_path / "labels.csv", **{name: values[:1] for name, values in given.items()})
    read_labels(cells, job)
    assert len(said) == 1


def test_labels_of_a_section_that_is_not_there_are_refused() -> None:
    given = pd.DataFrame({"cell_id": ["1", "2", "3"], "sample": ["a", "section_2", "section_2"], "label": "x"})
    with pytest.raises(
        SettingsError, match=r"2 of 3 rows are of the sample 'section_2', which is no section .* Sections: a, b"
    ):
        require_known_sections(GivenCells.of(given, "labels.csv"), ["a", "b"])
    require_known_sections(GivenCells.of(given.iloc[:1], "labels.csv"), ["a", "b"])
    require_known_sections(GivenCells.of(given.drop(columns="sample"), "labels.csv"), ["a"])


def test_sections_without_labels_are_named(tiny_corpus: Any, tmp_path: Path) -> None:
    cells = embedded_cells(job_with(tiny_corpus, tmp_path, labels_key="mine"))
    first, *others = pd.unique(cells.sample)
    found = SimpleNamespace(aligned={others[0]: Shift(first, 0.9, {}, {})})
    said = labels._sections(found, cells, cells.sample == first)
    assert said.startswith(f"Labels are in {first} alone")
    assert said.endswith(f"lie: {others[0]} to {first}.")
    assert labels._sections(found, cells, np.ones(len(cells.sample), bool)) == ""


def test_labels_of_no_cell_of_the_slide_are_refused_before_the_training(tiny_corpus: Any, tmp_path: Path) -> None:
    job = job_with(tiny_corpus, tmp_path, annotations=tmp_path / "labels.csv")
    table_of(job, tmp_path / "labels.csv", cell_id=["elsewhere"], label=["x"])
    with pytest.raises(SettingsError, match=r"none of its cells \(first: 'elsewhere'\) is a cell of the slide"):
        require_known_cells(job)
    table_of(job, tmp_path / "labels.csv", cell_id=["elsewhere", cell_ids(job.corpus)[0]], label=["x", "y"])
    require_known_cells(job)
