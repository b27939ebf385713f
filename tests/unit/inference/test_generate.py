"""What is refused before anything is drawn."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spatia.errors import CorpusError, SettingsError
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.settings import GeneratorConfig
from spatia.inference.asked import Asked, RealStart
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


def make(monkeypatch: pytest.MonkeyPatch, channels: tuple[str, ...] = ("DAPI",)) -> Generator:
    monkeypatch.setattr("spatia.inference.generator.model_id", lambda _: "model")
    network = {"kind": "unet", "width": 16, "layers": 2, "heads": 2, "levels": 2}
    config = GeneratorConfig.model_validate(
        {"network": network, "conditions": ("genes",), "solver": {"evaluations": 2}}
    )
    n, model = len(channels), Any
    space = ImageSpace(channels, 8, 0.4, (0.2,) * n, (0.1,) * n)
    torch.manual_seed(0)
    made = CellGenerator(config, space, {"genes": 3}).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # layers that start at zero would hide what stands before them
            parameter += 0.1 * torch.randn(parameter.shape)
    return Generator(Path("folder"), made, model, "id", {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"precision": "bf16"}, "precision is 'bf16'; expected one of 32-true, bf16-mixed"),
        ({"drop": "niche"}, r"drop is 'niche'; expected a tuple of names of conditions, as \('niche',\)"),
        ({"draws": 0}, "draws is 0"),
        ({"guidance": -1.0}, "guidance is -1"),
    ],
)
def test_a_way_to_draw_that_would_mean_something_else_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Drawing(**given)


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Generator:
    return make(monkeypatch)


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


@pytest.mark.parametrize("lacks", [True, False])
def test_a_channel_that_the_real_cell_lacks_is_not_seen(lacks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    two = make(monkeypatch, ("DAPI", "RNA"))
    monkeypatch.setattr(Generator, "at_once", 2)
    conditions = {"genes": torch.randn(3, 3)}
    known = {"genes": torch.ones(3, dtype=torch.bool)}
    before = {"genes": torch.randn(3, 1, 3)}
    present = torch.ones(3, 1, 2, dtype=torch.bool)
    present[2, 0, 1] = not lacks
    black = torch.randint(60, 200, (3, 1, 2, 8, 8), dtype=torch.uint8)
    black[2, 0, 1] = 0
    grey = black.clone()
    grey[2, 0, 1] = 90
    drawn = [
        two.draw(Asked(torch.arange(3), conditions, known, real=RealStart(images, present, before))).images[:, 0]
        for images in (black, grey)
    ]
    assert (drawn[0][:2] == drawn[1][:2]).all()
    assert (drawn[0][2, 0] == drawn[1][2, 0]).all() == lacks
    assert (drawn[0][2, 1] == 0).all() == lacks
    assert (drawn[0][2, 0] != black[2, 0, 0].numpy()).any()
