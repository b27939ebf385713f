"""The grain of drawn images is set to that of real ones, by brightness, and never without being fitted."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from spatia.generation.grain import BINS, LEAST_IMAGES, Grain, _edges, _variance_by_rank

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


# --- pixels of equal brightness, such as a black ground


def cells(radius: float, seed: int) -> Tensor:
    """One channel: a grainy disc on black, about half of the pixels."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(PX), torch.arange(PX), indexing="ij")
    distance = ((y - PX / 2 + 0.5) ** 2 + (x - PX / 2 + 0.5) ** 2).sqrt()
    shade = torch.sigmoid((radius + 0.6 * torch.randn(N, 1, 1, generator=rng) - distance) * 1.5)
    images = 140 * shade - 3 + 6 * shade * torch.randn(N, PX, PX, generator=rng)
    return images.round().clamp(0, 255).to(torch.uint8)[:, None]


@pytest.mark.parametrize("radius", [7.9, 7.5, 7.1])
def test_a_black_ground_stays_black(radius: float) -> None:
    """Where it is larger than that of real images, too, and some of it is compared with the edges of real cells."""
    real, drawn, grain = cells(7.9, 0), cells(radius, 1), Grain(1)
    grain.fit(drawn, real, torch.ones(N, 1, dtype=torch.bool))
    after = grain(drawn, torch.arange(N), 0)
    corner = after[..., :3, :3].float()
    assert corner.mean() < 0.5
    assert corner.max() <= 3


def test_a_ground_with_grain_becomes_as_even_as_the_black_one_of_real_images() -> None:
    rng = torch.Generator().manual_seed(2)
    real, grain = cells(7.9, 0), Grain(1)
    drawn = (real + torch.randint(0, 9, real.shape, generator=rng) * (real == 0)).to(torch.uint8)
    grain.fit(drawn, real, torch.ones(N, 1, dtype=torch.bool))
    after = grain(drawn, torch.arange(N), 0)
    before, left = (images[..., :3, :3].float().std() for images in (drawn, after))
    assert left < 0.6 * before  # what is coarser than grain stays


def test_each_bin_is_given_the_real_variance_of_the_ranks_that_it_takes() -> None:
    """A quarter of the drawn ones are equal, and so are the real ones of the darkest half."""
    n = 1600
    low, fine = torch.arange(n).float(), torch.ones(n)
    own_low, own_fine = low.clamp(min=n / 2), torch.where(low < n / 4, 4.0, 1.0)
    edges = _edges(low.clamp(min=n / 4))
    count = torch.bincount(torch.searchsorted(edges, low.clamp(min=n / 4), right=True), minlength=BINS)
    assert count.max() == pytest.approx(n / 4, abs=2)
    wanted = _variance_by_rank(own_low, own_fine, count)
    assert wanted[count == count.max()].item() == pytest.approx((16 + 1) / 2, rel=0.01)
    assert wanted[-1].item() == fine.square().mean().item()
