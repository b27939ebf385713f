"""Slides that tasks of a process share: opened once, their tables freed when they are on disk."""

from pathlib import Path

import pytest

from spatia import keys
from spatia.corpus import slides
from spatia.io.source import Source
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate


@pytest.fixture
def source(tmp_path: Path) -> Source:
    simulate(tmp_path / "slide", SimulationSettings(n_cells=60, um_per_px=0.85, transcripts=False))
    return Source("slide", tmp_path / "slide")


def test_a_slide_without_its_table_is_opened_anew_only_where_the_table_is_needed(source: Source) -> None:
    first = slides.opened(source, table=True)
    try:
        assert slides.opened(source) is first
        slides.let_go_of_table(source)
        assert keys.TABLE not in first.tables
        assert slides.opened(source) is first
        again = slides.opened(source, table=True)
        assert again is not first
        assert again.tables[keys.TABLE].n_obs == 60
    finally:
        slides.close(source)


def test_letting_go_of_the_table_of_a_slide_that_is_not_open_does_nothing(source: Source) -> None:
    slides.let_go_of_table(source)
    assert slides.opened(source).tables[keys.TABLE].n_obs == 60
    slides.close(source)
