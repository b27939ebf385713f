"""What is refused before anything is drawn."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from spatia.data.vocabulary import Vocabulary
from spatia.errors import CorpusError, ModelError, SettingsError
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.settings import GeneratorConfig, SolverSettings
from spatia.inference.asked import Asked, RealStart
from spatia.inference.drawing import Drawing, make_drawing
from spatia.inference.generate import generate
from spatia.inference.generator import Generator
from spatia.inference.profiles import check_genes
from spatia.inference.wanted import Wanted


def test_a_share_to_keep_needs_a_real_cell_and_none_is_no_share(tmp_path: Path) -> None:
    def draw(keep: float | None) -> None:
        generate(tmp_path / "no corpus", tmp_path / "no generator", tmp_path / "out.zarr", keep=keep)

    with pytest.raises(SettingsError, match=r"keep=0\.5 without real"):
        draw(0.5)
    with pytest.raises(CorpusError, match="no corpus"):
        draw(None)


def make(monkeypatch: pytest.MonkeyPatch, channels: tuple[str, ...] = ("DAPI",), **more: Any) -> Generator:
    monkeypatch.setattr("spatia.inference.generator.model_id", lambda _: "model")
    network = {"kind": "unet", "width": 16, "layers": 2, "heads": 2, "levels": 2}
    config = GeneratorConfig.model_validate(
        {"network": network, "conditions": ("genes",), "solver": {"evaluations": 2}, **more}
    )
    n, model = len(channels), Any
    space = ImageSpace(channels, 8, 0.4, (0.2,) * n, (0.1,) * n)
    torch.manual_seed(0)
    made = CellGenerator(config, space, dict.fromkeys(config.told, 3)).eval()
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
        ({"guidance": float("nan")}, "guidance is nan; expected a number"),
        ({"guidance": float("inf")}, "guidance is inf; expected a number"),
        ({"solver": "heun"}, "solver is 'heun'; expected SolverSettings"),
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


def test_a_solver_goes_by_its_name_and_the_rest_is_the_generators() -> None:
    own = SolverSettings(kind="midpoint", evaluations=6, early=3.0)
    assert make_drawing(own).solver is None
    assert make_drawing(own, evaluations=10).solver == own.model_copy(update={"evaluations": 10})
    assert make_drawing(own, solver="euler").solver == own.model_copy(update={"kind": "euler"})
    given = SolverSettings(evaluations=4)
    assert make_drawing(own, solver=given).solver == given
    assert make_drawing(own, solver=given, evaluations=8).solver == given.model_copy(update={"evaluations": 8})
    assert make_drawing(own, draws=3, seed=4) == Drawing(3, 4)
    for options, said in (
        ({"solver": "rk4"}, "solver: kind is 'rk4'"),
        ({"evaluations": 0}, "solver: evaluations is 0"),
        (
            {"guidence": 2.0},
            "'guidence' is no option of a drawing; there are: align, draws, drop, evaluations, guidance",
        ),
    ):
        with pytest.raises(SettingsError, match=said):
            make_drawing(own, **options)


def wanted(**columns: list[str]) -> Wanted:
    """Four cells of two sections; one id is in both."""
    sample = np.array(["one", "one", "one", "two"], object)
    ids = np.array(["c", "a", "b", "a"], object)
    more = {name: np.array(values, object) for name, values in columns.items()}
    return Wanted(sample, np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0]), ids, more)


def test_cells_are_asked_for_in_any_order_and_again() -> None:
    found = wanted().one_each(["b", "c", "b"])
    assert found.cell_id.tolist() == ["b", "c", "b"]
    assert found.row.tolist() == [2, 0, 2]
    assert wanted().only(["b", "c", "b"]).cell_id.tolist() == ["c", "b"]  # of a store, whose rows say which they are
    with pytest.raises(SettingsError, match=r"cell 'a' is in 2 sections: one, two. Say which .* sections=\['one'\]"):
        wanted().one_each(["c", "a"])
    for cells in ([], "a"):
        with pytest.raises(SettingsError, match="expected a list of one or more cell ids"):
            wanted().one_each(cells)
    with pytest.raises(SettingsError, match="first 'z'"):
        wanted().one_each(["c", "z"])


def test_a_cell_that_no_other_can_be_exchanged_with_is_not_called_shuffled() -> None:
    both = wanted(transition=["up", "up", "down", "down"]).shuffled(0)
    assert both.row.tolist() == [1, 0, 0, 2]
    with pytest.raises(SettingsError, match="shuffle: cell 'a' is the only one of transition 'down' to be drawn"):
        wanted(transition=["up", "up", "up", "down"]).shuffled(0)
    with pytest.raises(SettingsError, match="shuffle: cell 'c' is the only one to be drawn"):
        wanted().take(slice(0, 1)).shuffled(0)


FLOW = {"task": "transition", "coupling": "ot", "conditions": ("transition", "delta_morphology")}
RESAMPLED = {"transitions": {"names": ["up"], "resampled_morphology": [[[0.0, 1.0, 2.0]] * 4]}}


def test_draws_that_would_be_equal_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = make(monkeypatch, **FLOW)
    flow.facts = RESAMPLED
    assert flow.differs_by(Drawing()) == "change"
    flow.check_draws(Drawing(4))
    with pytest.raises(SettingsError, match="knows the change of 4 resamples"):
        flow.check_draws(Drawing(5))
    deaf = Drawing(2, drop=("delta_morphology",))
    with pytest.raises(
        SettingsError,
        match=r"draws=2: folder begins at the cell itself and is told transition, neither aim nor delta_morphology",
    ):
        flow.check_draws(deaf)
    flow.check_draws(replace(deaf, draws=1))
    flow.network.grain.noise += 1  # what is drawn then differs in the noise of a camera
    assert flow.differs_by(deaf) == "grain"
    flow.check_draws(deaf)
    flow.network.grain.noise.zero_()
    flow.facts = {}
    with pytest.raises(SettingsError, match="does not know how sure its change is"):
        flow.check_draws(Drawing(2))
    assert make(monkeypatch).differs_by(Drawing(2)) == "noise"


def test_an_edit_without_what_it_is_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    edit = make(monkeypatch, task="transition", coupling="self", conditions=("aim", "niche"), path={"kind": "step"})
    edit.check_drop(("niche",))
    with pytest.raises(SettingsError, match="without it folder would give every cell back as it is"):
        edit.check_drop(("aim",))
    flow = make(monkeypatch, task="transition", coupling="ot", conditions=("aim", "control"))
    flow.check_drop(("aim",))


def test_times_are_a_way_from_0_to_1(maker: Generator) -> None:
    asked = Asked(torch.arange(2), {"genes": torch.ones(2, 3)}, {"genes": torch.ones(2, dtype=torch.bool)})
    assert maker.walk(asked, [0.5]).shape == (2, 1, 1, 8, 8)
    for times in ((), (0.5, 0.2), (0.0, 1.2), (float("nan"),)):
        with pytest.raises(SettingsError, match="expected one or more ascending times from 0 to 1"):
            maker.walk(asked, times)


def test_a_panel_is_enough_and_a_gene_of_many_is_not() -> None:
    genes = tuple(f"g{number}" for number in range(300))
    model: Any = SimpleNamespace(vocabulary=Vocabulary(genes, ()))
    check_genes(genes[:30], model, 0.5)  # the smaller of its panels
    check_genes([*genes, *(f"other{number}" for number in range(9000))], model, 0.5)
    check_genes(genes[:1], model, 0.0)
    with pytest.raises(ModelError, match="knows 1 of its 1 genes, and 300 in all; expected at least 15"):
        check_genes(genes[:1], model, 0.5)
    with pytest.raises(ModelError, match="knows 30 of its 70 genes, and 300 in all; expected at least 35"):
        check_genes([*genes[:30], *(f"other{number}" for number in range(40))], model, 0.5)
