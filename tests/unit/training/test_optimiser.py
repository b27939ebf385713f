"""Which parameters decay, the course of the learning rate, and the averaged weights."""

import itertools

import pytest
import torch
from torch import nn

from spatia.training.optimiser import AveragedWeights, learning_rate, make_optimiser
from spatia.training.settings import TrainSettings

SETTINGS = TrainSettings(lr=1.0, warmup=0.1, lr_end=0.02, weight_decay=0.3)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.genes = nn.Embedding(4, 3)
        self.channel_embedding = nn.Parameter(torch.ones(2, 3))
        self.absence_token = nn.Parameter(torch.ones(1, 3))
        self.gate = nn.Linear(3, 3)
        self.patch_weight = nn.Parameter(torch.ones(2, 3))
        self.scalar = nn.Parameter(torch.ones(()))


def test_only_maps_between_spaces_decay() -> None:
    module = Parts()
    trained = dict(module.named_parameters())
    groups = make_optimiser(module, trained, SETTINGS).param_groups
    names = {id(value): name for name, value in trained.items()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    assert decayed == {"linear.weight", "patch_weight"}
    assert sum(len(group["params"]) for group in groups) == len(trained)


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(step / 100, SETTINGS) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 9
    assert rates[54] == pytest.approx(0.51, abs=0.01)  # half way down the cosine
    assert rates[-1] == pytest.approx(0.02)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_without_warm_up_it_starts_high() -> None:
    assert learning_rate(0.001, TrainSettings(lr=1.0, warmup=0.0)) == pytest.approx(1.0, abs=1e-4)


def test_the_average_is_the_formula() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    average = AveragedWeights({"w": weight}, decay=0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 5.0, 3.0] * 5):
        with torch.no_grad():
            weight.fill_(value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.average["w"].item() == pytest.approx(expected)


def test_applied_puts_the_weights_back_even_after_an_error() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    average = AveragedWeights({"w": weight}, decay=0.0)
    with torch.no_grad():
        weight.fill_(4.0)
    seen = []

    def fail() -> None:
        with average.applied():
            seen.append(weight.item())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (seen, weight.item()) == ([1.0], 4.0)
