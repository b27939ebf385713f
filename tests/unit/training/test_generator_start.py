"""A generator begins at another one of the same images, on the same scale."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spatia.errors import ModelError, SettingsError
from spatia.generation.checkpoint import Saved
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.settings import GeneratorConfig
from spatia.training import generator_start

NETWORK = {"kind": "transformer", "width": 16, "layers": 1, "heads": 2, "patch_px": 4, "stem": 8}


def make(scale: Any = "linear", mean: float = 0.2, px: int = 16, seed: int = 0) -> CellGenerator:
    torch.manual_seed(seed)
    config = GeneratorConfig.model_validate({"network": NETWORK, "conditions": ("genes",), "intensity": scale})
    return CellGenerator(config, ImageSpace(("DAPI",), px, 0.4, (mean,), (0.1,), scale), {"genes": 3})


def start(
    monkeypatch: pytest.MonkeyPatch,
    saved: CellGenerator,
    own: CellGenerator,
    *,
    facts: Any = None,
    named: Any = None,
    model: str = "model",
) -> dict[str, Any]:
    monkeypatch.setattr(generator_start, "load_generator", lambda _: Saved(saved, facts or {}, "id"))
    monkeypatch.setattr(generator_start, "model_id", lambda _: "model")
    return generator_start.start_from(own, Path("other"), model, named or {})


def test_another_scale_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"other: .* scale 'log', asked for 'linear'.*Set intensity=log"):
        start(monkeypatch, make("log"), make("linear"))
    with pytest.raises(ModelError, match="Start from a generator of the same images"):
        start(monkeypatch, make(px=8), make())


def test_each_keeps_the_mean_of_its_own_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees standard deviations from it, so that weights carry over and intensities are one's own."""
    saved, own = make(mean=0.5, seed=1), make(mean=0.2)
    assert start(monkeypatch, saved, own)["known"] == ["genes"]
    given, taken = saved.state_dict(), own.state_dict()
    assert all(torch.equal(taken[name], value) for name, value in given.items())
    assert own.intensities.mean.item() == pytest.approx(0.2)


def test_the_grain_of_another_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured on one's own images when training ends, and with grain_images=0 there is to be none."""
    saved, own = make(seed=1), make()
    saved.grain.gain.fill_(0.5)
    saved.grain.noise.fill_(3)
    start(monkeypatch, saved, own)
    assert (own.grain.gain == 1).all()
    assert not own.grain.noise.any()


def told(*names: str, features: tuple[str, ...] = (), seed: int = 0, **settings: Any) -> CellGenerator:
    """Told conditions of two columns each, with scales that are its own."""
    torch.manual_seed(seed)
    config = GeneratorConfig.model_validate({"network": NETWORK, "conditions": names, **settings})
    space = ImageSpace(("DAPI",), 16, 0.4, (0.2,), (0.1,), features=features)
    generator = CellGenerator(config, space, dict.fromkeys(names, 2))
    for name in names:
        generator.condition.measure(name, torch.randn(9, 2))
    return generator


TRANSITION: dict[str, Any] = {"task": "transition", "coupling": "ot"}
UP_DOWN, DOWN_UP = ({"transitions": {"names": names}} for names in (["up", "down"], ["down", "up"]))


@pytest.mark.parametrize(
    ("name", "settings", "own", "other"),
    [
        ("transition", TRANSITION, {"named": UP_DOWN}, {"named": DOWN_UP}),
        ("label", {}, {"named": {"labels": ["a", "b"]}}, {"named": {"labels": ["b", "c"]}}),
        ("genes", {}, {}, {"model": "another"}),
        ("delta_genes", TRANSITION, {}, {"model": "another"}),
        ("aim", TRANSITION, {"features": ("area", "mean")}, {"features": ("mean", "area")}),
    ],
)
def test_a_condition_is_known_where_its_columns_are(
    name: str, settings: dict[str, Any], own: dict[str, Any], other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of equal count are not the same numbers: of others, map, scale and absence token begin anew."""
    saved = told(name, "niche", features=own.get("features", ()), seed=1, **settings)
    prefixes = tuple(f"condition.{part}.{name}" for part in ("maps", "scales", "absence_tokens"))
    for case, known in ((own, True), (other, False)):
        new = told(name, "niche", features=case.get("features", ()), **settings)
        before = {key: value.clone() for key, value in new.state_dict().items()}
        more = {key: value for key, value in case.items() if key != "features"}
        found = start(monkeypatch, saved, new, facts=own.get("named"), **more)
        assert (name in found["known"], name in found["other"]) == (known, not known)
        given, now = saved.state_dict(), new.state_dict()
        own_keys = [key for key in now if key.startswith(prefixes)]
        assert len(own_keys) >= 5
        source = given if known else before
        assert all(torch.equal(now[key], source[key]) for key in own_keys)
        assert torch.equal(now["network.head.weight"], given["network.head.weight"])
