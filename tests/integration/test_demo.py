"""`spatia demo` ends with a report and two pictures, and can be run again."""

import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pytest
from PIL import Image
from tests.integration.small_runs import BUDGET, ENVIRONMENT

pytestmark = pytest.mark.slow

SMALL = ("--cells", "400", "--no-benchmark", *BUDGET)


def demo(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spatia.cli.main", "-q", "demo", "-o", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("demo")
    return out, demo(out, *SMALL)


def test_every_step_is_told(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, finished = first
    assert finished.returncode == 0, finished.stderr
    verbs = [line.split()[0] for line in finished.stdout.splitlines()]
    assert verbs[:7] == ["simulate", "check", "build", "split", "draw", "train", "embed"]
    assert finished.stdout.splitlines()[-1] == f"report: {out / 'run' / 'report.html'}"


def test_the_corpus_holds_every_simulated_cell(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = first
    cells = anndata.read_zarr(out / "run" / "corpus" / "sections" / "demo" / "cells.zarr")
    assert cells.n_obs == 400
    assert cells.obsm["single_cell_images"].any(axis=(1, 2, 3)).all()


def test_the_report_shows_the_labels_that_the_demo_gives(
    first: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    html = (first[0] / "run" / "report.html").read_text()
    assert "run complete" in html
    assert "annotations.csv" in html
    assert "fibroblast" in html


def test_the_report_shows_drawn_cells(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = first
    html = (out / "run" / "report.html").read_text()
    assert "Synthetic images, of a generator that was trained on 64 images" in html
    assert "training cells to begin at" in html
    made = [anndata.read_zarr(out / "run" / name) for name in ("drawn.zarr", "drawn_from_real_cells.zarr")]
    assert all(store.uns["spatia"]["synthetic"] for store in made)
    assert made[0].obs_names.equals(made[1].obs_names)
    assert not np.array_equal(*(store.obsm["single_cell_images"] for store in made))
    pictures = np.load(out / "run" / "results" / "drawn.npz")
    assert pictures["from_real"].shape == pictures["began"].shape == pictures["generated"].shape


@pytest.mark.parametrize("picture", ["slide.png", "crops.png"])
def test_the_pictures_show_something(first: tuple[Path, subprocess.CompletedProcess[str]], picture: str) -> None:
    out, _ = first
    with Image.open(out / picture) as image:
        assert min(image.size) > 300
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 1000


def test_a_second_run_keeps_what_is_there(first: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, _ = first
    image = next((out / "slide" / "morphology_focus").iterdir())
    kept = (image, out / "run" / "corpus" / "corpus.json", out / "run" / "model" / "model.safetensors")
    before = [path.stat().st_mtime_ns for path in kept]
    again = demo(out, *SMALL)
    assert again.returncode == 0, again.stderr
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_other_settings_do_not_overwrite_an_earlier_demo(
    first: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = first
    finished = demo(out, "--cells", "500")
    assert finished.returncode == 2
    assert "simulated with other settings" in finished.stderr
