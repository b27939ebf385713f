"""The suite that needs no data, controls with one input shuffled, and several workers."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spatia.bench import suites
from spatia.bench.cells import load_cells
from spatia.bench.dataset import DataSet
from spatia.bench.drawing import DrawingPlan, run_drawing
from spatia.bench.generators.niches import NICHE
from spatia.bench.generators.registry import GENERATORS
from spatia.bench.methods.registry import chosen_methods
from spatia.bench.methods.spatia_model import trained_folder
from spatia.bench.permute import shuffled
from spatia.bench.protocols.registry import chosen_tasks
from spatia.bench.rows import RowStore
from spatia.bench.run import UNITS, Plan, run
from spatia.cli.main import app
from spatia.corpus.corpus import Corpus
from spatia.corpus.verify import verify
from spatia.log import logger
from spatia.training.settings import TrainSettings
from spatia.training.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[DataSet]:
    """The suite at its smallest: pairs of 250 cells, a cohort of four donors."""
    folder = tmp_path_factory.mktemp("suite")
    return [DataSet.read(path) for path in suites.suite_data(folder, suites.Size(250, 4, 120, 1))]


def test_the_suite_asks_every_task(data: list[DataSet]) -> None:
    cells = [load_cells(one) for one in data]
    unasked = [task.name for task in chosen_tasks(["all"]) if all(task.lacks(one) for one in cells)]
    assert not unasked
    assert [one.split for one in data] == ["donor", "block", "section", "donor"]
    panels = cells[2]
    assert 0 < (~panels.measured.all(axis=0)).sum() < panels.measured.shape[1]
    outcome = cells[3].labels.groupby(cells[3].donors)["inflamed"].agg(["min", "max"])
    assert (outcome["min"] == outcome["max"]).all()
    assert outcome["min"].sum() == 2


@pytest.mark.parametrize("what", ["images", "genes", "positions"])
def test_a_control_exchanges_one_input(data: list[DataSet], tmp_path: Path, what: str) -> None:
    one = data[0]
    copy = shuffled(one, what, tmp_path)  # type: ignore[arg-type]
    before, after = load_cells(one), load_cells(copy)
    verify(copy.corpus)  # the copy is a whole corpus, its files as its manifest says
    same = {
        "images": (before.images == after.images).all(axis=(1, 2, 3)).mean() > 0.5,
        "genes": not (before.counts != after.counts).nnz,
        "labels": before.cell_ids.tolist() == after.cell_ids.tolist(),
    }
    assert (
        same
        == {
            "images": {"images": False, "genes": True, "labels": True},
            "genes": {"images": True, "genes": False, "labels": True},
            "positions": {"images": False, "genes": False, "labels": False},
        }[what]
    )
    np.testing.assert_array_equal(before.position_um, after.position_um)
    # cells are whole: each has the counts it had, under its name, where names moved too
    if what == "positions":
        place = pd.Series(np.arange(len(before)), index=pd.MultiIndex.from_arrays([before.sample, before.cell_ids]))
        home = place.loc[list(zip(after.sample, after.cell_ids, strict=True))].to_numpy()
        assert not (before.counts[home] != after.counts).nnz
        assert before.labels["type"].to_numpy()[home].tolist() == after.labels["type"].tolist()
    for sample in before.corpus.sections:
        own = before.sample == sample
        assert before.counts[own].sum() == after.counts[own].sum()


def test_an_unknown_control_is_refused(data: list[DataSet], tmp_path: Path) -> None:
    words = ["bench", str(data[0].corpus), "-o", str(tmp_path / "out"), "--methods", "pca", "--control", "genes"]
    refused = CliRunner().invoke(app, [*words, "--control", "labels"])
    assert isinstance(refused.exception, SystemExit)
    assert "Unknown control 'labels'. Known: images, genes, positions" in refused.stderr
    assert not (tmp_path / "out").exists()  # before anything is read or copied


def test_shuffled_genes_tell_no_types(data: list[DataSet], tmp_path: Path) -> None:
    both = [data[0], shuffled(data[0], "genes", tmp_path)]
    plan = Plan(both, chosen_tasks(["annotation"]), chosen_methods(["pca"]), 1, "made up")
    rows = run(plan, tmp_path / "out")
    accuracy = rows[rows["metric"] == "macro-F1"].set_index("data")["value"]
    assert accuracy.iloc[0] > 2.5 * accuracy.iloc[1]


@pytest.mark.parametrize(
    ("what", "task", "method"),
    [("images", "annotation from image", "morphology"), ("positions", "neighbours to expression", "pca smoothed")],
)
def test_what_is_shuffled_tells_nothing_any_more(
    data: list[DataSet], tmp_path: Path, what: str, task: str, method: str
) -> None:
    both = [data[0], shuffled(data[0], what, tmp_path)]  # type: ignore[arg-type]
    rows = run(Plan(both, chosen_tasks([task]), chosen_methods([method]), 1, "made up"), tmp_path / "out")
    first = rows["metric"] == rows["metric"].iloc[0]
    before, after = rows[first].set_index("data")["value"]
    assert before > 0.05
    assert after < before / 2


def test_workers_give_the_same_rows_say_so_and_go_on(
    data: list[DataSet], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(
        data[:2], chosen_tasks(["clustering", "annotation"]), chosen_methods(["pca", "knn on pca"]), 1, "made up"
    )
    alone = run(plan, tmp_path / "alone")
    # rows of a worker that was killed before it handed them over
    half = Plan(data[:1], chosen_tasks(["clustering"]), plan.methods, 1, "made up")
    run(half, tmp_path / "several" / UNITS / "left")
    monkeypatch.setattr(logger, "level", logging.INFO)  # as the command line sets it
    together = run(Plan(**{**vars(plan), "workers": 2}), tmp_path / "several")
    said = capfd.readouterr().err
    assert "annotation, knn on pca: macro-F1" in said  # a quarter of an hour without a word would look like a hang
    key = ["task", "data", "method", "metric", "seed"]
    one, other = (rows.sort_values(key)[[*key, "value", "status"]].reset_index(drop=True) for rows in (alone, together))
    pd.testing.assert_frame_equal(one, other)
    assert not list((tmp_path / "several" / UNITS).glob("*/rows.parquet"))
    assert len(RowStore(tmp_path / "several").frame()) == len(alone)


def test_cells_are_drawn_in_the_same_rows(data: list[DataSet], tmp_path: Path) -> None:
    one = data[0]
    common = load_cells(one).labels["type"].value_counts().index[:2]
    one = one.model_copy(update={"transitions": ("→".join(common),)})
    model = trained_folder(tmp_path, Corpus.open(one.corpus), one.split_name(0), 0)
    brief = {"epochs": {"cells": 1, "context": 0}, "split": one.split_name(0)}
    train([one.corpus], model, TrainSettings.model_validate(brief))
    names = ("copy the control", "mean image", "nearest real cell", "ours")
    quick = ("weights.morphology=0", "sample_rows=0", "solver.evaluations=2")
    plan = DrawingPlan([GENERATORS[name] for name in names], images=32, most=40, settings=quick)
    rows = RowStore(tmp_path)
    run_drawing(one, [0], plan, rows, tmp_path, "made up")
    found = rows.frame()
    assert set(found["status"]) == {"ok"}, found.loc[found["status"] != "ok", "message"].unique()
    methods = {task: set(part["method"]) for task, part in found.groupby("task")}
    assert methods["expression-to-image"] == set(names[1:])
    assert methods[f"transition {one.transitions[0]}"] == set(names)
    assert "ours" in methods[NICHE]
    run_drawing(one, [0], plan, rows, tmp_path, "made up")  # what stands there is not drawn again
    pd.testing.assert_frame_equal(rows.frame(), found)


def test_the_command_says_what_there_is_and_writes_a_summary(data: list[DataSet], tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["bench", "--list"], catch_exceptions=False).stdout
    assert "biomarker" in said
    assert "pca smoothed" in said
    assert "Leaks" in CliRunner().invoke(app, ["bench", "--explain", "annotation"], catch_exceptions=False).stdout
    refused = CliRunner().invoke(app, ["bench", str(data[0].corpus)])
    assert refused.exit_code == 2
    words = [
        "bench",
        str(data[1].corpus),
        "-o",
        str(tmp_path),
        "--seeds",
        "1",
        "--methods",
        "pca,pca smoothed,morphology",
    ]
    labels = ["--labels", str(data[1].labels), "--cell-type", "type", "--tasks", "annotation,clustering,neighbourhood"]
    done = CliRunner().invoke(app, [*words, *labels, "--control", "positions"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "positions shuffled" in done.stdout
    assert "Mean ranks" in done.stdout
    assert (tmp_path / "ranks.png").is_file()
    assert "Mean ranks" in (tmp_path / "summary.md").read_text()
    beside = (tmp_path / "details.md").read_text()
    assert "annotation: accuracy surest-80%" in beside
    assert "| pca smoothed |" in beside.split("# Cost")[1]


def test_without_a_corpus_the_suite_is_run_and_what_others_embedded_takes_part(
    data: list[DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(suites.SIZES, "quick", suites.Size(250, 4, 120, 1))
    out = tmp_path / "out"
    out.mkdir()
    (out / "data").symlink_to(data[0].corpus.parent)  # made for the other tests already
    cells = load_cells(data[0])
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(len(cells), 3)), columns=["a", "b", "c"])
    table.assign(cell_id=cells.cell_ids, sample=cells.sample).to_parquet(tmp_path / "theirs.parquet")
    words = ["bench", "-o", str(out), "--methods", "pca", "--tasks", "annotation", "--model", "tiny", "--workers", "1"]
    done = CliRunner().invoke(
        app, [*words, "--embeddings", f"theirs:genes={tmp_path / 'theirs.parquet'}"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    rows = pd.read_parquet(out / "rows.parquet")
    assert rows["data"].nunique() == len(data)
    score = rows[(rows["data"] == data[0].name) & (rows["metric"] == "macro-F1")].set_index("method")["value"]
    assert score["pca"] > score["theirs:genes"] < score["spatia"]
    # of other slides the table says nothing, which is a row and no silence
    assert set(rows.loc[rows["method"] == "theirs:genes", "status"]) == {"ok", "failed"}
    said = (out / "summary.md").read_text()
    assert "`spatia`, the one embedding fixed in advance for each task" in said
    assert not any(name.endswith(", cell") for name in rows["method"])  # levels alone are for the full suite


def test_the_list_names_what_is_drawn_too() -> None:
    said = CliRunner().invoke(app, ["bench", "--list"], catch_exceptions=False).stdout
    assert "expression-to-image: " in said.split("(--draw IMAGES)")[1]
    assert "class-conditional flow" in said
