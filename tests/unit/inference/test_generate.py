"""What is refused before anything is drawn."""

from pathlib import Path

import pytest

from spatia.errors import CorpusError, SettingsError
from spatia.inference.generate import generate


def test_a_share_to_keep_needs_a_real_cell_and_none_is_no_share(tmp_path: Path) -> None:
    def draw(keep: float | None) -> None:
        generate(tmp_path / "no corpus", tmp_path / "no generator", tmp_path / "out.zarr", keep=keep)

    with pytest.raises(SettingsError, match=r"keep=0\.5 without real"):
        draw(0.5)
    with pytest.raises(CorpusError, match="no corpus"):
        draw(None)
