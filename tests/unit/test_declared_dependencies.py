"""What the package imports is what pyproject.toml declares, so that a fresh machine has it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def distribution_name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra, wanted in project["optional-dependencies"].items():
        requirements += [] if extra == "dev" else wanted
    return {distribution_name(requirement) for requirement in requirements}


def imported_packages() -> dict[str, Path]:
    """Return each top-level package that src imports, with a file that does."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0]: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[node.module.split(".")[0]] = path
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names and name != "spatia"}


def test_every_import_is_declared(declared: set[str]) -> None:
    providers = packages_distributions()
    undeclared = {
        name: path.name
        for name, path in imported_packages().items()
        if not {distribution_name(provider) for provider in providers.get(name, [name])} & declared
    }
    assert not undeclared, f"imported but not in pyproject.toml: {undeclared}"


def test_constraints_pin_everything_declared(declared: set[str]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {distribution_name(line) for line in lines if line and not line.startswith("#")}
    assert declared - {"spatia"} <= pinned
