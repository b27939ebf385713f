"""The import contracts hold, and would notice if they did not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts on the package below ``folder``."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", folder / "pyproject.toml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src" / "spatia", tmp_path / "src" / "spatia", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold(checkout: Path) -> None:
    finished = lint_imports(checkout)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("io/read.py", "import torch", "spatia.io is not allowed to import torch"),
        ("corpus/planted.py", "import torch", "spatia.corpus is not allowed to import torch"),
        ("io/read.py", "import spatia.corpus", "spatia.io is not allowed to import spatia.corpus"),
        ("corpus/planted.py", "import spatia.simulate", "spatia.corpus is not allowed to import spatia.simulate"),
        ("keys.py", "import spatia.io", "spatia.keys is not allowed to import spatia.io"),
        ("newcomer/__init__.py", "", "not listed as layers"),
    ],
)
def test_a_planted_violation_is_found(checkout: Path, file: str, line: str, complaint: str) -> None:
    path = checkout / "src" / "spatia" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    finished = lint_imports(checkout)
    assert finished.returncode == 1
    assert complaint in " ".join(finished.stdout.split())
