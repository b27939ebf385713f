"""The grain of drawn images is set to that of real ones, by brightness, and never without being fitted."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from spatia.generation.grain import LEAST_IMAGES, Grain

N, PX = 48, 24


def pictures(bright_sd: float, dark_sd: float, seed: int) -> Tensor:
    """Two channels: halves of 40 and of 160 with noise of their own."""
    rng = torch.Generator().manual_seed(seed)
    level = torch.full((N, 2, PX, PX), 40.0)
    level[..., PX // 2 :] = 160
    sd = torch.where(level > 100, bright_sd, dark_sd)
    return (level + sd * torch.randn(level.shape, generator=rng)).round().clamp(0, 255).to(torch.uint8)


def halves(images: Tensor) -> tuple[float, float]:
    """Spread of the finest texture of the dark and of the bright half, away from the edge between them, as of independent noise."""
    values = images.float()
    fine = (values - avg_pool2d(values, 3, 1, 1)) * (9 / 8) ** 0.5
    return fine[..., 2:-2, 2 : PX // 2 - 3].std().item(), fine[..., 2:-2, PX // 2 + 3 : -2].std().item()


def fitted(present: Tensor | None = None) -> Grain:
    grain = Grain(2)
    there = torch.ones(N, 2, dtype=torch.bool) if present is None else present
    grain.fit(pictures(2, 9, 0), pictures(8, 3, 1), there)
    return grain


def test_drawn_grain_becomes_the_real_one_by_brightness() -> None:
    dark, bright = halves(fitted()(pictures(2, 9, 2), torch.arange(N), 0))
    assert dark == pytest.approx(3, rel=0.25)
    assert bright == pytest.approx(8, rel=0.15)


def test_what_is_coarser_than_grain_stays() -> None:
    before = pictures(2, 9, 2)
    after = fitted()(before, torch.arange(N), 0)
    left, right = (before.float() - after.float()).mean(dim=(0, 1, 2))[[4, -4]].tolist()
    assert abs(left) < 1
    assert abs(right) < 1


def test_noise_is_a_function_of_key_and_stream_in_any_batch() -> None:
    grain, images = fitted(), pictures(2, 9, 2)
    whole = grain(images, torch.arange(N), 3, 1)
    assert torch.equal(grain(images[5:7], torch.tensor([5, 6]), 3, 1), whole[5:7])
    assert not torch.equal(grain(images, torch.arange(N), 3, 2), whole)
    assert not torch.equal(grain(images, torch.arange(N) + N, 3, 1), whole)


def test_a_channel_that_too_few_images_have_is_left_alone() -> None:
    present = torch.ones(N, 2, dtype=torch.bool)
    present[LEAST_IMAGES - 1 :, 1] = False
    images = pictures(2, 9, 2)
    after = fitted(present)(images, torch.arange(N), 0)
    assert torch.equal(after[:, 1], images[:, 1])
    assert not torch.equal(after[:, 0], images[:, 0])


def test_equal_grain_changes_next_to_nothing() -> None:
    grain = Grain(2)
    grain.fit(pictures(5, 5, 0), pictures(5, 5, 1), torch.ones(N, 2, dtype=torch.bool))
    dark, bright = halves(grain(pictures(5, 5, 2), torch.arange(N), 0))
    assert (dark, bright) == (pytest.approx(5, rel=0.1), pytest.approx(5, rel=0.1))


def test_it_is_saved_with_the_weights() -> None:
    other = Grain(2)
    other.load_state_dict(fitted().state_dict())
    images = pictures(2, 9, 2)
    assert torch.equal(other(images, torch.arange(N), 0), fitted()(images, torch.arange(N), 0))
