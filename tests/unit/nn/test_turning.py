"""Turned crops: eight ways, whole rows alike, and the same for a row in any company."""

import torch

from spatia.nn.turning import WAYS, turned

KEYS = torch.arange(400)
IMAGE = torch.arange(2 * 5 * 5).view(2, 5, 5)


def eight_ways(image: torch.Tensor) -> list[torch.Tensor]:
    quarters = [torch.rot90(image, quarter, (-2, -1)) for quarter in range(4)]
    return [*quarters, *(one.flip(-1) for one in quarters)]


def test_every_way_comes_as_often_and_no_other() -> None:
    (found,) = turned([IMAGE.expand(len(KEYS), -1, -1, -1)], KEYS, 0, 1)
    assert found is not None
    counts = [sum(bool(torch.equal(row, way)) for row in found) for way in eight_ways(IMAGE)]
    assert sum(counts) == len(KEYS)  # an image without symmetry: each row is one of them
    assert len(counts) == WAYS
    assert min(counts) > 0.6 * len(KEYS) / WAYS


def test_what_belongs_to_a_row_is_turned_alike_and_absence_stays() -> None:
    images, mask = IMAGE.expand(len(KEYS), -1, -1, -1), IMAGE[0].expand(len(KEYS), -1, -1)
    image, absent, outline = turned([images, None, mask], KEYS, 3)
    assert absent is None
    assert image is not None
    assert outline is not None
    assert torch.equal(image[:, 0], outline)


def test_a_row_is_turned_the_same_alone_and_otherwise_in_another_epoch() -> None:
    images = IMAGE.expand(len(KEYS), -1, -1, -1)
    (together,), (alone,) = turned([images], KEYS, 0, 1), turned([images[7:9]], KEYS[7:9], 0, 1)
    assert together is not None
    assert alone is not None
    assert torch.equal(together[7:9], alone)
    (later,) = turned([images], KEYS, 0, 2)
    assert later is not None
    same = sum(bool(torch.equal(a, b)) for a, b in zip(together, later, strict=True)) / len(KEYS)
    assert same < 0.25  # an eighth by chance
