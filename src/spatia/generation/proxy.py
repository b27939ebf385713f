"""A network that reads measured morphology off an image, and what of it may be trusted."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Sequence
from math import isfinite
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spatia.errors import TrainingError
from spatia.generation.batch import GenerationBatch
from spatia.generation.intensities import Intensities
from spatia.models.losses import Term, masked_term

LIMIT: Final = 4.0  # standard deviations: a badly segmented cell must not rule the fit
WIDTHS: Final = (24, 48, 96)


class MorphologyProxy(nn.Module):
    r"""Scaled images to measured features, in standard deviations.

    The morphology of a generated image cannot be measured with a gradient: its mask is unknown. So a small convolutional network learns
    to read the features off real images, is judged on cells it has not seen, and only the features that it reads with
    :math:`R^2` above a stated bound take part in a loss. Without any, training stops: an untrained reader would be noise.

    Parameters
    ----------
    channels
        Of the images.
    features
        Names of the measured features.
    """

    feature_mean: Tensor
    feature_sd: Tensor
    r2: Tensor
    accepted: Tensor

    def __init__(self, channels: int, features: Sequence[str]) -> None:
        super().__init__()
        self.features, self.n_channels = tuple(features), channels
        layers: list[nn.Module] = []
        before = channels
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.GELU()]
            before = width
        self.convolutions = nn.Sequential(*layers)
        self.read = nn.Sequential(nn.Linear(2 * before, 64), nn.GELU(), nn.Linear(64, len(features)))
        for name, value in (("feature_mean", 0.0), ("feature_sd", 1.0), ("r2", float("nan"))):
            self.register_buffer(name, torch.full((len(features),), value))
        self.register_buffer("accepted", torch.zeros(len(features), dtype=torch.bool))

    def forward(self, images: Float[Tensor, "rows channels y x"]) -> Float[Tensor, "rows features"]:
        """Return the features that the images show."""
        found = self.convolutions(images)
        # mean and maximum: size and brightness are sums over the crop, texture is not
        result: Tensor = self.read(torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1))
        return result

    def standardise(self, morphology: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """Return measured features in standard deviations, kept within `LIMIT`."""
        return ((morphology - self.feature_mean) / self.feature_sd).clamp(-LIMIT, LIMIT)

    @torch.no_grad()
    def judge(
        self,
        predicted: Float[Tensor, "cells features"],
        morphology: Float[Tensor, "cells features"],
        measured: Bool[Tensor, "cells features"],
        least_r2: float,
    ) -> None:
        r"""Measure :math:`R^2` on held-out cells, and accept the features above ``least_r2``.

        Raises
        ------
        TrainingError
            If no feature is read that well.
        """
        target = self.standardise(morphology)
        for column in range(len(self.features)):
            seen = measured[:, column]
            truth, guess = target[seen, column].double(), predicted[seen, column].double()
            spread = (truth - truth.mean()).square().sum() if len(truth) > 1 else torch.zeros(())
            known = float(spread) > 1e-9
            self.r2[column] = float(1 - (truth - guess).square().sum() / spread) if known else float("nan")
        self.accepted.copy_(self.r2 >= least_r2)
        if not bool(self.accepted.any()):
            found = [
                (value, name) for value, name in zip(self.r2.tolist(), self.features, strict=True) if isfinite(value)
            ]
            shown = (
                ", ".join(f"{name} {value:.2f}" for value, name in sorted(found, reverse=True)[:3])
                or "none varies in them"
            )
            raise TrainingError(
                f"The morphology proxy reads no feature with R² ≥ {least_r2:g} on {len(predicted):,} held-out cells; best: {shown}. "
                "Train it longer (presentations.proxy), on a validation part of more cells if these are few, lower proxy_least_r2, or leave the term out with weights.morphology=0."
            )

    def summary(self) -> str:
        """Say what is read, for the log."""
        good = [
            f"{name} {value:.2f}"
            for name, value, taken in zip(self.features, self.r2.tolist(), self.accepted.tolist(), strict=True)
            if taken
        ]
        return f"{len(good)} of {len(self.features)} features: {', '.join(good)}"


class ProxyObjective(nn.Module):
    """The loss that trains a proxy on real images.

    Parameters
    ----------
    proxy
        Trained in place.
    intensities
        The scale of the images that the proxy is to read.
    channels
        Which channels the corpus has; the others are blank. None: all.
    """

    channels: Tensor

    def __init__(
        self,
        proxy: MorphologyProxy,
        intensities: Intensities,
        *,
        channels: Bool[Tensor, "channels"] | None = None,
    ) -> None:
        super().__init__()
        every = torch.ones(proxy.n_channels, dtype=torch.bool)
        self.register_buffer("channels", every if channels is None else channels, persistent=False)
        self.proxy, self.intensities = proxy, intensities

    def read(self, batch: GenerationBatch) -> Float[Tensor, "rows features"]:
        """Return the features that the target images show."""
        result: Tensor = self.proxy(self.intensities(batch.target) * self.channels[:, None, None])
        return result

    def forward(self, batch: GenerationBatch, epoch: int) -> dict[str, Term]:  # noqa: ARG002
        """Return the squared error of the measured features."""
        assert batch.morphology is not None
        assert batch.morphology_measured is not None
        error = (self.read(batch) - self.proxy.standardise(batch.morphology)).square()
        usable = batch.morphology_measured & batch.has_all(self.channels)[:, None]
        # without anything to read: an error of 0, rather than no loss at all
        counted = usable if bool(usable.any()) else ~usable
        return {"proxy": masked_term(error * usable, counted)}
