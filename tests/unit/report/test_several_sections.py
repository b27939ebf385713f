"""The report of a run over several sections: what was left out, panels that differ, and the sections beside each other."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from spatia.report import figures, page
from spatia.report.contents import RunFolder
from spatia.report.render import write_report
from spatia.report.words import key_numbers, run_state, summary

HOSTILE = "<b>lung</b>"
PANELS = {"breast": [1, 1, 1, 1, 0, 1], HOSTILE: [0, 1, 1, 1, 1, 1]}  # over the six genes of the made-up run
N_BREAST = 120


@pytest.fixture
def several(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run whose last 80 cells are of a second section with another panel."""
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    cells = ad.read_h5ad(out / "cells.h5ad")
    sample = np.repeat(list(PANELS), [N_BREAST, cells.n_obs - N_BREAST])
    cells.obs["sample"] = pd.Categorical(sample, categories=list(PANELS))
    cells.obs["spatia_ood"] = np.where(sample == "breast", 1.0, np.linspace(1, 3.8, cells.n_obs))
    cells.obs["spatia_cluster"] = pd.Categorical(np.where(sample == "breast", "0", "1"))
    cells.uns["spatia"] = {"measured": np.array(list(PANELS.values()), bool)}
    cells.write_h5ad(out / "cells.h5ad")
    slide = json.loads((out / "results" / "slide.json").read_text())
    slide["sections"] = [slide["sections"][0] | {"sample": name, "n_genes": 5} for name in PANELS]
    (out / "results" / "slide.json").write_text(json.dumps(slide))
    return out


def measure(out: Path, panels: list[list[int]] | None) -> None:
    cells = ad.read_h5ad(out / "cells.h5ad")
    cells.uns["spatia"] = {} if panels is None else {"measured": np.array(panels, bool)}
    cells.write_h5ad(out / "cells.h5ad")


def leave_out(out: Path, *names: str, train: str = "done") -> tuple[str, str]:
    run = json.loads((out / "run.json").read_text())
    for one in run["steps"]:
        one["left_out"] = dict.fromkeys(names, "refused") if one["name"] in ("check", "build") else {}
        one["status"] = train if one["name"] == "train" else "done"
    (out / "run.json").write_text(json.dumps(run))
    return run_state(RunFolder(out))


@pytest.fixture
def html(several: Path) -> str:
    leave_out(several, "<i>f</i>")
    return write_report(several).read_text(encoding="utf-8")


def test_the_head_names_the_sections_that_were_left_out(several: Path) -> None:
    assert leave_out(several, "f") == ("partial", "run complete, 1 of 3 sections left out: f")
    assert leave_out(several, "f", train="failed") == ("stopped", "run stopped, 1 of 3 sections left out: f")
    assert leave_out(several) == ("complete", "run complete")


def test_the_page_of_several_sections(several: Path, html: str) -> None:
    assert (
        '<span class="chip partial"><span aria-hidden="true">!</span> run complete, 1 of 3 sections left out: &lt;i&gt;f'
        in html
    )
    assert "<b>6</b><span>genes (4 in every section)</span>" in html
    assert "Only the 4 that every section measures were ranked" in html
    assert "Share of each label among the cells of each section" in html
    assert "Genes predicted from the image alone. Section breast. The shaded part" in html
    assert "Right: section &lt;b&gt;lung&lt;/b&gt;, which has the largest share of unusual cells." in html
    assert HOSTILE not in html
    score = ad.read_h5ad(several / "cells.h5ad").obs["spatia_ood"].to_numpy()
    table = html[html.index("Share of the cells of each section above 2.4") :]
    rows = re.findall(r'<th scope="row">(.*?)</th><td class="num">(.*?)</td><td class="num">(.*?)</td>', table)[:2]
    share = (score[N_BREAST:] > 2.4).mean()
    assert rows == [("breast", "120", "0.0%"), ("&lt;b&gt;lung&lt;/b&gt;", "80", f"{100 * share:.1f}%")]


def test_the_page_of_one_section_has_none_of_it(finished: Path) -> None:
    html = write_report(finished).read_text(encoding="utf-8")
    assert "run complete</span>" in html
    assert "<b>313</b><span>genes</span>" in html
    assert "were ranked" not in html
    assert "of each section" not in html
    assert "What the sections are made of" not in html
    assert "Genes predicted from the image alone. The shaded part" in html
    assert "Section breast." in html


@pytest.mark.parametrize(
    ("panels", "value", "name"),
    [
        (list(PANELS.values()), "6", "genes (4 in every section)"),
        ([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], "6", "genes (none in every section)"),
        ([[1] * 6, [1] * 6], "6", "genes"),
        (None, "5", "genes in each section"),
    ],
)
def test_genes_are_counted_over_all_panels(
    several: Path, panels: list[list[int]] | None, value: str, name: str
) -> None:
    measure(several, panels)
    folder = RunFolder(several)
    assert [(one.value, one.name) for one in key_numbers(folder, None) if one.name.startswith("genes")] == [
        (value, name)
    ]
    assert f"with {value} {name} and an image" in summary(folder, None)[0]


def test_without_a_gene_in_every_section_the_markers_say_why_there_are_none(several: Path) -> None:
    path = several / "results" / "markers.parquet"
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    assert page._markers(RunFolder(several)).absent == "No gene is higher in one cluster than in the others."
    measure(several, [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    assert page._markers(RunFolder(several)).absent == "No gene is measured in every section, so none was ranked."


def test_the_sections_are_compared_by_their_groups(several: Path, finished: Path) -> None:
    compared = page._sections(RunFolder(several))
    assert compared is not None
    tables = compared.data["tables"]
    assert [table.of for table in tables] == ["cluster", "domain", "label"]
    assert tables[0].shares.loc["breast"].tolist() == [1, 0]
    assert tables[0].shares.loc[HOSTILE].tolist() == [0, 1]
    assert all(np.allclose(table.shares.sum(axis=1), 1) for table in tables)
    assert page._sections(RunFolder(finished)) is None


def test_groups_beyond_those_in_the_table_are_counted(several: Path) -> None:
    cells = ad.read_h5ad(several / "cells.h5ad")
    cells.obs["spatia_cluster"] = pd.Categorical((np.arange(cells.n_obs) % 50).astype(str))
    cells.write_h5ad(several / "cells.h5ad")
    compared = page._sections(RunFolder(several))
    assert compared is not None
    assert compared.data["tables"][0].shares.shape == (2, 40)
    assert compared.data["tables"][0].cut == "Only the first 40 of 50 clusters are shown."


def test_the_histogram_of_unusual_cells_is_of_all_and_the_map_of_the_section_with_most(
    several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[np.ndarray, ...]] = []
    plot = figures.plot_unusual

    def keep(all_scores: np.ndarray, score: np.ndarray, *others: Any, **more: Any) -> Path:
        drawn.append((all_scores, score))
        return plot(all_scores, score, *others, **more)

    monkeypatch.setattr(figures, "plot_unusual", keep)
    figures.unusual_picture(RunFolder(several))
    score = ad.read_h5ad(several / "cells.h5ad").obs["spatia_ood"].to_numpy()
    np.testing.assert_array_equal(drawn[0][0], score)
    np.testing.assert_array_equal(drawn[0][1], score[N_BREAST:])
