"""Options that name slides: none is taken and then forgotten."""

from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest

from spatia.cli.build import build
from spatia.cli.run import run
from spatia.cli.slide_options import sources_from, sources_of
from spatia.errors import SettingsError

DEFAULTS = sources_from.__kwdefaults__
GIVEN = [
    ("counts", Path("c.h5ad"), "--counts .* in columns counts"),
    ("image", Path("i.tif"), "--image .* in columns image"),
    ("um_per_px", 0.5, "--um-per-px .* in columns um_per_px"),
    ("outlines", Path("o.csv"), "--outlines .* in columns outlines"),
    ("labels", Path("l.tif"), "--labels .* in columns labels"),
    ("channels", "DAPI", "--channels .* in columns channels"),
    ("image_origin_um", (5.0, 0.0), "--image-origin-um .* in columns image_origin_x_um, image_origin_y_um"),
    ("measure", "intensity", "--measure .* in columns measure"),
    ("no_image", True, "--no-image .* in columns no_image"),
    ("platform", "xenium", "--platform .* in columns platform"),
]


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "sheet.csv"
    path.write_text("sample,path,measure\none,slides/one,intensity\n")
    return path


@pytest.mark.parametrize("name, value, said", GIVEN)
def test_an_option_of_slides_beside_a_samplesheet_is_refused(name: str, value: object, said: str, sheet: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        sources_of(sheet, None, **{**DEFAULTS, name: value})


def test_a_samplesheet_alone_is_read_and_slides_beside_it_are_refused(sheet: Path) -> None:
    (source,) = sources_of(sheet, [], **DEFAULTS)
    assert (source.sample, source.measure) == ("one", "intensity")
    with pytest.raises(SettingsError, match="not both"):
        sources_of(sheet, [Path("slide")], **DEFAULTS)


@pytest.mark.parametrize("command", [build, run])
def test_what_is_no_option_given_is_the_default_of_a_slide(command: Callable[..., None]) -> None:
    assert {name for name, _, _ in GIVEN} == set(DEFAULTS)
    options = signature(command).parameters
    assert {name: options[name].default for name in DEFAULTS} == DEFAULTS
