"""What the stages load: their parts of the corpus, and what is missing there."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.conftest import SECTIONS, write_corpus

from spatia import Corpus
from spatia.training.settings import read_settings
from spatia.training.stages import make_stages


def split_corpus(folder: Path, parts: Callable[[int], dict[str, list[list[int]]]]) -> Path:
    """Write a corpus whose split ``block`` has these rows of every section, given where its training part ended."""
    path = write_corpus(folder / "corpus", SECTIONS, px={"cell": 16, "niche": 16, "tissue": 16})
    file = path / "splits" / "block.json"
    split = json.loads(file.read_text())
    for section, [[_, end]] in list(split["parts"]["train"].items()):
        for part, ranges in parts(end).items():
            split["parts"].setdefault(part, {})[section] = ranges
    file.write_text(json.dumps(split))
    return path


def test_a_part_without_a_whole_window_leaves_the_second_stage_unvalidated_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = split_corpus(tmp_path, lambda end: {"validation": [[0, 2]], "train": [[2, end]]})
    cells, context = make_stages([Corpus.open(path)], read_settings(None, ["split=block"]))
    assert sum(len(batch) for batch in cells.validation(0, 1)) == 2 * len(SECTIONS)
    with caplog.at_level(logging.WARNING, logger="spatia"):
        assert context.validation(0, 1) is None
    assert "no tissue window lies in part 'validation'" in caplog.text


def test_a_training_part_without_a_whole_window_leaves_the_second_stage_out_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = split_corpus(tmp_path, lambda _: {"train": [[0, 2]]})
    with caplog.at_level(logging.WARNING, logger="spatia"):
        stages = make_stages([Corpus.open(path)], read_settings(None, ["split=block"]))
    assert [stage.name for stage in stages] == ["cells"]
    assert "no tissue window lies whole in what is trained on" in caplog.text
