"""Figures of the tasks are written for ordinary and for odd results, and are the same when drawn twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from spatia.metrics.classification import reliability_curve
from spatia.metrics.retrieval import cross_modal_retrieval
from spatia.plotting.annotation import plot_annotation, plot_confusion, plot_reliability
from spatia.plotting.cell_map import plot_category_map, plot_value_map
from spatia.plotting.grouping import plot_composition, plot_groups, plot_stability
from spatia.plotting.imputation import plot_imputation
from spatia.plotting.palette import COLOUR_BLIND_SAFE, colours_of
from spatia.plotting.retrieval import plot_retrieval
from spatia.tasks.annotate import annotate
from spatia.tasks.cluster import Clusters
from spatia.tasks.impute import impute
from spatia.tasks.stability import Stability

RNG = np.random.default_rng(0)
XY = RNG.random((300, 2)) * (800, 300)
NAMES = np.array(["tumour $x$", "a_b^c", "<b>stroma</b>"])[RNG.integers(0, 3, 300)]
CURVE = Stability((0.1, 0.5, 1.0), (1.0, 3.0, 6.0), (1.0, 0.9, 0.5), (0.0, 1.4, 0.8), 1, 150)


def drawn(path: Path) -> bytes:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return content


def test_maps(tmp_path: Path) -> None:
    some = np.where(RNG.random(300) < 0.9, NAMES.astype(object), None)
    many = [f"group {i}" for i in range(60)]
    drawn(plot_category_map(XY, some, sorted(set(NAMES)), tmp_path / "a.png"))
    drawn(plot_category_map(XY, RNG.choice(many, 300), many, tmp_path / "b.png", sections=np.arange(300) % 6))
    first = plot_value_map(XY, np.where(XY[:, 0] > 400, XY[:, 1], np.nan), "depth", tmp_path / "c.png")
    second = plot_value_map(XY, np.where(XY[:, 0] > 400, XY[:, 1], np.nan), "depth", tmp_path / "d.png")
    assert drawn(first) == drawn(second)
    drawn(plot_value_map(XY, np.ones(300), "constant", tmp_path / "e.png"))


def test_labels(tmp_path: Path) -> None:
    X = np.eye(3)[np.unique(NAMES, return_inverse=True)[1]] * 3 + RNG.normal(size=(300, 3))
    found = annotate(X, np.where(RNG.random(300) < 0.5, NAMES.astype(object), None))
    drawn(plot_annotation(found, tmp_path / "a.png", positions_um=XY))
    drawn(plot_annotation(found, tmp_path / "b.png"))
    many = [f"class {i:02}" for i in range(25)]
    drawn(plot_confusion(RNG.choice(many, 300), RNG.choice(many, 300), many, tmp_path / "c.png"))
    curve = reliability_curve(found.held_out.codes, found.held_out.raw)
    drawn(plot_reliability({"as fitted": curve}, tmp_path / "d.png"))


def test_groups(tmp_path: Path) -> None:
    found = Clusters(RNG.integers(0, 3, 300), 3, 0.5, CURVE)
    counts = pd.crosstab(found.group, NAMES)
    drawn(plot_stability(CURVE, tmp_path / "a.png"))
    drawn(plot_composition(counts, tmp_path / "b.png"))
    drawn(plot_groups(found, tmp_path / "c.png", positions_um=XY, counts=counts))
    drawn(plot_groups(Clusters(found.group, 3, 0.5, None), tmp_path / "d.png"))


@pytest.mark.parametrize("constant", [False, True])
def test_predictions_and_retrieval(tmp_path: Path, constant: bool) -> None:
    X = RNG.normal(size=(300, 4))
    Y = np.zeros((300, 3)) if constant else np.log1p(RNG.poisson(np.exp(X[:, :3])))
    drawn(plot_imputation(Y, impute(X, Y, ["G1", "G2", "G3"]), tmp_path / "a.png"))
    drawn(plot_retrieval(cross_modal_retrieval(X, X, n_candidates=7), tmp_path / "b.png"))


def test_colours_of_categories_are_different_and_seen_on_white() -> None:
    assert len(set(COLOUR_BLIND_SAFE)) == 30
    assert all(min(to_rgb(colour)) < 0.85 for colour in COLOUR_BLIND_SAFE)
    assert len(set(colours_of([str(i) for i in range(30)]).values())) == 30
