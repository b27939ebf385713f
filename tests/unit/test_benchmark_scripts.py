"""The scripts that docs name as the source of numbers can still be started."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


def test_there_are_scripts() -> None:
    assert {path.name for path in SCRIPTS} >= {"build.py", "generation.py", "model.py"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(path.parent))  # as `python benchmarks/NAME.py` has it
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    try:
        spec.loader.exec_module(module)
        assert module.__doc__
    finally:
        for name in {one.stem for one in SCRIPTS} - before:
            sys.modules.pop(name, None)
