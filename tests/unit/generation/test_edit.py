"""Editing: a cell is changed until it measures what is asked, and nothing else of it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.generation.condition import ConditionEncoder
from spatia.generation.distortion import distort
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.intensities import Intensities, measure
from spatia.generation.objective import GeneratorObjective, GeneratorWeights
from spatia.generation.samples import draw_samples
from spatia.generation.settings import DropSettings, GeneratorConfig

PX, ROWS = 16, 24
SMALL = {"kind": "unet", "width": 16, "layers": 2, "heads": 2, "levels": 2}


def disc(radius: float = 4.0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(PX), torch.arange(PX), indexing="ij")
    return ((y - PX / 2 + 0.5) ** 2 + (x - PX / 2 + 0.5) ** 2) < radius**2


def make_batch(seed: int = 0, rows: int = ROWS) -> GenerationBatch:
    """Discs of one channel on a grey ground; what is measured is their brightness."""
    random = torch.Generator().manual_seed(seed)
    inside = disc().expand(rows, PX, PX)
    brightness = torch.rand(rows, generator=random) * 140 + 60
    noise = torch.randint(-10, 10, (rows, 1, PX, PX), generator=random)
    images = (torch.where(inside[:, None], brightness[:, None, None, None], 30) + noise).clamp(0, 255).to(torch.uint8)
    aim = images[:, 0].float()[inside].view(rows, -1).mean(dim=1, keepdim=True)
    return GenerationBatch(
        section=torch.zeros(rows, dtype=torch.int64),
        row=torch.arange(rows),
        key=torch.arange(rows) + 1000 * seed,
        target=images,
        channels_present=torch.ones(rows, 1, dtype=torch.bool),
        conditions={"aim": aim},
        known={"aim": torch.ones(rows, dtype=torch.bool)},
        inside=inside,
    )


def make_generator(batch: GenerationBatch, **settings: Any) -> CellGenerator:
    config = GeneratorConfig.model_validate({"task": "transition", "coupling": "self", "network": SMALL, **settings})
    mean, sd = measure(batch.target, batch.channels_present, config.scale)
    torch.manual_seed(0)
    generator = CellGenerator(config, ImageSpace(("DAPI",), PX, 0.4, mean, sd, config.scale), {"aim": 1})
    generator.condition.measure("aim", batch.conditions["aim"])
    return generator


# --- intensities


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_scale_and_back_is_the_same_image(scale: Any) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(3, 2, 16, 16)
    mean, sd = measure(images, torch.ones(3, 2, dtype=torch.bool), scale)
    intensities = Intensities(mean, sd, scale)
    scaled = intensities(images)
    assert abs(float(scaled.mean())) < 1e-5
    assert float(scaled.std()) == pytest.approx(1, abs=0.01)
    assert torch.equal(intensities.back(scaled), images)


def test_on_the_logarithm_a_difference_is_a_ratio() -> None:
    intensities = Intensities((0.0,), (1.0,), "log")
    one, two, four = (intensities(torch.full((1, 1, 1, 1), value)) for value in (50.0, 104.0, 212.0))
    assert (two - one).item() == pytest.approx((four - two).item(), abs=1e-6)  # 4 of 255 are added to each


def test_a_channel_that_no_row_has_is_left_alone() -> None:
    images = torch.randint(0, 255, (4, 2, 8, 8), dtype=torch.uint8)
    present = torch.tensor([[True, False]] * 4)
    mean, sd = measure(images, present, "log")
    assert (mean[1], sd[1]) == (0.0, 1.0)


# --- distortion


def test_a_distortion_is_a_function_of_the_row() -> None:
    batch = make_batch()
    images, inside = batch.target / 255, batch.inside
    whole = distort(images, inside, batch.key, 7)
    some = torch.tensor([5, 2])
    torch.testing.assert_close(distort(images[some], inside[some], batch.key[some], 7), whole[some])
    assert not torch.equal(whole, distort(images, inside, batch.key, 8))
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1


def test_mostly_the_cell_changes_and_not_its_surroundings() -> None:
    batch = make_batch(rows=400)
    images = batch.target / 255
    change = (distort(images, batch.inside, batch.key, 0) - images).abs()[:, 0]
    corner = change[:, 0, 0]
    assert (corner < 1e-3).float().mean() > 0.75  # the crop as a whole changes in a fifth of the rows
    inner = change[:, PX // 2, PX // 2]
    assert (inner > 1e-3).float().mean() > 0.5
    assert (change.flatten(1).amax(dim=1) < 1e-6).float().mean() < 0.3


def test_a_cell_without_outline_changes_as_a_whole() -> None:
    batch = make_batch(rows=100)
    nothing = torch.zeros_like(batch.inside)
    images = batch.target / 255
    torch.testing.assert_close(distort(images, nothing, batch.key, 0), distort(images, None, batch.key, 0))
    assert ((distort(images, None, batch.key, 0) - images).abs()[:, 0, 0, 0] > 1e-3).float().mean() > 0.4


# --- settings


def test_an_edit_is_one_step_on_logarithms_told_what_is_measured() -> None:
    config = GeneratorConfig.model_validate({"task": "transition", "coupling": "self"})
    assert (config.path.kind, config.scale, config.told) == ("step", "log", ("aim",))
    assert GeneratorConfig.model_validate(config.model_dump(mode="json")) == config
    assert GeneratorConfig.model_validate({"task": "transition"}) == config  # what a transition is unless more is said
    for more in ({"coupling": "ot"}, {"path": {"kind": "diffusion"}}, {"conditions": ("control",)}):
        other = GeneratorConfig.model_validate({"task": "transition", **more})
        assert (other.coupled != "self", other.scale) == (True, "linear")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"coupling": "self"}, "coupling=self with task=expression-to-image"),
        ({"task": "transition", "coupling": "self", "path": {"kind": "linear"}}, "an edit .* is one step"),
        ({"task": "transition", "path": {"kind": "step"}}, "an edit .* is one step"),
        ({"task": "transition", "coupling": "self", "conditions": ("niche",)}, "conditions without 'aim'"),
        ({"task": "transition", "coupling": "self", "conditions": ("aim", "control")}, "control is not known"),
    ],
)
def test_other_edits_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        GeneratorConfig.model_validate(settings)


# --- what is told


def test_what_was_not_measured_counts_as_the_mean() -> None:
    encoder = ConditionEncoder({"aim": 2}, 8)
    values = torch.tensor([[1.0, torch.nan], [3.0, 10.0], [5.0, 30.0]])
    encoder.measure("aim", values)
    scaled = encoder.scales["aim"](values)
    assert scaled.shape == (3, 4)
    assert scaled[0, 1] == scaled[0, 3] == 0
    torch.testing.assert_close(scaled[:, [0, 2]].mean(dim=0), torch.zeros(2), atol=1e-6, rtol=0)
    told = {"aim": torch.ones(3, dtype=torch.bool)}
    assert bool(encoder(torch.zeros(3), {"aim": values}, told).isfinite().all())


def test_a_faint_stain_is_told_as_finely_as_a_strong_one() -> None:
    encoder = ConditionEncoder({"aim": 1}, 8)
    values = torch.cat([torch.linspace(4, 8, 50), torch.linspace(100, 1000, 50)])[:, None]
    encoder.measure("aim", values)
    scaled = encoder.scales["aim"](torch.tensor([[5.0], [10.0]]))
    logarithm, plain = (scaled[1] - scaled[0]).tolist()
    assert logarithm > 10 * plain  # 5 → 10 is a doubling, and nothing beside 1,000


# --- learning to edit


@pytest.fixture(scope="module")
def learnt() -> CellGenerator:
    generator = make_generator(make_batch(), network={**SMALL, "width": 32}).train()
    weights = GeneratorWeights(flow=1.0, contrastive=0.0, morphology=0.0, adversarial=0.0)
    learn = GeneratorObjective(generator, weights, DropSettings(each=0.0, all=0.0), 0)
    optimiser = torch.optim.Adam(learn.parameters(), 3e-3)
    for epoch in range(150):
        optimiser.zero_grad()
        term = learn(make_batch(epoch), epoch)["flow"]
        (term.total / term.count).backward()
        optimiser.step()
    return generator.eval()


def edited(generator: CellGenerator, batch: GenerationBatch, aim: torch.Tensor) -> np.ndarray:
    """Return the cells with only what an edit changes, as `Generator.transition` draws them."""
    x_0 = generator.scale(batch.target)
    found, same = (generator.sample(x_0, {"aim": values}, batch.known) for values in (aim, batch.conditions["aim"]))
    assert found.evaluations.tolist() == [1] * len(batch)
    return generator.unscale(x_0 + found.x - same.x).numpy()


def test_asked_for_no_change_the_cell_is_the_same_to_the_bit(learnt: CellGenerator) -> None:
    batch = make_batch(999)
    assert np.array_equal(edited(learnt, batch, batch.conditions["aim"]), batch.target.numpy())


def test_the_cell_comes_to_measure_what_is_asked_and_its_surroundings_stay(learnt: CellGenerator) -> None:
    batch, inside = make_batch(999), disc().numpy()
    aim = batch.conditions["aim"]
    for factor in (0.7, 1.3):
        after = edited(learnt, batch, aim * factor)[:, 0]
        before = batch.target[:, 0].numpy().astype(float)
        reached = after[:, inside].mean(axis=1) / before[:, inside].mean(axis=1)
        assert reached.mean() == pytest.approx(factor, abs=0.12)
        corner = np.s_[:, :3, :3]
        assert np.abs(after[corner] - before[corner]).mean() < 6


def test_a_batch_without_outlines_is_learnt_from(learnt: CellGenerator) -> None:
    weights = GeneratorWeights(flow=1.0, contrastive=0.0, morphology=0.0, adversarial=0.0)
    learn = GeneratorObjective(learnt, weights, DropSettings(), 0)
    assert bool(learn(replace(make_batch(), inside=None), 0)["flow"].total.isfinite())


def test_sample_grids_show_the_changed_cell_and_only_channels_that_are_there(learnt: CellGenerator) -> None:
    batch = make_batch(3)
    samples = draw_samples(learnt, batch, batch.target, 0)
    assert samples.source is not None
    assert not torch.equal(samples.source, batch.target)
    assert (samples.generated.float() - batch.target).abs().mean() < (
        samples.source.float() - batch.target
    ).abs().mean()
    absent = replace(batch, channels_present=torch.zeros_like(batch.channels_present))
    samples = draw_samples(learnt, absent, batch.target, 0)
    assert samples.source is not None
    assert samples.generated.max() == samples.source.max() == 0
