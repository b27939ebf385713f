"""What the loop asks of devices, beside the runs of two processes in tests/integration."""

from typing import Any

import pytest
import torch
from torch import nn

from spatia.errors import SettingsError
from spatia.training.parallel import Held, TermTotals, clip_gradients, make_fabric, padded
from spatia.training.settings import TrainSettings


class Module(nn.Module):
    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names, self.weight = names, nn.Parameter(torch.tensor(2.0))

    def forward(self, batch: Any, epoch: int) -> dict[str, Any]:
        term = type("Term", (), {"total": self.weight * batch + epoch, "count": torch.tensor(4)})
        return dict.fromkeys(self.names, term)


def test_terms_stand_in_the_order_of_the_weights() -> None:
    totals = TermTotals(Module("b"), ("a", "b"))(Held(3.0, 1))
    assert totals.tolist() == [[0.0, 7.0], [0.0, 4.0]]
    assert totals.requires_grad


def test_a_term_without_a_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Module returned terms without a weight: \['c'\]"):
        TermTotals(Module("c"), ("a", "b"))(Held(3.0, 1))


def test_clipping_equals_that_of_torch() -> None:
    parameters = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(2))]
    for parameter in parameters[:2]:
        parameter.grad = torch.randn_like(parameter)
    copies = [nn.Parameter(value.detach().clone()) for value in parameters[:2]]
    for copy, parameter in zip(copies, parameters[:2], strict=True):
        assert parameter.grad is not None
        copy.grad = parameter.grad.clone()
    expected = torch.nn.utils.clip_grad_norm_(copies, 0.5)
    assert clip_gradients(parameters, 0.5) == pytest.approx(expected.item())
    for copy, parameter in zip(copies, parameters[:2], strict=True):
        torch.testing.assert_close(parameter.grad, copy.grad)
    assert clip_gradients(parameters, 100.0) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(("n_batches", "expected"), [(2, "ab"), (4, "ab??")])
def test_padding(n_batches: int, expected: str) -> None:
    found = list(padded("ab", n_batches, lambda: "?"))
    assert "".join(batch for batch, _ in found) == expected
    assert [counts for _, counts in found] == [batch != "?" for batch in expected]


def test_processes_of_torchrun_must_be_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"devices=3, but torchrun or SLURM started 2 process\(es\) on each of 2"):
        make_fabric(TrainSettings(devices=3, accelerator="cpu"))


def test_slurm_says_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}
    rank = {
        "SLURM_PROCID": "4",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_NODELIST": "a[1-2]",
        "SLURM_JOB_ID": "7",
    }
    for name, value in {**slurm, **rank}.items():
        monkeypatch.setenv(name, value)
    fabric = make_fabric(TrainSettings(accelerator="cpu"))
    assert (fabric.world_size, fabric.global_rank, fabric.local_rank) == (6, 4, 1)


def test_a_device_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SettingsError, match="accelerator=cuda"):
        make_fabric(TrainSettings(accelerator="cuda"))
