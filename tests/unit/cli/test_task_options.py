"""Options that several commands read in the same way."""

from pathlib import Path

from spatia.cli.task_options import read_ids


def test_an_id_is_a_line_blanks_within_it_too(tmp_path: Path) -> None:
    path = tmp_path / "cells.txt"
    path.write_text("cell 1\r\n\n  0002  \nfov 3 / 7\n")
    assert read_ids(path, "--cells") == ["cell 1", "0002", "fov 3 / 7"]
    assert read_ids(None, "--cells") == []
