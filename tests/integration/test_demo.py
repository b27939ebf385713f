"""`spatia demo` ends with a verified corpus and two pictures, and can be run again."""

import subprocess
import sys
from pathlib import Path

import anndata
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def demo(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spatia.cli.main", "-q", "demo", "-o", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("demo")
    return out, demo(out, "--cells", "400")


def test_every_step_is_told_and_nothing_else_said(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, finished = first
    assert finished.returncode == 0, finished.stderr
    verbs = [line.split()[0] for line in finished.stdout.splitlines()[:6]]
    assert verbs == ["simulate", "check", "draw", "build", "verify", "draw"]
    assert finished.stderr == ""


def test_the_corpus_holds_every_simulated_cell(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = first
    cells = anndata.read_zarr(out / "corpus" / "sections" / "demo" / "cells.zarr")
    assert cells.n_obs == 400
    assert cells.obsm["single_cell_images"].any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("picture", ["slide.png", "crops.png"])
def test_the_pictures_show_something(first: tuple[Path, subprocess.CompletedProcess[str]], picture: str) -> None:
    out, _ = first
    with Image.open(out / picture) as image:
        assert min(image.size) > 300
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 1000


def test_a_second_run_keeps_what_is_there(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = first
    image = next((out / "slide" / "morphology_focus").iterdir())
    before = image.stat().st_mtime_ns, (out / "corpus" / "corpus.json").read_bytes()
    assert demo(out, "--cells", "400").returncode == 0
    assert (image.stat().st_mtime_ns, (out / "corpus" / "corpus.json").read_bytes()) == before


def test_other_settings_do_not_overwrite_an_earlier_demo(
    first: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = first
    finished = demo(out, "--cells", "500")
    assert finished.returncode == 2
    assert "simulated with other settings" in finished.stderr
