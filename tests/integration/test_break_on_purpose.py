"""Break a good slide on purpose, in every way that a user's slide has been seen to break; the doctor must say so."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from spatia.cli.check import check as check_command
from spatia.io.check import check_slide
from spatia.io.findings import Report
from spatia.io.source import Source
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate

N_CELLS = 700
UM_PER_PX = 0.425
IMAGE = "morphology_focus/morphology_focus_0000.ome.tif"
OUTLINES = ("cell_boundaries.parquet", "nucleus_boundaries.parquet")
Break = Callable[[Path, Path], None]  # (bundle, bundle of another region)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good slide and the slide of another region."""
    folder = tmp_path_factory.mktemp("slides")
    made = []
    for name, seed in (("good", 3), ("elsewhere", 4)):
        settings = SimulationSettings(n_cells=N_CELLS, seed=seed, um_per_px=UM_PER_PX, n_genes=60, transcripts=False)
        made.append(simulate(folder / name, settings)[0])
        shutil.rmtree(made[-1] / "truth")
    return made[0], made[1]


def _check(folder: Path, **options: object) -> Report:
    return check_slide(Source("broken", folder, **options))  # type: ignore[arg-type]


# --- ways to break a bundle


def _matrix(change: Callable[[h5py.Group], None]) -> Break:
    def apply(bundle: Path, _: Path) -> None:
        with h5py.File(bundle / "cell_feature_matrix.h5", "r+") as file:
            change(file["matrix"])

    return apply


def _replace(group: h5py.Group, name: str, values: np.ndarray) -> None:
    del group[name]
    group[name] = values


def _values(change: Callable[[np.ndarray], np.ndarray]) -> Break:
    return _matrix(lambda group: _replace(group, "data", change(group["data"][:].astype(np.float32))))


def _log_normalise(group: h5py.Group) -> None:
    indptr, data = group["indptr"][:], group["data"][:].astype(np.float64)
    totals = np.maximum(np.add.reduceat(data, indptr[:-1]), 1)
    _replace(group, "data", np.log1p(data / np.repeat(totals, np.diff(indptr)) * 1e4).astype(np.float32))


def _set_first(value: float) -> Break:
    def change(data: np.ndarray) -> np.ndarray:
        data[:3] = value
        return data

    return _values(change)


def _empty_cells(group: h5py.Group) -> None:
    data, stop = group["data"][:], group["indptr"][5]
    data[:stop] = 0
    _replace(group, "data", data)


def _symbols_as_ids(group: h5py.Group) -> None:
    _replace(group, "features/id", group["features/name"][:])


def _script_as_gene(group: h5py.Group) -> None:
    names = group["features/name"][:].astype("S40")
    names[0] = b"<script>alert(1)</script>"
    names[1] = b"a\x1b[31mred"
    _replace(group, "features/name", names)


def _table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Break:
    def apply(bundle: Path, _: Path) -> None:
        change(pd.read_parquet(bundle / name)).to_parquet(bundle / name)

    return apply


def _move(move: Callable[[np.ndarray], np.ndarray], *names: str) -> Break:
    """Move the positions (n, 2) in these tables."""

    def apply(bundle: Path, _: Path) -> None:
        for name in names:
            table = pd.read_parquet(bundle / name)
            columns = ["x_centroid", "y_centroid"] if "x_centroid" in table else ["vertex_x", "vertex_y"]
            table[columns] = move(table[columns].to_numpy(np.float64))
            table.to_parquet(bundle / name)

    return apply


def _shift(dx_um: float, dy_um: float, *names: str) -> Break:
    return _move(lambda xy: xy + np.array([dx_um, dy_um]), *names)


def _flip_y(*names: str) -> Break:
    def apply(bundle: Path, elsewhere: Path) -> None:
        with tifffile.TiffFile(bundle / IMAGE) as file:
            height = file.pages.first.shape[0] * UM_PER_PX
        _move(lambda xy: np.column_stack([xy[:, 0], height - xy[:, 1]]), *names)(bundle, elsewhere)

    return apply


def _experiment(**changes: object) -> Break:
    def apply(bundle: Path, _: Path) -> None:
        path = bundle / "experiment.xenium"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return apply


def _image_path(name: str) -> Break:
    return _experiment(images={"morphology_focus_filepath": name})


def _pixel_size(written: str) -> Break:
    """Write another pixel size in every place that holds one, so that only the pixels themselves can tell."""

    def apply(bundle: Path, elsewhere: Path) -> None:
        _experiment(pixel_size=float(written))(bundle, elsewhere)
        for path in (bundle / "morphology_focus").iterdir():
            assert len(written) == len("0.425")
            path.write_bytes(path.read_bytes().replace(b'="0.425"', f'="{written}"'.encode()))

    return apply


def _remove(*names: str) -> Break:
    def apply(bundle: Path, _: Path) -> None:
        for name in names:
            (bundle / name).unlink()

    return apply


def _truncate(name: str, share: float) -> Break:
    def apply(bundle: Path, _: Path) -> None:
        os.truncate(bundle / name, int((bundle / name).stat().st_size * share))

    return apply


def _image_of_elsewhere(bundle: Path, elsewhere: Path) -> None:
    shutil.rmtree(bundle / "morphology_focus")
    shutil.copytree(elsewhere / "morphology_focus", bundle / "morphology_focus")


def _lying_level(bundle: Path, _: Path) -> None:
    with tifffile.TiffFile(bundle / IMAGE, mode="r+b") as file:
        level = file.pages.first.pages[0].aspage()
        level.tags["ImageWidth"].overwrite(level.imagewidth // 2)


def _bomb(bundle: Path, elsewhere: Path) -> None:
    """30,000² px of zeros in some 100 kB."""
    import imagecodecs

    shutil.rmtree(bundle / "morphology_focus")
    tile = imagecodecs.zstd_encode(np.zeros((1024, 1024), np.uint16))
    tifffile.imwrite(
        bundle / "morphology_focus.ome.tif",
        iter([tile] * 30**2),
        shape=(30 * 1024, 30 * 1024),
        dtype=np.uint16,
        tile=(1024, 1024),
        compression="zstd",
        ome=False,
    )
    _image_path("morphology_focus.ome.tif")(bundle, elsewhere)


def _doctype(bundle: Path, _: Path) -> None:
    start = b'<?xml version="1.0" encoding="UTF-8"?>'
    evil = b'<!DOCTYPE O [<!ENTITY a "aaa">]>'.ljust(len(start))
    data = (bundle / IMAGE).read_bytes()
    assert start in data
    (bundle / IMAGE).write_bytes(data.replace(start, evil))


def _duplicate_id(bundle: Path, elsewhere: Path) -> None:
    with h5py.File(bundle / "cell_feature_matrix.h5", "r+") as file:
        barcodes = file["matrix/barcodes"][:]
        barcodes[1] = barcodes[0]
        _replace(file["matrix"], "barcodes", barcodes)
    _table(
        "cells.parquet", lambda cells: cells.assign(cell_id=[cells.cell_id[0], *cells.cell_id[0:1], *cells.cell_id[2:]])
    )(bundle, elsewhere)


def _lose_vertices(boundaries: pd.DataFrame) -> pd.DataFrame:
    """Leave 3 vertices to four cells."""
    rank = boundaries.groupby("cell_id", sort=False).cumcount()
    return boundaries[(rank < 3) | ~boundaries.cell_id.isin(boundaries.cell_id.unique()[:4])]


def _without(part: str) -> Break:
    def change(group: h5py.Group) -> None:
        del group[part]

    return _matrix(change)


def _matrix_bomb(group: h5py.Group) -> None:
    """10¹¹ values in no byte at all."""
    n = 10**11
    for name in ("data", "indices"):
        del group[name]
        group.create_dataset(name, (n,), "i8", chunks=(10**6,), compression="gzip")
    _replace(group, "indptr", np.linspace(0, n, len(group["indptr"])).astype(np.int64))


def _barcode_bomb(group: h5py.Group) -> None:
    del group["barcodes"]
    group.create_dataset("barcodes", (10**11,), "S16", chunks=(10**6,), compression="gzip")


def _no_number(column: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Turn the first vertices of the first outline into NaN."""
    return lambda rows: rows.assign(**{column: rows[column].mask(np.arange(len(rows)) < 3)})


def _sequence(*breaks: Break) -> Break:
    def apply(bundle: Path, elsewhere: Path) -> None:
        for one in breaks:
            one(bundle, elsewhere)

    return apply


EVERYTHING = ("cells.parquet", *OUTLINES)
READING = "slide-readable"

# name -> (how to break, code of the finding, severity, words of what was found)
BREAKS: dict[str, tuple[Break, str, str, str]] = {
    "pixel size x 2": (_pixel_size("0.850"), "image-alignment", "refused", "pixel size 0.5 x the stated"),
    "pixel size / 4.7": (_pixel_size("0.090"), "image-extent", "refused", "at 0.09 µm/px"),
    "pixel size / 4.7, cause": (_pixel_size("0.090"), "image-alignment", "refused", "pixel size 4.71 x the stated"),
    "pixel size x 2 in one place": (_experiment(pixel_size=0.85), READING, "refused", "0.425"),
    "pixel size as text": (_experiment(pixel_size="big"), READING, "refused", "pixel_size is 'big'"),
    "pixel size 3 % off": (_pixel_size("0.438"), "image-drift", "refused", "fits a pixel size 0.97"),
    "positions in pixels": (_move(lambda xy: xy / 0.2125, *EVERYTHING), "cell-diameter", "refused", "times 0.212"),
    "outlines in pixels": (_move(lambda xy: xy / 0.2125, *OUTLINES), "cells-inside", "refused", "multiplying by 4.71"),
    "outlines in pixels, area": (_move(lambda xy: xy / 0.2125, OUTLINES[0]), "cells-area", "refused", "lengths 4.7"),
    "centroids swapped": (_move(lambda xy: xy[:, ::-1], "cells.parquet"), "cells-inside", "refused", "swapping x and y"),
    "all swapped": (_move(lambda xy: xy[:, ::-1], *EVERYTHING), "image-alignment", "refused", "x and y swapped (z"),
    "centroids flipped": (_flip_y("cells.parquet"), "cells-inside", "refused", "flipping y"),
    "all flipped": (_flip_y(*EVERYTHING), "image-alignment", "refused", "y flipped (z"),
    "outlines shifted": (_shift(30, 0, *OUTLINES), "cells-inside", "refused", "shift by (30.0, 0.0)"),
    "outlines shifted, stain": (_shift(30, 0, *OUTLINES), "image-alignment", "refused", "moved by (-"),
    "nuclei shifted": (_shift(0, 30, OUTLINES[1]), "nuclei-inside", "refused", "after a shift by ("),
    "all shifted": (_shift(-18, 24, *EVERYTHING), "image-alignment", "refused", "moved by (+1"),
    "image of another region": (_image_of_elsewhere, "image-alignment", "refused", "no swap, flip, scale or shift"),
    "log-normalised": (_matrix(_log_normalise), "counts-raw", "refused", "log1p of counts scaled to 10,000"),
    "float counts": (_values(lambda data: data + 0.37), "counts-raw", "refused", "fraction"),
    "NaN counts": (_set_first(np.nan), "counts-missing", "refused", "3 of"),
    "infinite counts": (_set_first(np.inf), "counts-missing", "refused", "3 of"),
    "negative counts": (_set_first(-1), "counts-negative", "refused", "3 of"),
    "all zero": (_values(np.zeros_like), "counts-empty-cells", "refused", "700 of 700"),
    "duplicate ids": (_duplicate_id, READING, "refused", "occur"),
    "cells without counts": (
        _table("cells.parquet", lambda cells: cells.iloc[:-3]), READING, "refused", "697 cells, but cell_feature_matrix.h5 has 700",
    ),
    "outlines of other cells": (
        _table(OUTLINES[0], lambda rows: rows.assign(cell_id="x" + rows.cell_id)), "cells-outlines", "refused", "700 of 700",
    ),
    "no counts": (_remove("cell_feature_matrix.h5"), READING, "refused", "cell_feature_matrix.h5"),
    "no list of cells": (_remove("cells.parquet", "cells.csv.gz"), READING, "refused", "cells.parquet"),
    "no experiment.xenium": (_remove("experiment.xenium"), READING, "refused", "experiment.xenium"),
    "no outlines": (_remove(*OUTLINES), "cells-outlines", "warning", "none"),
    "first channel missing": (_remove(IMAGE), READING, "refused", "morphology_focus_0000.ome.tif"),
    "middle channel missing": (_remove(IMAGE.replace("0000", "0001")), READING, "refused", "missing"),
    "last channel missing": (_remove(IMAGE.replace("0000", "0003")), READING, "refused", "0003"),
    "image named but missing": (_image_path("morphology_mip.ome.tif"), READING, "refused", "morphology_mip.ome.tif"),
    "truncated TIFF": (_truncate(IMAGE, 0.6), READING, "refused", "truncated"),
    "nearly empty TIFF": (_truncate(IMAGE, 0.0001), READING, "refused", "0000.ome.tif"),
    "truncated matrix": (_truncate("cell_feature_matrix.h5", 0.5), READING, "refused", "cell_feature_matrix.h5"),
    "truncated cells": (_truncate("cells.parquet", 0.5), READING, "refused", "cells.parquet"),
    "truncated outlines": (_truncate("cell_boundaries.parquet", 0.5), READING, "refused", "cell_boundaries.parquet"),
    "lying pyramid level": (_lying_level, READING, "refused", "lies about its size"),
    "decompression bomb": (_bomb, READING, "refused", "bomb"),
    "path that climbs": (_image_path("../../secret.ome.tif"), READING, "refused", ".."),
    "absolute path": (_image_path("/etc/passwd"), READING, "refused", "absolute path"),
    "DOCTYPE in OME-XML": (_doctype, READING, "refused", "OME-XML"),
    "no JSON": (lambda bundle, _: (bundle / "experiment.xenium").write_text("{"), READING, "refused", "JSON"),  # type: ignore[dict-item]
    "symbols, panel there": (_matrix(_symbols_as_ids), "symbols-as-ids", "warning", "60 resolved from the panel"),
    "symbols, no panel": (
        _sequence(_matrix(_symbols_as_ids), _remove("gene_panel.json")), "genes-ids", "warning", "60 known by symbol",
    ),
    "matrix that unpacks to terabytes": (_matrix(_matrix_bomb), READING, "refused", "declares 100,000,000,000 values"),
    "barcodes that unpack to terabytes": (_matrix(_barcode_bomb), READING, "refused", "declares 100,000,000,000 values"),
    "no shape": (_without("shape"), READING, "refused", "no `matrix/shape`"),
    "no barcodes": (_without("barcodes"), READING, "refused", "no `matrix/barcodes`"),
    "no gene names": (_without("features/name"), READING, "refused", "no `matrix/features/name`"),
    "no values": (_without("data"), READING, "refused", "no `matrix/data`"),
    "no indices": (_without("indices"), READING, "refused", "no `matrix/indices`"),
    "words as centroids": (
        _table("cells.parquet", lambda cells: cells.assign(x_centroid="12,5")), READING, "refused", "column 'x_centroid' holds '12,5'",
    ),
    "NaN in outlines": (_table(OUTLINES[0], _no_number("vertex_x")), "cells-vertices", "refused", "cell_boundaries.parquet"),
    "NaN in nuclei": (_table(OUTLINES[1], _no_number("vertex_y")), "nuclei-vertices", "refused", "nucleus_boundaries.parquet"),
    "names of columns": (
        _table("cells.parquet", lambda cells: cells.assign(**{"my type (%)": "x", "Type": "a", "type": "b"})),
        "columns-renamed", "warning", "'my type (%)' -> 'my_type', 'Type' -> 'Type_2'",
    ),
    "controls": (lambda *_: None, "genes-controls", "warning", "80 features"),
    "empty cells": (_matrix(_empty_cells), "counts-empty-cells", "warning", "5 of 700"),
    "markup in gene names": (_matrix(_script_as_gene), "genes-markup", "warning", "2: <script>alert(1)</script>, a\\x1b[31mred"),
    "lost vertices": (_table(OUTLINES[0], _lose_vertices), "cells-lost-vertices", "warning", "4 with fewer than 4"),
}  # fmt: skip


@pytest.fixture
def copy(bundles: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles[0], tmp_path / "bundle"))


def test_the_good_slide_passes(bundles: tuple[Path, Path]) -> None:
    report = _check(bundles[0])
    assert not report.refused
    assert [finding.code for finding in report.of_severity("warning")] == ["genes-controls"]
    aligned = report.find("image-alignment")
    assert aligned is not None
    assert aligned.severity == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_slide_is_named(name: str, copy: Path, bundles: tuple[Path, Path]) -> None:
    change, code, severity, words = BREAKS[name]
    change(copy, bundles[1])
    report = _check(copy)
    finding = report.find(code)
    assert finding is not None, [finding.code for finding in report.findings]
    assert finding.severity == severity
    assert words in finding.found
    assert finding.expected
    assert report.refused == (severity == "refused")
    if severity == "refused":
        assert finding.remedy or code == READING
    json.dumps(report.to_json())


def test_force_leaves_what_would_give_wrong_numbers(copy: Path, bundles: tuple[Path, Path]) -> None:
    _image_of_elsewhere(copy, bundles[1])
    forced = _check(copy).forced()
    assert not forced.refused
    aligned = forced.find("image-alignment")
    assert aligned is not None
    assert aligned.severity == "warning"
    assert "Forced" in aligned.remedy
    _set_first(np.nan)(copy, bundles[1])
    assert _check(copy).forced().refused


def test_no_image_accepts_the_slide_and_records_the_absence(copy: Path) -> None:
    shutil.rmtree(copy / "morphology_focus")
    assert _check(copy).refused
    report = _check(copy, no_image=True)
    assert not report.refused
    absent = report.find("image-absent")
    assert absent is not None
    assert absent.severity == "warning"


def test_damage_that_shows_only_when_read_is_a_finding(copy: Path) -> None:
    path = copy / IMAGE
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        pages = [file.pages.first, *file.pages.first.pages]
        spans = [(o, n) for page in pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    for offset, length in spans:
        data[offset : offset + length] = b"\0" * length
    path.write_bytes(data)
    report = _check(copy)
    damaged = report.find("slide-undamaged")
    assert damaged is not None
    assert damaged.severity == "refused"
    assert "morphology_focus_0000" in damaged.found


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False)
    made.command()(check_command)
    return made


def test_the_command_exits_0_for_a_good_slide_and_draws_it(
    app: typer.Typer, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    figure = tmp_path / "qc.png"
    result = CliRunner().invoke(app, [str(bundles[0]), "--figure", str(figure)])
    assert result.exit_code == 0, result.output
    assert "good: fine, 1 warning" in result.stdout
    assert figure.stat().st_size > 50_000


def test_the_command_checks_the_slides_of_a_samplesheet(
    app: typer.Typer, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    sheet = tmp_path / "sections.csv"
    sheet.write_text(f"sample,path,donor\none,{bundles[0]},d1\ntwo,{tmp_path / 'none'},d2\n")
    result = CliRunner().invoke(app, ["--samplesheet", str(sheet)])
    assert result.exit_code == 2
    assert "one: fine" in result.stdout
    assert "two: refused" in result.stdout


def test_the_command_exits_2_for_a_refused_slide(app: typer.Typer, copy: Path, bundles: tuple[Path, Path]) -> None:
    _matrix(_script_as_gene)(copy, bundles[1])
    _set_first(np.nan)(copy, bundles[1])
    result = CliRunner().invoke(app, [str(copy)])
    assert result.exit_code == 2
    assert "refused" in result.stdout
    assert "\x1b" not in result.stdout
    as_json = CliRunner().invoke(app, [str(copy), "--json"])
    assert as_json.exit_code == 2
    (report,) = json.loads(as_json.stdout)
    assert report["refused"]
    assert {"code", "severity", "what", "found", "expected", "remedy", "forceable"} == set(report["findings"][0])
