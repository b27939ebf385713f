"""The corpus of a run holds the sections of this run that stand, and no other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spatia.corpus.build import BuildResult, SectionResult
from spatia.errors import CorpusError
from spatia.io.source import Source
from spatia.pipeline import slide
from spatia.pipeline.settings import RunSettings
from spatia.pipeline.steps import Job

SOURCES = (Source("a", Path("a")), Source("b", Path("b")))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Corpora that were registered anew."""
    found: list[Path] = []
    monkeypatch.setattr(slide, "register_sections", lambda corpus, settings: found.append(corpus))
    return found


def built(job: Job, monkeypatch: pytest.MonkeyPatch, **status: Any) -> str:
    """Build with what became of each section given; every section of an earlier run stands."""
    results = tuple(SectionResult(sample, one, "why") for sample, one in status.items())
    monkeypatch.setattr(slide, "build", lambda sources, out, *others, **more: BuildResult(out, results))
    for name in ("a", "b"):
        (job.corpus / "sections" / name).mkdir(parents=True, exist_ok=True)
    (job.corpus / "splits").mkdir(exist_ok=True)
    return slide.build_corpus(job)


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_a_section_that_is_left_out_now_is_not_in_the_corpus_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: list[Path], status: str
) -> None:
    left_out: dict[str, str] = {}
    job = Job(tmp_path / "run", SOURCES, RunSettings(), leave_out=left_out.__setitem__)
    beside = tmp_path / "b"
    beside.mkdir()
    assert built(job, monkeypatch, a="unchanged", b=status).startswith("1 sections")
    assert [one.name for one in (job.corpus / "sections").iterdir()] == ["a"]
    assert not (job.corpus / "splits").exists()
    assert registered == [job.corpus]
    assert left_out == {"b": status}
    assert beside.exists()


def test_a_corpus_whose_sections_stand_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: list[Path]
) -> None:
    job = Job(tmp_path, SOURCES, RunSettings())
    built(job, monkeypatch, a="unchanged", b="built")
    assert (job.corpus / "splits").is_dir()
    assert not registered
    built(replace(job, sources=SOURCES[:1]), monkeypatch, a="unchanged")
    with pytest.raises(CorpusError, match="a: why"):
        built(job, monkeypatch, a="failed", b="refused")


def test_slides_seen_from_another_folder_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slides" / "one").mkdir(parents=True)
    (tmp_path / "slides" / "one" / "cells.csv").write_text("x")
    (tmp_path / "chosen.txt").write_text("1")
    (tmp_path / "other").mkdir()
    seen = []
    for folder, up in ((tmp_path, ""), (tmp_path / "other", "../")):
        monkeypatch.chdir(folder)
        source = Source("a", Path(f"{up}slides/one"), facts={"cells": f"{up}chosen.txt", "batch": "1"})
        seen.append(slide.slide_inputs(Job(tmp_path / "run", (source,), RunSettings())))
    assert seen[0] == seen[1]
    other = Source("a", Path("../slides/one"), facts={"cells": "../chosen.txt", "batch": "2"})
    assert slide.slide_inputs(Job(tmp_path / "run", (other,), RunSettings())) != seen[0]


def test_what_should_be_known_of_all_sections_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: list[Path]
) -> None:
    said: list[str] = []
    job = Job(tmp_path, SOURCES, RunSettings(), warn=said.append)
    results = (SectionResult("a", "built"), SectionResult("b", "built"))
    monkeypatch.setattr(slide, "build", lambda *given, **more: BuildResult(job.corpus, results, "genes go by two ids"))
    job.corpus.mkdir()
    slide.build_corpus(job)
    assert said == ["genes go by two ids"]
