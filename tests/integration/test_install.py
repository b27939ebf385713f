"""What a fresh machine runs: the scripts are sound and agree with each other. The installation itself is CI's first step."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def planned(*arguments: str) -> list[str]:
    """Return the commands that `make` would run."""
    # Under `make test` the outer make speaks to this one through the environment, and both would print where they are.
    alone = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    finished = subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    )
    return finished.stdout.splitlines()


def test_readme_opens_with_the_two_commands() -> None:
    first_block = re.search(r"(?:^    \S.*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert first_block is not None
    commands = [line.split("#")[0].strip() for line in first_block.group().splitlines()]
    assert commands == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("target", ["demo", "test", "check"])
def test_make_installs_before_it_runs(target: str, tmp_path: Path) -> None:
    plan = planned(target, f"VENV={tmp_path / 'venv'}")
    assert plan[0].startswith(".ci/install ")
    assert len(plan) > 2


def test_an_environment_that_is_up_to_date_is_not_installed_again(tmp_path: Path) -> None:
    (tmp_path / ".installed-dev").touch()
    for target in ("demo", "test"):
        assert not [line for line in planned(target, f"VENV={tmp_path}") if ".ci/install" in line]


def test_without_a_fitting_python_one_line_says_which(tmp_path: Path) -> None:
    finished = subprocess.run(
        [ROOT / ".ci" / "install", tmp_path / "venv", "all"],
        cwd=ROOT,
        env=os.environ | {"PYTHON": str(tmp_path / "no-python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode != 0
    assert finished.stderr.startswith("spatia needs Python 3.11, 3.12 or 3.13")


def test_torch_is_installed_at_the_version_that_is_pinned() -> None:
    first = re.search(r"torch==[\d.]+", (ROOT / ".ci" / "install").read_text())
    assert first is not None
    assert first.group() in (ROOT / "constraints.txt").read_text().splitlines()


def test_constraints_bring_no_cuda() -> None:
    assert not re.findall(r"^(?:nvidia|cuda|triton)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
