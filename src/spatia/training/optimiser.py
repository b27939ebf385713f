"""AdamW with parameter groups, the course of the learning rate, and averaged weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spatia.training.parallel import local
from spatia.training.settings import LoopSettings

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
# Own names of parameters that are positions in a space rather than maps between spaces: decay would pull them to 0.
NOT_DECAYED = ("bias", "gate", "embedding", "token", "latent", "position", "scale")


def decays(module: nn.Module, full_name: str, parameter: Tensor) -> bool:
    """Say whether weight decay applies to a parameter of a module.

    Examples
    --------
    >>> layers = nn.ModuleDict({"first": nn.Linear(2, 2), "gate": nn.Linear(2, 2)})
    >>> [name for name, value in layers.named_parameters() if decays(layers, name, value)]
    ['first.weight']
    """
    path, _, name = full_name.rpartition(".")
    if parameter.ndim < 2 or isinstance(module.get_submodule(path), (nn.Embedding, *NORMS)):
        return False
    # a gate may also be a layer of that name
    return not any(word in name for word in NOT_DECAYED) and "gate" not in path.rpartition(".")[2]


def make_optimiser(module: nn.Module, trained: Mapping[str, nn.Parameter], settings: LoopSettings) -> torch.optim.AdamW:
    """Make AdamW over the trained parameters; weights decay, the rest (see :func:`decays`) does not."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for full_name, parameter in trained.items():
        groups[decays(module, full_name, parameter)].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": settings.weight_decay if decayed else 0.0}
            for decayed, parameters in groups.items()
            if parameters
        ],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
    )


def learning_rate(progress: float, settings: LoopSettings) -> float:
    """Return the learning rate at a share of a stage: a linear rise, then half a cosine down to ``lr_end``.

    Parameters
    ----------
    progress
        In (0, 1], after the step it is for: the first step already learns, the last ends the cosine.
    """
    if progress < settings.warmup:
        return settings.lr * progress / settings.warmup
    share = (progress - settings.warmup) / (1 - settings.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return settings.lr * (settings.lr_end + (1 - settings.lr_end) * cosine)


class AveragedWeights:
    r"""Exponential moving average of the trained parameters.

    .. math:: \bar w \leftarrow d \bar w + (1 - d) w, \qquad d = \min(\mathrm{decay}, (1 + t) / (10 + t))

    The decay grows with the step t, or the average of a run of a few hundred steps would still hold its random start.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], decay: float) -> None:
        self._trained, self._decay = trained, decay
        self.updates = 0
        self.average: dict[str, Tensor] = {name: value.detach().clone() for name, value in trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights after a step."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(
            [local(value) for value in self.average.values()],
            [local(value.detach()) for value in self._trained.values()],
            1 - decay,
        )
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Compute with the average; the weights of the training come back unchanged."""
        kept = {name: value.detach().clone() for name, value in self._trained.items()}
        self.put(self.average)
        try:
            yield
        finally:
            self.put(kept)

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Overwrite the trained parameters."""
        for name, parameter in self._trained.items():
            local(parameter.detach()).copy_(local(values[name]))
