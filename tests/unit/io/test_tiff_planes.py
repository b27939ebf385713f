"""The levels of a pyramid are found among the pages of a TIFF by what they show."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from spatia.io.tiff_planes import open_tiff


@pytest.mark.parametrize("reduced", [False, True])
def test_pictures_beside_the_levels_are_left_out(reduced: bool, tmp_path: Path) -> None:
    """Aperio's order and flags: levels do not say that they are reduced, the label and the macro picture do."""
    full = np.random.default_rng(0).integers(0, 255, (515, 386, 3), dtype=np.uint8)
    kind = {"photometric": "rgb"}
    with tifffile.TiffWriter(tmp_path / "slide.svs") as file:
        file.write(full, tile=(64, 64), **kind)
        file.write(full[::6, ::6].copy(), **kind)  # thumbnail
        for step in (2, 4):
            level = full[: 515 // step * step : step, : 386 // step * step : step].copy()
            file.write(level, tile=(64, 64), subfiletype=int(reduced), **kind)
        file.write(full[:90, :77].copy(), subfiletype=1, **kind)  # label
        file.write(full[:80, :300].copy(), subfiletype=9, **kind)  # macro
    levels = open_tiff(tmp_path / "slide.svs").levels
    assert [level[0].shape for level in levels] == [(3, 515, 386), (3, 257, 193), (3, 128, 96)]
