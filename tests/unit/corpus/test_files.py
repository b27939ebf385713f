"""A folder is whole or absent."""

from pathlib import Path

import pytest

from spatia.corpus.files import whole_folder


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with whole_folder(tmp_path / "result") as aside:
            (aside / f"{content}.txt").write_text(content)
            assert not (tmp_path / "result" / f"{content}.txt").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["result", "new.txt"]


def break_off(folder: Path, error: type[BaseException]) -> None:
    with whole_folder(folder) as aside:
        (aside / "half.txt").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_broken_off_leaves_the_older_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with whole_folder(tmp_path / "result") as aside:
        (aside / "old.txt").write_text("old")
    with pytest.raises(error):
        break_off(tmp_path / "result", error)
    assert [path.name for path in tmp_path.rglob("*")] == ["result", "old.txt"]
