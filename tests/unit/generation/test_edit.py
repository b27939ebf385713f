"""Editing: a cell is changed until it measures what is asked, and nothing else of it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.generation.condition import ConditionEncoder
from spatia.generation.displacement import BANDS, Displacement, Place, fetch, move
from spatia.generation.distortion import distort, reshape
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.intensities import Intensities, measure
from spatia.generation.nuclei import long_axis, of_masks, of_measurements
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
    space = ImageSpace(("DAPI",), PX, 0.4, mean, sd, config.scale, ("DAPI_mean",))
    generator = CellGenerator(config, space, {"aim": 1})
    for name, values in batch.conditions.items():
        generator.condition.measure(name, values)
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
    images, inside, some = batch.target / 255, batch.inside, torch.tensor([5, 2])
    whole = distort(images, inside, batch.key, 7)
    torch.testing.assert_close(distort(images[some], inside[some], batch.key[some], 7), whole[some])
    assert not torch.equal(whole, distort(images, inside, batch.key, 8))
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1
    nucleus = disc(2).expand(ROWS, PX, PX)
    for every, of_some in zip(
        reshape(images, nucleus, batch.key, 7), reshape(images[some], nucleus[some], batch.key[some], 7), strict=True
    ):
        torch.testing.assert_close(of_some, every[some])


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
    nothing = torch.zeros_like(disc().expand(100, PX, PX))
    images = batch.target / 255
    without = distort(images, None, batch.key, 0)
    torch.testing.assert_close(distort(images, nothing, batch.key, 0), without)
    assert ((without - images).abs()[:, 0, 0, 0] > 1e-3).float().mean() > 0.4


def test_a_nucleus_is_reshaped_and_its_outline_goes_with_it() -> None:
    rows = 200
    nucleus = disc(3).expand(rows, PX, PX)
    images, after = reshape(nucleus[:, None] * 0.5 + 0.1, nucleus, torch.arange(rows), 0)
    grown = after.float().mean(dim=(1, 2)) / nucleus.float().mean(dim=(1, 2))
    assert 0.2 < grown.std() < 0.6
    assert images[:, 0][after].mean() > 0.45
    assert images[:, 0, 0].std() < 1e-3  # far from it nothing moves
    same, nothing = reshape(images, torch.zeros_like(nucleus), torch.arange(rows), 0)
    torch.testing.assert_close(same, images)
    assert not bool(nothing.any())


def test_grain_stays_where_it_is() -> None:
    noise = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    line = torch.linspace(-1, 1, 32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    grid = (torch.stack([x, y], dim=-1) * 0.9)[None].expand(8, 32, 32, 2)
    assert float(move(noise, grid).std()) == pytest.approx(float(noise.std()), rel=0.1)
    assert fetch(noise, grid).std() < 0.75 * noise.std()
    disc_of = (x**2 + y**2 < 0.25).float().expand(8, 1, 32, 32)
    grown = move(disc_of, grid)
    assert float(grown.sum()) == pytest.approx(float(disc_of.sum()) / 0.81, rel=0.05)


# --- size and length of nuclei


def ellipse(across: float, along: float, angle: float = 0.0, px: int = 64, left: float = 0.0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(px) - px / 2 + 0.5, torch.arange(px) - px / 2 + 0.5 + left, indexing="ij")
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return ((v / across) ** 2 + (u / along) ** 2 < 1)[None]


def test_masks_and_measurements_say_the_same_growth() -> None:
    names = ("DAPI_mean", "nucleus_area_um2", "nucleus_eccentricity")
    flat = (1 - (16 / 25) ** 2) ** 0.5
    by_name = of_measurements(torch.tensor([[9.0, np.pi * 100, 0.0], [5.0, np.pi * 144, flat]]), names)
    by_mask = of_masks(ellipse(19.2, 30)) - of_masks(ellipse(20, 20))
    torch.testing.assert_close((by_name[1] - by_name[0])[None], by_mask, atol=0.03, rtol=0)
    assert by_mask[0].tolist() == pytest.approx([np.log(1.44), np.log(25 / 16)], abs=0.03)
    assert bool(of_measurements(torch.ones(2, 1), ("DAPI_mean",)).isnan().all())


def test_what_has_no_nucleus_does_not_move() -> None:
    images, nothing = ellipse(20, 20)[:, None].float(), torch.zeros(1, 64, 64, dtype=torch.bool)
    assert bool(of_masks(nothing).isnan().all())
    learn = Displacement()
    torch.nn.init.ones_(learn.stretch.weight)
    torch.testing.assert_close(learn(images, torch.full((1, 2), torch.nan), Place.of(ellipse(20, 20))), images)
    torch.testing.assert_close(learn(images, torch.ones(1, 2), Place.of(nothing)), images)


def test_an_edit_learns_to_make_a_nucleus_as_large_as_it_is_told() -> None:
    """Blobs of random size off the middle: what moves them, trained alone, takes a known change back."""
    px, rows = 32, 64
    line = torch.arange(px) - px / 2 + 0.5
    distance = (line[:, None] ** 2 + (line[None] - 3) ** 2).sqrt()

    def blobs(radius: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((radius[:, None, None] - distance) * 2)[:, None]

    def growth(of_radius: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(2 * of_radius.log()[:, None], (0, 1))

    learn, random = Displacement(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(learn.parameters(), 3e-3)
    for _ in range(200):
        aim = 4 + 4 * torch.rand(rows, generator=random)
        share = 0.75 + 0.5 * torch.rand(rows, generator=random)
        shown = blobs(aim * share)
        loss = (learn(shown, growth(1 / share), Place.of(shown[:, 0] > 0.5)) - blobs(aim)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    before = blobs(torch.full((2,), 6.0))
    after = learn(before, growth(torch.tensor([1.2, 1.0])), Place.of(before[:, 0] > 0.5))
    assert (after.sum(dim=(1, 2, 3)) / before.sum(dim=(1, 2, 3))).tolist() == pytest.approx([1.44, 1.0], rel=0.08)


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_a_nucleus_grows_longer_along_its_own_axis(angle: float) -> None:
    nucleus = ellipse(8, 12, angle, px=48, left=4)
    learn, place = Displacement(), Place.of(nucleus)
    with torch.no_grad():
        learn.stretch.weight[len(BANDS) :, 1] = -0.1
    assert float(torch.atan2(place.axis[0, 1], place.axis[0, 0])) / 2 % np.pi == pytest.approx(angle, abs=0.05)
    assert place.middle[0].tolist() == pytest.approx([-8 / 47, 0.0], abs=0.01)
    after = learn(nucleus[:, None].float(), torch.tensor([[0.0, 0.4]]), place)[:, 0] > 0.5
    grown = of_masks(after) - of_masks(nucleus)
    assert grown[0, 1] > 0.15
    assert abs(float(grown[0, 0])) < 0.1
    torch.testing.assert_close(long_axis(after), place.axis, atol=0.1, rtol=0)


def test_a_round_mask_has_no_long_axis() -> None:
    assert long_axis(ellipse(10, 10)).abs().max() < 0.1


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
