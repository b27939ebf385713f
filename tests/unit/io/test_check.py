"""The doctor on slides made in memory: one thing wrong at a time."""

import dataclasses
from pathlib import Path

import anndata as ad
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spatialdata import SpatialData

from spatia import keys
from spatia.corpus.outlines import spill_vertices
from spatia.corpus.spill import Spill
from spatia.errors import SlideError
from spatia.io.alignment import discs
from spatia.io.border import Level, Notice, Pyramid, SlideInfo, counts_in_memory, make_slide, vertices_in_memory
from spatia.io.check import CheckSettings, check_open_slide, check_slide
from spatia.io.check_counts import explain_fractions, survey_counts
from spatia.io.check_forecast import Forecast
from spatia.io.check_geometry import vendor_area
from spatia.io.check_labels import label_findings
from spatia.io.check_offset import explain_offset
from spatia.io.check_outlines import measure_rings, survey_outlines
from spatia.io.check_positions import spread_sample
from spatia.io.findings import Report, safe_text
from spatia.io.outlines import read_outlines
from spatia.io.source import Source

N, GENES = 60, 12
SOURCE = Source("s1")


def _counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(2.0, (N, GENES)).astype(np.float32)


def _position() -> np.ndarray:
    grid = np.arange(N)
    return np.column_stack([grid % 10, grid // 10]) * 12.0 + 10.0


def _var(**columns: list[str]) -> pd.DataFrame:
    ids = [f"ENSG{k:011d}" for k in range(GENES)]
    var = pd.DataFrame({keys.GENE_ID: ids, keys.SYMBOL: [f"G{k}" for k in range(GENES)], keys.FEATURE_TYPE: "gene"})
    return var.assign(**columns).set_axis([f"f{k}" for k in range(GENES)])


def _vertices(position: np.ndarray, n_vertices: int = 12) -> pd.DataFrame:
    rings = discs(position, 10.0, n_vertices)
    ids = np.repeat([f"c{k}" for k in range(len(position))], n_vertices)
    return pd.DataFrame(np.concatenate(rings), columns=["x", "y"]).assign(cell_id=ids)


def _slide(
    counts: np.ndarray | None = None,
    position: np.ndarray | None = None,
    var: pd.DataFrame | None = None,
    vertices: pd.DataFrame | None = None,
    notices: tuple[Notice, ...] = (),
    ids: list[str] | None = None,
    outlines: dd.DataFrame | None = None,
    **obs: object,
) -> SpatialData:
    counts = _counts() if counts is None else counts
    index = pd.Index(ids or [f"c{k}" for k in range(len(counts))], dtype=str)
    table = ad.AnnData(
        counts_in_memory(counts, rows_per_block=17),
        obs=pd.DataFrame(obs, index=index),
        var=_var() if var is None else var,
    )
    table.obsm[keys.SPATIAL] = _position()[: len(counts)] if position is None else position
    info = SlideInfo("s1", "generic", {}, image_absence="none was taken", notices=notices)
    if outlines is None:
        outlines = vertices_in_memory(_vertices(_position()) if vertices is None else vertices)
    return make_slide(info, table, cell_outlines=outlines)


def _severity(report: Report, code: str) -> str:
    finding = report.find(code)
    assert finding is not None, [finding.code for finding in report.findings]
    return finding.severity


def test_a_good_table_without_image_is_legal_and_the_absence_recorded() -> None:
    report = check_open_slide(_slide(), SOURCE)
    assert not report.refused
    assert [finding.code for finding in report.of_severity("warning")] == ["image-absent"]
    absent = report.find("image-absent")
    assert absent is not None
    assert "none was taken" in absent.found


@pytest.mark.parametrize(
    ("value", "code"),
    [(np.nan, "counts-missing"), (np.inf, "counts-missing"), (-1.0, "counts-negative"), (0.5, "counts-raw")],
)
def test_one_bad_value_in_the_last_block_is_found(value: float, code: str) -> None:
    counts = _counts()
    counts[-1, -1] = value
    report = check_open_slide(_slide(counts), SOURCE)
    assert _severity(report, code) == "refused"
    assert report.forced().refused


def test_declared_intensities_need_not_be_whole_but_must_be_there_and_not_below_zero() -> None:
    source = dataclasses.replace(SOURCE, measure="intensity")
    intensity = _counts() + 0.25
    assert not check_open_slide(_slide(intensity), source).refused
    intensity[0, 0] = -0.5  # the build would refuse it
    assert "clip" in check_open_slide(_slide(intensity), source).of_severity("refused")[0].remedy
    intensity[3, 3] = np.nan
    assert _severity(check_open_slide(_slide(intensity), source), "counts-missing") == "refused"


def test_duplicate_ids_are_refused_and_cannot_be_forced() -> None:
    ids = [f"c{k}" for k in range(N)]
    ids[7] = ids[3]
    with pytest.warns(UserWarning, match="unique"):
        slide = _slide(ids=ids)
    report = check_open_slide(slide, SOURCE)
    assert _severity(report, "ids-duplicate") == "refused"
    assert report.forced().refused


def test_an_empty_table_is_refused() -> None:
    report = check_open_slide(_slide(np.zeros((0, GENES), np.float32)), SOURCE)
    assert _severity(report, "cells") == "refused"


def test_a_missing_position_is_refused() -> None:
    position = _position()
    position[5, 0] = np.nan
    assert _severity(check_open_slide(_slide(position=position), SOURCE), "positions-missing") == "refused"


def test_names_of_genes_are_judged() -> None:
    kinds = ["gene"] * (GENES - 2) + ["Negative Control Probe"] * 2
    symbols = ["<b>", "G1", "G1", *(f"G{k}" for k in range(3, GENES))]
    ids = ["TP53", *(f"ENSG{k:011d}" for k in range(1, GENES))]
    var = _var(**{keys.FEATURE_TYPE: kinds, keys.SYMBOL: symbols, keys.GENE_ID: ids})
    report = check_open_slide(_slide(var=var), SOURCE)
    assert not report.refused
    for code, words in {
        "genes-ids": "9 of 10 genes",
        "genes-controls": "2 features",
        "genes-duplicate-symbols": "1: G1",
        "genes-markup": "1: <b>",
    }.items():
        finding = report.find(code)
        assert finding is not None
        assert finding.severity == "warning"
        assert words in finding.found


def test_what_the_reader_noticed_becomes_a_warning() -> None:
    report = check_open_slide(_slide(notices=(Notice("odd_thing", "7"),)), SOURCE)
    assert _severity(report, "odd-thing") == "warning"


def test_a_folder_of_no_platform_is_a_finding(tmp_path: Path) -> None:
    report = check_slide(Source("s1", tmp_path))
    assert report.refused
    assert _severity(report, "slide-readable") == "refused"


def test_outlines_of_unknown_cells_and_cells_without_are_counted() -> None:
    vertices = _vertices(_position()).replace({keys.CELL_ID: {"c3": "elsewhere"}})
    finding = check_open_slide(_slide(vertices=vertices), SOURCE).find("cells-outlines")
    assert finding is not None
    assert finding.severity == "warning"
    assert finding.found.startswith("1 of 60 cells without; 1 outlines")


def test_outlines_far_from_the_vendors_area_are_refused() -> None:
    area = np.full(N, np.pi * 25 * 4)
    assert _severity(check_open_slide(_slide(cell_area=area), SOURCE), "cells-area") == "refused"
    assert _severity(check_open_slide(_slide(cell_area=area / 4), SOURCE), "cells-area") == "ok"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_vertex_that_is_no_number_is_refused_and_its_file_named(value: float, ending: str, tmp_path: Path) -> None:
    vertices = _vertices(_position())
    vertices.loc[vertices["cell_id"] == "c7", "x"] = value
    path = tmp_path / f"cell_boundaries.{ending}"
    vertices.to_parquet(path) if ending == "parquet" else vertices.to_csv(path, index=False)
    finding = check_open_slide(_slide(outlines=read_outlines(path)), SOURCE).find("cells-vertices")
    assert finding is not None
    assert finding.severity == "refused"
    assert f"1 of {N}; first: c7 in {path}" in finding.found
    rows = pd.Series(range(N), index=[f"c{k}" for k in range(N)])
    with pytest.raises(SlideError, match=rf"cell_boundaries\.{ending}: the outline of cell 'c7'"):
        spill_vertices(read_outlines(path).get_partition(0).compute(), rows, Spill(tmp_path, np.array([0, N])))


def test_a_vendors_area_in_words_is_none() -> None:
    assert vendor_area(pd.DataFrame({"cell_area": ["big", "small"]}), keys.CELL_OUTLINES) is None


def test_an_outline_that_crosses_itself_is_counted() -> None:
    vertices = _vertices(_position())
    first = vertices[keys.CELL_ID] == "c0"
    vertices.loc[first, ["x", "y"]] = vertices.loc[first, ["x", "y"]].to_numpy()[[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    assert _severity(check_open_slide(_slide(vertices=vertices), SOURCE), "cells-self-crossing") == "warning"


def test_a_full_disk_is_refused_only_where_the_output_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert _severity(check_open_slide(_slide(), SOURCE), "forecast-disk") == "warning"
    named = CheckSettings(forecast=Forecast(output=tmp_path / "not" / "yet"))
    report = check_open_slide(_slide(), SOURCE, settings=named)
    assert _severity(report, "forecast-disk") == "refused"
    assert not report.forced().refused


def test_labels_off_their_cells_are_refused_and_the_swap_named() -> None:
    position = _position()
    raster = np.zeros((160, 160), np.int32)
    for label, (x, y) in enumerate(position, start=1):
        raster[int(y) - 5 : int(y) + 5, int(x) - 5 : int(x) + 5] = label
    table = ad.AnnData(
        counts_in_memory(_counts()),
        obs=pd.DataFrame({keys.LABEL: np.arange(1, N + 1)}, index=[f"c{k}" for k in range(N)]),
        var=_var(),
    )
    found = {}
    for name, where in (("good", position), ("swapped", position[:, ::-1])):
        table.obsm[keys.SPATIAL] = where
        slide = make_slide(
            SlideInfo("s1", "generic", {}, image_absence="no"),
            table.copy(),
            cell_labels=da.from_array(raster, chunks=64),
            labels_um_per_px=1.0,
        )
        found[name] = check_open_slide(slide, SOURCE).find("labels-inside")
    assert found["good"] is not None
    assert found["good"].severity == "ok"
    assert found["swapped"] is not None
    assert found["swapped"].severity == "refused"
    assert "x and y swapped: 100.0%" in found["swapped"].found


def test_cells_are_measured_where_they_lie_in_a_raster_with_an_empty_middle() -> None:
    position = _position()  # in a corner
    raster = np.zeros((4_500, 4_500), np.int32)
    for label, (x, y) in enumerate(position, start=1):
        raster[int(y) - 5 : int(y) + 5, int(x) - 5 : int(x) + 5] = label
    labels = Pyramid((Level(da.from_array(raster[None]), (1.0, 1.0)),), ("labels",))
    findings, diameter = label_findings(labels, np.arange(1, N + 1), position)
    assert [finding.severity for finding in findings] == ["ok", "ok"]
    assert diameter == pytest.approx(2 * 10 / np.sqrt(np.pi))
    findings, diameter = label_findings(labels, np.arange(1, N + 1), position + 1e6)
    assert [finding.severity for finding in findings] == ["refused", "warning"]
    assert findings[1].found == "no label of a cell"


@pytest.mark.parametrize("chunksize", [7, 12, 25, 1_000])
def test_the_survey_does_not_depend_on_partitions(chunksize: int) -> None:
    vertices = _vertices(_position()).assign(ring=0)
    split = dd.from_pandas(vertices, chunksize=chunksize, sort=False)
    survey = survey_outlines(split, pd.Index([f"c{k}" for k in range(N)]), np.arange(N))
    assert (survey.n_rings == 1).all()
    assert (survey.n_vertices == 12).all()
    assert np.allclose(survey.centre_um, _position())
    assert np.allclose(survey.area_um2, 12 / 2 * 25 * np.sin(2 * np.pi / 12))
    assert len(survey.kept) == N


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(-50, 50)), st.floats(0, 1e5))
def test_areas_and_centres_move_with_the_ring(ring: np.ndarray, shift: float) -> None:
    starts = np.array([0, 5])
    here, there = measure_rings(ring, starts), measure_rings(ring + shift, starts)
    assert np.isclose(here.area_um2, there.area_um2, atol=1e-4)
    reversed_ring = measure_rings(ring[::-1], starts)
    assert np.isclose(here.area_um2, reversed_ring.area_um2, atol=1e-6)


@given(hnp.arrays(np.int64, (20, 8), elements=st.integers(0, 50)))
def test_whole_numbers_have_no_fraction_and_their_logarithm_is_recognised(counts: np.ndarray) -> None:
    survey = survey_counts(counts_in_memory(counts.astype(np.float32), rows_per_block=3))
    assert survey.n_fraction == survey.n_missing == survey.n_negative == 0
    assert np.array_equal(survey.totals, counts.sum(axis=1))
    assert np.array_equal(survey.feature_totals, counts.sum(axis=0))
    totals = counts.sum(axis=1, keepdims=True)
    if (totals[:, 0] > 0).sum() >= 3:
        logged = np.log1p(counts / np.maximum(totals, 1) * 1e4)
        assert "normalised" in explain_fractions(sp.csr_matrix(logged))


def test_scaled_values_are_called_scaled() -> None:
    values = np.random.default_rng(0).normal(size=(30, 20))
    assert "scaled or centred" in explain_fractions(sp.csr_matrix(values))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda xy: xy[:, ::-1], "swapping x and y"),
        (lambda xy: np.column_stack([xy[:, 0], 900 - xy[:, 1]]), "flipping y"),
        (lambda xy: xy + np.array([0, 30]), "a shift by (0.0, -30.0) µm"),
        (lambda xy: xy * 2, "multiplying by 0.5"),
        (lambda xy: xy[::-1], "other cells' outlines"),
    ],
)
def test_an_offset_is_explained(change: object, words: str) -> None:
    centre = np.random.default_rng(1).uniform(0, 700, (300, 2)) * [1.0, 0.6]
    assert words in explain_offset(change(centre), centre, 12.0)  # type: ignore[operator]


def test_samples_are_spread_and_repeatable() -> None:
    rows = spread_sample(1_000_000, 2_000)
    assert len(rows) == 2_000
    assert rows[0] == 0
    assert rows[-1] == 999_999
    assert np.array_equal(rows, spread_sample(1_000_000, 2_000))
    assert spread_sample(0, 10).size == 0


def test_text_of_a_slide_cannot_steer_the_terminal() -> None:
    assert safe_text("a\x1b]0;x\x07\u202eb") == "a\\x1b]0;x\\x07\\u202eb"
    assert len(safe_text("x" * 1_000)) == 60
