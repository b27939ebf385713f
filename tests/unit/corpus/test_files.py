"""A file or folder is whole or absent, and JSON that is damaged says so."""

from pathlib import Path

import pytest

from spatia.corpus.files import put_in_place, read_json, whole_file, whole_folder
from spatia.errors import SettingsError


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


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_that_is_broken_off_leaves_the_older_one(tmp_path: Path, error: type[BaseException]) -> None:
    def write(text: str, error: type[BaseException] | None = None) -> None:
        with whole_file(tmp_path / "folder" / "result.txt") as aside:
            aside.write_text(text)
            if error is not None:
                raise error

    write("old")
    with pytest.raises(error):
        write("half", error)
    assert [(path.name, path.read_text()) for path in (tmp_path / "folder").iterdir()] == [("result.txt", "old")]


def test_what_a_killed_program_left_of_the_older_folder_is_removed(tmp_path: Path) -> None:
    for name in ("store", ".store.old", ".store.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    put_in_place(tmp_path / ".store.part", tmp_path / "store")
    assert [path.name for path in tmp_path.rglob("*")] == ["store", ".store.part"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"no such file\. Do this."),
        ("{,}", r"not valid JSON .* Do this."),
        ("[1]", "expected a JSON object, .*, found list"),
    ],
)
def test_json_that_cannot_be_read_says_why(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "facts.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=rf"facts\.json: {said}"):
        read_json(path, SettingsError, remedy="Do this.")
