"""What a generator is told, as one vector a row: each condition can be absent, and is then a learned token of its own."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import math
from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from spatia.generation.noise import DROP
from spatia.generation.settings import AIM, DropSettings
from spatia.nn.hashing import hash_uniform

TIME_WAVES: Final = 64
FAINT: Final = 0.3  # of the median: below it a measurement counts as it is, above by its logarithm


class ConditionEncoder(nn.Module):
    r"""Sum of a time embedding and of one linear map a condition, then two layers.

    .. math:: c = \mathrm{MLP}\big(\tau(t) + \sum_k a_k W_k \hat c_k + (1 - a_k)\,e_k\big)

    Parameters
    ----------
    widths
        Features of each condition, by name; the order is that of the network.
    width
        Of the vector.

    Notes
    -----
    :math:`a_k` says whether a row has condition k; :math:`\hat c_k` is standardised with buffers that training measures; the absence
    token :math:`e_k` takes the place of what is not known or dropped, so nothing of a dropped condition passes on.
    """

    def __init__(self, widths: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.absence_tokens = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.02) for name in widths})
        scales: dict[str, _Scale] = {
            name: _SkewedScale(size) if name == AIM else _Scale(size) for name, size in widths.items()
        }
        self.scales = nn.ModuleDict(scales)
        self.maps = nn.ModuleDict({name: nn.Linear(scale.width, width) for name, scale in scales.items()})
        self.time = nn.Sequential(nn.Linear(TIME_WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.joint = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def measure(self, name: str, values: Float[Tensor, "rows width"]) -> None:
        """Take mean and spread of a condition from the rows that have it."""
        scale = self.scales[name]
        assert isinstance(scale, _Scale)
        scale.measure(values)

    def typical(self, name: str) -> Float[Tensor, "width"]:
        """Return the mean of a condition over training rows."""
        scale = self.scales[name]
        assert isinstance(scale, _Scale)
        return scale.mean[-self.widths[name] :]

    def forward(
        self,
        t: Float[Tensor, "rows"],
        conditions: Mapping[str, Tensor],
        told: Mapping[str, Bool[Tensor, "rows"]],
    ) -> Float[Tensor, "rows width"]:
        """Return the vector; a condition that is not given at all is absent for every row."""
        total = self.time(time_waves(t))
        for name in self.widths:
            absent = self.absence_tokens[name].expand(len(t), -1)
            if name in conditions:
                there = self.maps[name](self.scales[name](conditions[name]))
                absent = torch.where(told[name][:, None], there, absent)
            total = total + absent
        result: Tensor = self.joint(total)
        return result


class _Scale(nn.Module):
    """Standardises columns; those without spread become 0."""

    mean: Tensor
    inverse_sd: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("inverse_sd", torch.ones(width))

    def measure(self, values: Tensor) -> None:
        if len(values):
            sd = values.double().std(dim=0, unbiased=False)
            self.mean.copy_(values.double().mean(dim=0))
            self.inverse_sd.copy_(torch.where(sd > 1e-6, 1 / sd.clamp(min=1e-6), 0.0))

    def forward(self, values: Tensor) -> Tensor:
        # far outside what was seen in training nothing is known: keep within ten standard deviations
        return ((values - self.mean) * self.inverse_sd).clamp(-10, 10)


class _SkewedScale(_Scale):
    """Measurements, and beside them their logarithms in a way: a faint stain of one cell must not vanish beside a strong one of another.

    What was not measured is NaN, and becomes 0: the mean.
    """

    unit: Tensor

    def __init__(self, size: int) -> None:
        super().__init__(2 * size)
        self.register_buffer("unit", torch.ones(size))

    def measure(self, values: Tensor) -> None:
        typical = values.abs().nanmedian(dim=0).values.nan_to_num()
        self.unit.copy_(torch.where(typical > 0, FAINT * typical, 1.0))
        both = self._both(values)
        for column in range(both.shape[1]):
            seen = both[:, column][both[:, column].isfinite()].double()
            sd = seen.std(unbiased=False) if len(seen) else seen.new_zeros(())
            self.mean[column] = seen.mean() if len(seen) else 0.0
            self.inverse_sd[column] = 1 / sd if sd > 1e-6 else 0.0

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(self._both(values)).nan_to_num()

    def _both(self, values: Tensor) -> Tensor:
        return torch.cat([torch.asinh(values / self.unit), values], dim=1)


def time_waves(t: Float[Tensor, "rows"]) -> Float[Tensor, "rows waves"]:
    """Return sines and cosines of t, wavelengths from 4 down to 0.02, geometric."""
    n = TIME_WAVES // 2
    frequency = 2 * math.pi / 4 * 200.0 ** (torch.arange(n, device=t.device, dtype=torch.float32) / (n - 1))
    phase = t.float()[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=1).to(t.dtype)


def drop_conditions(
    known: Mapping[str, Bool[Tensor, "rows"]], keys: Int64[Tensor, "rows"], settings: DropSettings, *stream: int
) -> dict[str, Bool[Tensor, "rows"]]:
    """Say which rows are told which condition: each row drops each by itself, and some drop all of them.

    Parameters
    ----------
    known
        Which rows have it.
    keys, stream
        What the draw is a function of: (seed, epoch).

    Examples
    --------
    >>> known = {"genes": torch.ones(1000, dtype=torch.bool)}
    >>> told = drop_conditions(known, torch.arange(1000), DropSettings(each=0.2, all=0.0), 0)
    >>> round(told["genes"].float().mean().item(), 1)
    0.8
    """
    uniform = hash_uniform(keys, 1 + len(known), *stream, DROP)
    some = uniform[:, 0] >= settings.all
    return {name: known[name] & some & (uniform[:, 1 + k] >= settings.each) for k, name in enumerate(known)}
