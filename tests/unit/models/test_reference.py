"""The spread of the training cells: the same wherever the cells lie."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spatia.models.reference import TrainingReference, _mean_and_precision

VIEW = ("image", "genes")


def test_ninety_nine_cells_of_a_hundred_stay_below_one() -> None:
    cells = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.2, 1.0]) + 3
    reference = TrainingReference(4)
    reference.fit(VIEW, cells)
    scores = reference.score(VIEW, cells)
    assert (scores <= 1).float().mean() == pytest.approx(0.99, abs=0.002)
    torch.testing.assert_close(reference.mean[0], cells.mean(dim=0))
    torch.testing.assert_close(torch.linalg.inv(reference.precision[0]), torch.cov(cells.T), rtol=0.2, atol=0.5)
    assert reference.score(VIEW, cells.mean(dim=0, keepdim=True) + 50) > 1


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_sixty_four_bits_are_the_processors(device: str) -> None:
    """Fake tensors know their device without one being there, and refuse what a real one would."""
    with FakeTensorMode():
        mean, precision = _mean_and_precision(torch.empty(40, 6, device=device))
    for value in (mean, precision):
        assert value.device.type == "cpu"
        assert value.dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it_is_fitted_to_cells_on_a_gpu() -> None:
    cells = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    here, there = TrainingReference(6), TrainingReference(6).to("cuda")
    here.fit(VIEW, cells)
    there.fit(VIEW, cells.to("cuda"))
    for name, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name].cpu(), value)
    assert there.score(VIEW, cells.to("cuda")).is_cuda
