"""``spatia evaluate-generation`` on a simulated slide: files, tables, the true counterfactual, and refusals in one line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.dataset import DataSet
from spatia.bench.generators.copy_control import COPY_CONTROL
from spatia.bench.generators.generator import GenerationProblem, KnownTransition, generate
from spatia.bench.generators.nearest_cell import NEAREST_CELL
from spatia.cli.main import app
from spatia.simulate.counterfactual import counterfactual
from spatia.tasks.cells import write_cells
from spatia.tasks.counterfactual_error import _to_corpus

pytestmark = pytest.mark.filterwarnings("ignore:Transforming to str index")
NAME = "epithelial→mesenchymal"
QUICK = ("--resamples", "20")


def spatia(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def cells(corpus: Path) -> BenchCells:
    return load_cells(DataSet(name="simulated", corpus=corpus))


@pytest.fixture(scope="module")
def truth(slide: Path, cells: BenchCells) -> pd.DataFrame:
    table = pd.read_parquet(slide / "truth" / "cells.parquet").set_index("cell_id")
    return table.loc[cells.cell_ids]


@pytest.fixture(scope="module")
def problem(cells: BenchCells, truth: pd.DataFrame) -> GenerationProblem:
    """The lower half of the tumour cells by EMT become the upper half; forty of them are drawn."""
    tumour, emt = (truth["type"] == "tumour").to_numpy(), truth["state_emt"].to_numpy()
    middle = np.median(emt[tumour])
    low, high = (np.flatnonzero(tumour & side & cells.usable) for side in (emt < middle, emt >= middle))
    transition = KnownTransition(NAME, low[40:], high)
    return GenerationProblem(cells, np.sort(np.concatenate([low[40:], high])), low[:40], transition=transition)


@pytest.fixture(scope="module")
def states(problem: GenerationProblem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert problem.transition is not None
    path = tmp_path_factory.mktemp("states") / "states.csv"
    low = np.concatenate([problem.wanted, problem.transition.sources])
    rows = {"epithelial": low, "mesenchymal": problem.transition.targets}
    tables = [pd.DataFrame({"cell_id": problem.cells.cell_ids[at], "state": name}) for name, at in rows.items()]
    pd.concat(tables).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_a_transition_is_compared_with_its_true_counterfactual(
    corpus: Path, slide: Path, problem: GenerationProblem, states: Path, tmp_path: Path
) -> None:
    level = problem.cells.corpus.levels["cell"]
    ids = problem.cells.cell_ids[problem.wanted].tolist()
    drawn = counterfactual(slide, "emt: 0→1", ids, size_um=level.size_um, size_px=level.px)
    order = pd.Index(drawn.obs_names).get_indexer(ids)
    section = problem.cells.corpus.section("s1")
    best = generate(COPY_CONTROL, problem)  # the true pictures in the place of copies
    best.obsm["single_cell_images"] = _to_corpus(drawn, "images_counterfactual", section, section.entry.channels)[order]
    best.uns["spatia"]["generator"] = "the truth"
    stores = {"truth": best, "nearest": generate(NEAREST_CELL, problem)}
    found = {}
    for name, table in stores.items():
        write_cells(table, tmp_path / f"{name}.zarr")
        arguments = ["--corpus", corpus, "-o", tmp_path / name, "--states", states, "--state-column", "state", *QUICK]
        arguments += ["--slide", f"s1={slide}", "--counterfactual", f"{NAME}=emt: 0→1", "--json"]
        finished = spatia("evaluate-generation", tmp_path / f"{name}.zarr", *arguments)
        assert finished.exit_code == 0, finished.stderr or finished.exception
        found[name] = json.loads(finished.stdout)
        assert found[name] == json.loads((tmp_path / name / "evaluation.json").read_text())
        assert (tmp_path / name / "generation.png").read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_parquet(tmp_path / name / "counterfactual_cells.parquet")) == 80
        assert NAME in (tmp_path / name / "evaluation.md").read_text()
    perfect, nearest = (found[name]["counterfactual"][0] for name in stores)
    truth_row, nearest_row = perfect["rows"]["generated"], nearest["rows"]["generated"]
    unchanged = perfect["rows"]["source cells, unchanged"]
    for error in ("pixel_rmse", "pixel_rmse_in_cell", "morphology_error", "state_error"):
        assert truth_row[error]["value"] == pytest.approx(0, abs=1e-9)
        assert min(unchanged[error]["value"], nearest_row[error]["value"]) > 0
    assert truth_row["shift_correlation"]["value"] == pytest.approx(1)
    assert truth_row["effect_correlation"]["value"] == pytest.approx(1)
    assert unchanged["shift_correlation"]["value"] == unchanged["effect_correlation"]["value"] == 0
    assert perfect["factual_rmse"] < 0.5
    assert not any("these the slides" in text for text in found["truth"]["warnings"])
    assert found["nearest"]["groups"][0]["memorisation"]["pixels"]["copies"]["value"] is not None
    agreement = found["truth"]["agreement_with_masks"]
    assert agreement["nucleus_area_um2"] > 0.7


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--slide", "s1"], "expected SECTION=FOLDER"),
        (["--counterfactual", "other=emt", "--slide", "s1=x"], "no transition 'other'"),
        (["--counterfactual", f"{NAME}=emt"], "No simulated slide is named for section 's1'"),
        (["--split", "none"], "no split 'none'"),
        (["--states", "nothing.csv"], "no such file"),
        (["--states", "no_such_column"], "no column 'no_such_column'"),
        (["--inception", "weights.pth"], "pickled weights are never read"),
        (["--resamples", "-1"], "resamples is -1"),
        (["--device", "nowhere"], "device 'nowhere' is unknown; expected auto, cpu"),
        ([], "no real cells of the target state are known"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    corpus: Path, problem: GenerationProblem, tmp_path: Path, extra: list[str], message: str
) -> None:
    write_cells(generate(COPY_CONTROL, problem), tmp_path / "copy.zarr")
    finished = spatia("evaluate-generation", tmp_path / "copy.zarr", "--corpus", corpus, "-o", tmp_path / "out", *extra)
    assert finished.exit_code == 2, finished.exception
    assert message in " ".join(finished.stderr.split())
    assert not (tmp_path / "out" / "evaluation.json").exists()
