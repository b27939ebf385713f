"""The generator: a network on a path, told what is known of a cell, that makes its image. It opens no file."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from spatia.errors import SettingsError
from spatia.generation.condition import ConditionEncoder
from spatia.generation.displacement import Displacement, Place
from spatia.generation.grain import Grain
from spatia.generation.guidance import guided
from spatia.generation.intensities import Intensities, Scale
from spatia.generation.path import make_path
from spatia.generation.settings import GeneratorConfig, NetworkSettings, Precision, SolverSettings
from spatia.generation.solvers import Solution, solve
from spatia.generation.transformer import DiffusionTransformer
from spatia.generation.unet import UNet

NETWORKS: Final[dict[str, Callable[[NetworkSettings, int, int], nn.Module]]] = {
    "transformer": DiffusionTransformer,
    "unet": UNet,
}

ONE_STEP: Final = SolverSettings(kind="euler", evaluations=1)


@dataclass(frozen=True)
class ImageSpace:
    """What images a generator makes.

    Attributes
    ----------
    channels
        Their names.
    px, um_per_px
        Side and pixel size.
    mean, sd
        Of each channel over the training images, on the scale (`spatia.generation.intensities`).
    scale
        Whether intensities or their logarithms are seen.
    features
        What is measured of them, by name, where that is told.
    """

    channels: tuple[str, ...]
    px: int
    um_per_px: float
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    scale: Scale = "linear"
    features: tuple[str, ...] = ()


class CellGenerator(nn.Module):
    """Makes images from conditions.

    Parameters
    ----------
    config
        Task, path, network, solver, guidance.
    space
        What the images are.
    widths
        Features of each condition by name, in the order of ``config.told``.
    channels
        Those that the training images have; the space may name more, of which nothing is learnt. None: all of the space.
    """

    learnt: Tensor

    def __init__(
        self,
        config: GeneratorConfig,
        space: ImageSpace,
        widths: Mapping[str, int],
        channels: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.space, self.widths = config, space, dict(widths)
        self.path = make_path(config.path)
        self.condition = ConditionEncoder(widths, config.network.width)
        self.network = NETWORKS[config.network.kind](config.network, len(space.channels), space.px)
        self.displacement = Displacement() if self.path.in_one_step else None
        self.intensities = Intensities(space.mean, space.sd, space.scale)
        self.grain = Grain(len(space.channels))
        learnt = torch.tensor([channels is None or name in channels for name in space.channels])
        self.register_buffer("learnt", learnt, persistent=False)  # a folder says it in its facts

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self.intensities.mean.device

    def scale(self, images: UInt8[Tensor, "rows channels y x"]) -> Float[Tensor, "rows channels y x"]:
        """Turn intensities 0…255 into standard deviations from the mean of the channel."""
        result: Tensor = self.intensities(images)
        return result

    def unscale(self, images: Float[Tensor, "rows channels y x"]) -> UInt8[Tensor, "rows channels y x"]:
        """Undo :meth:`scale`, rounded and kept within 0…255."""
        return self.intensities.back(images)

    def forward(
        self,
        x_t: Float[Tensor, "rows channels y x"],
        t: Float[Tensor, "rows"],
        conditions: Mapping[str, Tensor],
        told: Mapping[str, Bool[Tensor, "rows"]],
        present: Bool[Tensor, "rows channels"] | None = None,
    ) -> Float[Tensor, "rows channels y x"]:
        """Return what the network predicts; `path` turns it into a velocity or an image.

        Channels that are not learnt, or not ``present`` in a row, are seen as 0, in training as in drawing.
        """
        # convolutions are a third faster on a processor when the channels of a pixel lie side by side
        x_t = (x_t * self._there(present)).contiguous(memory_format=torch.channels_last)
        result: Tensor = self.network(x_t, self.condition(t, conditions, told))
        return result

    def _there(self, present: Tensor | None) -> Bool[Tensor, "rows channels 1 1"]:
        there = self.learnt[None] if present is None else self.learnt & present
        return there[:, :, None, None]

    def move(
        self, images: Float[Tensor, "rows channels y x"], growth: Float[Tensor, "rows two"], place: Place
    ) -> Float[Tensor, "rows channels y x"]:
        """Return the scaled images that an edit begins at, moved until their nuclei have grown so much (`Displacement`)."""
        return images if self.displacement is None else self.displacement(images, growth, place)

    @torch.no_grad()
    def sample(
        self,
        x_0: Float[Tensor, "rows channels y x"],
        conditions: Mapping[str, Tensor],
        told: Mapping[str, Bool[Tensor, "rows"]],
        *,
        present: Bool[Tensor, "rows channels"] | None = None,
        solver: SolverSettings | None = None,
        guidance: float | None = None,
        start: float | None = None,
        stop: float = 1.0,
        precision: Precision = "32-true",
    ) -> Solution:
        """Walk from x_0 to an image.

        Parameters
        ----------
        x_0
            Noise, or scaled images of source cells.
        conditions, told
            What is known, and of which rows.
        present
            Channels that the source cell of each row has; None: all. Those that are not there, or not learnt, stay as they are.
        solver, guidance
            Of the config where None.
        start, stop
            Times to walk between; the path's whole length by default.
        precision
            In which the network computes; the point on the path keeps 32 bits.

        Returns
        -------
        Scaled images (see :meth:`unscale`), and the evaluations each took; with guidance each is two passes of the network.
        """
        unaware = {name: torch.zeros_like(value) for name, value in told.items()}

        def velocity(x: Tensor, t: Tensor, rows: Tensor, tell: bool) -> Tensor:
            whole = len(rows) == len(x_0)
            given = conditions if whole else {name: value[rows] for name, value in conditions.items()}
            known = told if tell else unaware
            known = known if whole else {name: value[rows] for name, value in known.items()}
            there = present if whole or present is None else present[rows]
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                output = self(x, t, given, known, there)
            return self.path.velocity(output.float(), x, t) * self._there(there)

        scale = self.config.guidance if guidance is None else guidance
        if self.path.in_one_step and scale != 1:
            raise SettingsError(
                f"guidance={scale:g}: an edit is always told what to measure, so there is nothing to compare with."
            )
        return solve(
            guided(velocity, scale),
            x_0,
            ONE_STEP if self.path.in_one_step else solver or self.config.solver,
            start=self.path.start if start is None else start,
            stop=stop,
        )

    @torch.no_grad()
    def walk(
        self,
        x_0: Float[Tensor, "rows channels y x"],
        conditions: Mapping[str, Tensor],
        told: Mapping[str, Bool[Tensor, "rows"]],
        times: Sequence[float],
        *,
        present: Bool[Tensor, "rows channels"] | None = None,
        guidance: float | None = None,
        solver: SolverSettings | None = None,
        precision: Precision = "32-true",
    ) -> list[Float[Tensor, "rows channels y x"]]:
        """Return the points of the path at ascending times, the first of which is where it begins."""
        points = [x_0]
        for now, then in pairwise(times):
            part = self.sample(
                points[-1],
                conditions,
                told,
                present=present,
                start=now,
                stop=then,
                guidance=guidance,
                solver=solver,
                precision=precision,
            )
            points.append(part.x)
        return points
