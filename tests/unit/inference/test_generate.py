"""What is refused before anything is drawn."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spatia.errors import CorpusError, SettingsError
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.settings import GeneratorConfig
from spatia.inference.asked import Asked
from spatia.inference.drawing import Drawing
from spatia.inference.generate import generate
from spatia.inference.generator import Generator


def test_a_share_to_keep_needs_a_real_cell_and_none_is_no_share(tmp_path: Path) -> None:
    def draw(keep: float | None) -> None:
        generate(tmp_path / "no corpus", tmp_path / "no generator", tmp_path / "out.zarr", keep=keep)

    with pytest.raises(SettingsError, match=r"keep=0\.5 without real"):
        draw(0.5)
    with pytest.raises(CorpusError, match="no corpus"):
        draw(None)


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Generator:
    monkeypatch.setattr("spatia.inference.generator.model_id", lambda _: "model")
    network = {"kind": "unet", "width": 16, "layers": 2, "heads": 2, "levels": 2}
    config = GeneratorConfig.model_validate(
        {"network": network, "conditions": ("genes",), "solver": {"evaluations": 2}}
    )
    space, model = ImageSpace(("DAPI",), 8, 0.4, (0.2,), (0.1,)), Any
    return Generator(Path("folder"), CellGenerator(config, space, {"genes": 3}).eval(), model, "id", {})  # type: ignore[arg-type]


def test_guidance_needs_training_rows_that_were_told_nothing(maker: Generator) -> None:
    asked = Asked(torch.arange(2), {"genes": torch.ones(2, 3)}, {"genes": torch.ones(2, dtype=torch.bool)})
    guided = Drawing(guidance=2.0)
    for facts in ({}, {"untold": 0.1}):  # generators of before do not say it
        maker.facts = facts
        assert len(maker.draw(asked, guided).images) == 2
    maker.facts = {"untold": 0.001}
    assert len(maker.draw(asked, Drawing(guidance=1.0)).images) == 2
    for draw in (maker.draw, lambda asked, how: maker.walk(asked, [0.0, 1.0], how)):
        with pytest.raises(SettingsError, match=r"guidance=2: folder was trained with 0.001 of its rows told nothing"):
            draw(asked, guided)
