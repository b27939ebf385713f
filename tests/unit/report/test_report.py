"""The report: self-contained, escaped, accessible; each section shows its data or says why it has none."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from spatia.report import words
from spatia.report.contents import ReportError, RunFolder, read_result, write_result
from spatia.report.page import make_page
from spatia.report.render import write_report
from spatia.report.schema import ExpressionTask, RunFacts, StepRecord

HOSTILE = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """Collects every element with its attributes, and checks that they nest."""

    VOID: ClassVar = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return write_report(finished).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(html: str) -> Elements:
    return Elements(html)


@pytest.fixture
def changed(finished: Path, tmp_path: Path) -> Path:
    """A copy of the folder for a test to change."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_nothing_is_loaded_from_elsewhere(html: str, elements: Elements) -> None:
    without_data = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?://|//[a-z]|url\(|@import|srcset", without_data)
    for tag, attributes in elements.found:
        for name in ("src", "href", "action", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, name, value)
    assert "default-src 'none'" in html


def test_nothing_is_run(elements: Elements) -> None:
    assert not elements.of("script")
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


def test_names_from_a_slide_are_shown_and_not_taken_as_markup(html: str) -> None:
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10


def test_every_image_is_described(elements: Elements) -> None:
    images = elements.of("img")
    assert len(images) >= 14
    for image in images:
        assert len(image["alt"] or "") > 15
        assert int(image["width"] or 0) > 0 < int(image["height"] or 0)


def test_elements_nest_and_anchors_lead_somewhere(elements: Elements) -> None:
    assert not elements.open
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {(link["href"] or "")[1:] for link in elements.of("a")} <= set(ids)


def test_tables_can_be_read_aloud(elements: Elements) -> None:
    assert len(elements.of("caption")) == len(elements.of("table")) > 8
    assert all(head.get("scope") in ("col", "row") for head in elements.of("th"))
    assert elements.of("html")[0]["lang"] == "en"
    assert len(elements.of("h1")) == 1


def test_equal_folders_give_equal_reports(finished: Path, html: str) -> None:
    assert write_report(finished).read_text(encoding="utf-8") == html


def test_losses_are_said_as_plainly_as_wins(html: str) -> None:
    assert "behind in 1: Hidden genes (to PCA)" in html
    assert "<strong>The model is behind in:</strong> Hidden genes (best: PCA)" in html
    assert "less than ridge on PCA of the genes" in html


def test_the_curve_of_resolutions_says_what_it_is_and_what_chose(html: str) -> None:
    assert "Adjusted Rand index between halves of the cells" in html
    assert "the resolution is chosen by the bits that come back" in html


def test_an_unfinished_run_says_what_is_absent_and_why(finished: Path, tmp_path: Path) -> None:
    run = read_result(finished / "run.json", RunFacts)
    steps = (
        StepRecord(name="check", status="done"),
        StepRecord(name="reconstruct", status="skipped", message="The slide has no image: nothing to reconstruct."),
        StepRecord(name="train", status="failed", message="out of memory"),
    )
    write_result(tmp_path / "run.json", RunFacts(**{**run.__dict__, "steps": steps}))
    page = make_page(RunFolder(tmp_path))
    absent = {section.anchor: section.absent for section in page.sections}
    assert page.verdict == "stopped"
    assert absent["reconstructions"] == "The slide has no image: nothing to reconstruct."
    assert absent["benchmark"] == "This run did not come to the step “benchmark”."
    assert not absent["made"]
    assert "This run has not produced a result yet" in write_report(tmp_path).read_text()


SOURCES = {
    "results/benchmark": "benchmark",
    "results/expression.json": "expression",
    "results/markers.parquet": "markers",
    "results/annotation.json": "annotation",
    "results/reconstructions.npz": "reconstructions",
    "results/drawn.npz": "drawn",
    "figures/crops.png": "crops",
}


@pytest.mark.parametrize("gone", [list(SOURCES)[::2], list(SOURCES)[1::2]])
def test_a_section_is_absent_exactly_where_its_data_are(changed: Path, gone: list[str]) -> None:
    for name in gone:
        path = changed / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    absent = {section.anchor for section in make_page(RunFolder(changed)).sections if section.absent}
    assert absent == {SOURCES[name] for name in gone}


def test_drawings_that_could_not_begin_at_real_cells_say_why(changed: Path) -> None:
    path = changed / "results" / "drawn.json"
    facts = json.loads(path.read_text()) | {"n_real": 0, "not_begun": "corpus: 3 real cells <to begin at>"}
    path.write_text(json.dumps(facts))
    with np.load(changed / "results" / "drawn.npz") as arrays:
        kept = {name: arrays[name] for name in ("generated", "real", "nearest")}
    np.savez(changed / "results" / "drawn.npz", **kept)
    page = write_report(changed).read_text()
    assert "Nothing was drawn from real cells: corpus: 3 real cells &lt;to begin at&gt;" in page
    assert "drawn_from_real_cells.zarr" not in page
    assert "Below, it began at the training cell" not in page


def test_a_run_without_cells_has_no_maps(changed: Path) -> None:
    (changed / "cells.h5ad").unlink()
    absent = {section.anchor for section in make_page(RunFolder(changed)).sections if section.absent}
    assert absent == {"maps", "composition", "unusual"}
    assert not Elements(write_report(changed).read_text()).open


def test_a_collapsed_embedding_is_an_alarm(changed: Path) -> None:
    path = changed / "results" / "training.json"
    training = json.loads(path.read_text())
    training["collapse"] |= {"collapsed": True, "effective_rank": 1.3}
    path.write_text(json.dumps(training))
    html = write_report(changed).read_text()
    assert "The embedding has collapsed." in html
    assert "do not rely on it" in html


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"no run\.json in it\. Expected a folder that `spatia run"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("run.json", "{", "not valid JSON"),
        ("results/training.json", '{"trained": true}', "training.json: model_id: Field required"),
        ("results/clusters.json", '{"method": 1}', "clusters.json: method: Input should be a valid string, found 1"),
        ("results/benchmark/rows.parquet", "no parquet", "rows.parquet: cannot be read"),
        ("cells.h5ad", "no hdf5", "not a table of cells"),
    ],
)
def test_a_damaged_file_is_named(changed: Path, file: str, content: str, complaint: str) -> None:
    (changed / file).write_text(content)
    with pytest.raises(ReportError, match=complaint):
        write_report(changed)


def test_a_parquet_without_a_column_is_named(changed: Path) -> None:
    path = changed / "results" / "markers.parquet"
    pd.read_parquet(path).drop(columns="score").to_parquet(path)
    with pytest.raises(ReportError, match=r"markers\.parquet: no column score; expected cluster, rank"):
        write_report(changed)


def test_a_number_that_could_not_be_computed_is_null_in_the_file_and_a_dash_on_the_page(changed: Path) -> None:
    path = changed / "results" / "expression.json"
    content = json.loads(path.read_text())
    content["tasks"] = content["tasks"][:1]
    content["tasks"][0]["mean_pearson"] = None
    path.write_text(json.dumps(content))
    assert "<strong>–</strong>" in write_report(changed).read_text()
    task = ExpressionTask(name="image", n_cells=1, n_genes=1, mean_pearson=float("nan"))
    write_result(changed / "task.json", task)
    assert json.loads((changed / "task.json").read_text())["mean_pearson"] is None


def test_arrays_that_would_have_to_be_unpickled_are_refused(changed: Path) -> None:
    np.savez(changed / "results" / "reconstructions.npz", real=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ReportError, match="cannot be read"):
        write_report(changed)


@pytest.mark.parametrize(("theirs", "said"), [(0.434, "the same as"), (0.44, "less than"), (0.42, "more than")])
def test_scores_are_compared_as_they_are_shown(theirs: float, said: str) -> None:
    task = ExpressionTask(
        name="image", n_cells=9, n_genes=5, mean_pearson=0.426, baseline="ridge", baseline_mean_pearson=theirs
    )
    assert f"is 0.43; that is {said} ridge (0." in words._expression(task)


def test_pictures_of_several_sections_name_theirs(changed: Path) -> None:
    crops = changed / "figures" / "crops.png"
    for name in "abcdefgh":
        shutil.copy(crops, crops.with_name(f"crops-{name}.png"))
    crops.unlink()
    page = write_report(changed).read_text()
    assert [f"Section {name}. What the model sees" in page for name in "afg"] == [True, True, False]
    assert "Not shown here: 2 more sections, figures/crops-*.png." in page
