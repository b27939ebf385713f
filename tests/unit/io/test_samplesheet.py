"""A samplesheet names sections without losing a column, and says line and column of what is wrong."""

from pathlib import Path

import pytest

from spatia.errors import SlideError
from spatia.io.samplesheet import read_samplesheet
from spatia.io.source import Source

GOOD = """sample,path,counts,image,um_per_px,donor,channels,no_image,image_origin_x_um,stage
a,runs/a,,,,d1,,yes,,T1
b,,b.h5ad,/far/b.tif,0.5,d2,DAPI;CD45,,12.5,T2
"""


def sheet(folder: Path, text: str) -> Path:
    path = folder / "sections.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_column_arrives(tmp_path: Path) -> None:
    first, second = read_samplesheet(sheet(tmp_path, GOOD))
    assert first == Source("a", tmp_path / "runs/a", donor="d1", no_image=True, facts={"stage": "T1"})
    assert second.counts == tmp_path / "b.h5ad"
    assert second.image == Path("/far/b.tif")
    assert second.um_per_px == 0.5
    assert second.channels == ("DAPI", "CD45")
    assert second.image_origin_um == (12.5, 0.0)
    assert second.facts == {"stage": "T2"}


def test_a_table_of_positions_is_looked_for_beside_the_sheet(tmp_path: Path) -> None:
    generic, vendor = read_samplesheet(sheet(tmp_path, "sample,counts,path,cells\na,a.h5,,cells.csv\nb,,outs,12000\n"))
    assert generic.facts == {"cells": str(tmp_path / "cells.csv")}
    assert vendor.facts == {"cells": "12000"}


@pytest.mark.parametrize(
    "text,message",
    [
        ("sample,donor\na,d\n", "line 1: columns"),
        ("sample,path\n", "no section in it"),
        ("sample,path,path\na,b,c\n", "occur twice"),
        ("sample,path\na,b\na,c\n", "line 3: sample 'a' is named twice"),
        ("sample,path\na\n", "line 2: 1 values; expected 2"),
        ("sample,path,um_per_px\na,b,half\n", "line 2, column 'um_per_px': 'half'"),
        ("sample,path,um_per_px\na,b,-1\n", "expected a positive number"),
        ("sample,path\n../up,b\n", "cannot name a sample"),
        ("sample,path,counts\na,,\n", "column 'path': empty, and so is 'counts'"),
        ("sample,path,measure\na,b,protein\n", "expected one of counts, intensity"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=message):
        read_samplesheet(sheet(tmp_path, text))


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="not a readable samplesheet"):
        read_samplesheet(tmp_path / "none.csv")


def test_a_misspelt_column_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sheet = tmp_path / "s.csv"
    sheet.write_text("sample,path,doner,batch\na,a,d1,7\n", "utf-8")
    with caplog.at_level("WARNING", "spatia"):
        (source,) = read_samplesheet(sheet)
    assert "column 'doner' is kept as a fact; did you mean 'donor'?" in caplog.text
    assert "batch" not in caplog.text
    assert source.facts == {"doner": "d1", "batch": "7"}


@pytest.mark.parametrize(
    "text",
    [
        "sample,path,stage\na,runs/a,T1\nb,runs/../runs/a,T2\n",
        "sample,counts,image\na,a.h5ad,\nb,a.h5ad,b.tif\n",
        "sample,path,bin\na,outs,008um\nb,outs,008um\n",
    ],
)
def test_a_slide_in_two_rows_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"lines 2 and 3: 'a' and 'b' are one slide.*Remove one of the rows"):
        read_samplesheet(sheet(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "sample,path,bin\na,outs,008um\nb,outs,016um\n",
        "sample,path,z_index\na,outs,1\nb,outs,2\n",
        "sample,counts,only\na,a.h5ad,fov=1\nb,a.h5ad,fov=2\n",
        "sample,path,table_element\na,a.zarr,one\nb,a.zarr,two\n",
    ],
)
def test_two_rows_may_read_different_parts_of_a_slide(text: str, tmp_path: Path) -> None:
    assert len(read_samplesheet(sheet(tmp_path, text))) == 2


@pytest.mark.parametrize("missing", ["NA", "NaN", "n/a", "NULL", ""])
def test_a_text_that_is_not_known_is_none(missing: str, tmp_path: Path) -> None:
    (source,) = read_samplesheet(
        sheet(tmp_path, f"sample,path,donor,disease,platform,stage\na,a,{missing},{missing},{missing},NA\n")
    )
    assert source == Source("a", tmp_path / "a", facts={"stage": "NA"})
