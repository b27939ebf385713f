"""Groups in a UMAP are told apart: by names where these can be read, by a legend where they would hide each other."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spatia.plotting import embedding
from spatia.plotting.embedding import Panel, plot_umap
from spatia.plotting.unusual import plot_unusual

RNG = np.random.default_rng(0)
GROUP = np.array(["a", "b", "$c_1$", "d"])[np.arange(400) % 4]
APART = np.array([(0, 0), (0, 9), (9, 0), (9, 9)])[np.arange(400) % 4] + RNG.normal(size=(400, 2))
GROUPS = ["a", "b", "$c_1$", "d"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    found: list[Figure] = []
    save = embedding.save

    def keep(figure: Figure, path: Path) -> Path:
        found.append(figure)
        return save(figure, path)

    for module in ("embedding", "unusual"):
        monkeypatch.setattr(f"spatia.plotting.{module}.save", keep)
    return found


def named(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def in_legend(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_names_that_can_be_read_stand_on_their_groups_and_others_in_a_legend(
    tmp_path: Path, figures: list[Figure]
) -> None:
    panels = [
        Panel("Clusters", pd.Series(GROUP), GROUPS),
        Panel("Domains", pd.Series(RNG.permutation(GROUP)), GROUPS),  # among each other
        Panel("Sections", pd.Series(GROUP), GROUPS, legend=True),
    ]
    plot_umap(APART.astype(np.float32), panels, tmp_path / "umap.png")
    clusters, domains, sections = figures[0].axes[:3]
    assert sorted(named(clusters)) == sorted(GROUPS)
    assert in_legend(clusters) == named(domains) == named(sections) == []
    assert in_legend(domains) == in_legend(sections) == GROUPS


def test_names_that_would_hide_each_other_go_into_a_legend(tmp_path: Path, figures: list[Figure]) -> None:
    names = np.array(["a rather long name", "another long name"])[np.arange(400) % 2]
    near = np.array([(0, 0), (8, 0)])[np.arange(400) % 2] + RNG.normal(
        size=(400, 2)
    )  # apart, but where a name has room
    depth = Panel("Depth", RNG.random(400), unit="molecules")
    plot_umap(
        near.astype(np.float32), [Panel("Labels", pd.Series(names), sorted(set(names))), depth], tmp_path / "a.png"
    )
    assert named(figures[0].axes[0]) == sorted(set(names))
    near[0] = (200, 0)  # one cell far off
    plot_umap(
        near.astype(np.float32), [Panel("Labels", pd.Series(names), sorted(set(names))), depth], tmp_path / "b.png"
    )
    assert named(figures[1].axes[0]) == []
    assert in_legend(figures[1].axes[0]) == sorted(set(names))


def test_a_legend_says_how_many_groups_are_not_in_it_and_what_grey_is(tmp_path: Path, figures: list[Figure]) -> None:
    many = [f"group {i}" for i in range(55)]
    plot_umap(
        APART.astype(np.float32), [Panel("Labels", pd.Series(RNG.choice(many, 400)), many)], tmp_path / "umap.png"
    )
    assert in_legend(figures[0].axes[0]) == [*many[:40], "and 15 more"]
    some = pd.Series(GROUP).where(np.arange(400) > 9)
    plot_umap(APART.astype(np.float32), [Panel("Labels", some, GROUPS, legend=True)], tmp_path / "umap.png")
    assert in_legend(figures[1].axes[0]) == [*GROUPS, "(none)"]


def test_the_histogram_is_of_all_cells_and_the_map_of_one_section(tmp_path: Path, figures: list[Figure]) -> None:
    score = np.append(RNG.gamma(9, 1 / 9, 399), np.nan)
    plot_unusual(score, score[:100], APART[:100], tmp_path / "unusual.png", above=1, section="$s_1$")
    left, right = figures[0].axes[:2]
    assert sum(bar.get_bbox().height for bar in left.containers[0]) == 399
    assert np.shape(right.collections[0].get_offsets()) == (100, 2)
    assert right.get_title(loc="left") == "On the tissue of $s_1$"
