"""What the package imports is what pyproject.toml declares, so that a fresh machine has it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def distribution_name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def declared() -> set[str]:
    requirements = list(project()["dependencies"])
    for extra, wanted in project()["optional-dependencies"].items():
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


def imported_on_import(module: str) -> dict[str, str]:
    """Return each package outside the standard library that importing ``module`` imports, with the module that names it."""
    found: dict[str, str] = {}
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        path = ROOT / "src" / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for node in ast.parse(path.read_text()).body:  # the top of the module only: not functions, not TYPE_CHECKING
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names += [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for imported in names:
                if imported.startswith("spatia."):
                    waiting.append(imported)
                else:
                    found.setdefault(imported.split(".")[0], name)
    return {name: where for name, where in found.items() if name not in sys.stdlib_module_names and name != "spatia"}


@pytest.mark.parametrize(
    "module",
    [
        "spatia.cli.main",
        "spatia.corpus.corpus",
        "spatia.inference.embed",
        "spatia.inference.generate",
        "spatia.inference.model",
        "spatia.pairing.pair",
        "spatia.training.generator_train",
        "spatia.training.train",
        *sorted(f"spatia.data.{path.stem}" for path in (ROOT / "src/spatia/data").glob("[a-z]*.py")),
    ],
)
def test_reading_a_corpus_and_training_need_the_core_only(module: str) -> None:
    core = {distribution_name(line) for line in project()["dependencies"]}
    providers = packages_distributions()
    beyond = {
        name: where
        for name, where in imported_on_import(module).items()
        if not {distribution_name(provider) for provider in providers.get(name, [name])} & core
    }
    assert not beyond, f"{module} needs an extra: {beyond}"
