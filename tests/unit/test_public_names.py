"""`import spatia` is cheap, and each public name is there when it is used."""

import pkgutil
import re
import subprocess
import sys

import pytest

import spatia

HEAVY = [
    "numpy",
    "pandas",
    "scipy",
    "anndata",
    "zarr",
    "dask",
    "spatialdata",
    "torch",
    "matplotlib",
    "pyarrow",
    "skimage",
    "tifffile",
]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, spatia; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == "[]"


@pytest.mark.parametrize("name", spatia.__all__)
def test_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(spatia, name) is not None
    assert name in dir(spatia)


def test_every_public_name_has_its_module() -> None:
    assert sorted(spatia.__all__) == sorted(spatia._DEFINED_IN)


def test_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute .biuld.; public names: .*read_slide"):
        spatia.biuld  # noqa: B018


def test_public_names_do_not_hide_a_package() -> None:
    # Importing spatia.simulate sets the attribute `simulate` to the package: a function of that name would vanish.
    packages = {module.name for module in pkgutil.iter_modules(spatia.__path__)}
    assert "simulate" in packages
    assert not packages & set(spatia.__all__)


def test_version_is_the_installed_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", spatia.__version__)
