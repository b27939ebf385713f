"""A missing extra names itself; a broken package is not mistaken for a missing one."""

import json
import sys
from pathlib import Path

import pytest

from spatia.errors import MissingExtraError
from spatia.extras import require


def test_returns_the_module() -> None:
    assert require("json", "io") is json


def test_missing_package_gives_the_pip_line() -> None:
    with pytest.raises(MissingExtraError, match=r"'not_a_package'.*pip install \"spatia\[io\]\""):
        require("not_a_package.part", "io")


def test_broken_package_keeps_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_on_import.py").write_text("import its_own_missing_part\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_on_import", raising=False)
    with pytest.raises(ModuleNotFoundError, match="its_own_missing_part"):
        require("broken_on_import", "io")
