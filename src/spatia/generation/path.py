r"""Paths from source to target, and what a network may predict on them. Source at t = 0, target at t = 1.

The network's output is turned into two things: the velocity :math:`\mathrm dx_t/\mathrm dt` that a solver follows, and the image
:math:`\hat x_1` that losses look at. The loss itself is the squared error of the velocity (of the noise where that is predicted).
"""

import math
from collections.abc import Callable
from typing import Final, Protocol

from jaxtyping import Float
from torch import Tensor

from spatia.errors import SettingsError
from spatia.generation.settings import PathSettings

LEAST: Final = 0.05  # of 1 - t, in a loss that is divided by it
LEAST_LEFT: Final = (
    1e-4  # of 1 - t, in a velocity: only the end itself is no division by 0, or a solver's last steps fall short
)
LEAST_SIGNAL: Final = 0.02  # of the share of the image, likewise

Images = Float[Tensor, "rows channels y x"]
Times = Float[Tensor, "rows"]


class Path(Protocol):
    """A way from x_0 to x_1.

    Attributes
    ----------
    start
        Time at which a solver begins.
    in_one_step
        There is no way between: one evaluation leads from source to target.
    """

    start: float
    in_one_step: bool

    def point(self, x_0: Images, x_1: Images, t: Times) -> Images:
        """Return x_t."""

    def error(self, output: Images, x_0: Images, x_1: Images, x_t: Images, t: Times) -> Images:
        """Return the square of what the network got wrong, for each pixel."""

    def velocity(self, output: Images, x_t: Images, t: Times) -> Images:
        """Return dx/dt as the network's output says."""

    def image(self, output: Images, x_t: Images, t: Times) -> Images:
        """Return the x_1 that the network's output says."""


class LinearVelocity:
    r"""Straight path, :math:`x_t = (1-t)x_0 + t x_1`; the network predicts :math:`u = x_1 - x_0`.

    Examples
    --------
    >>> import torch
    >>> path, one = LinearVelocity(), torch.ones(2, 1, 1, 1)
    >>> path.point(0 * one, one, torch.tensor([0.0, 1.0])).flatten().tolist()
    [0.0, 1.0]
    """

    start = 0.0
    in_one_step = False

    def point(self, x_0: Images, x_1: Images, t: Times) -> Images:
        """Return x_t."""
        s = _wide(t)
        return (1 - s) * x_0 + s * x_1

    def error(self, output: Images, x_0: Images, x_1: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """Squared error of the velocity."""
        return (output - (x_1 - x_0)).square()

    def velocity(self, output: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """The output itself."""
        return output

    def image(self, output: Images, x_t: Images, t: Times) -> Images:
        """Go on straight from x_t."""
        return x_t + (1 - _wide(t)) * output


class LinearImage(LinearVelocity):
    r"""Straight path; the network predicts x_1, of which :math:`u = (\hat x_1 - x_t)/(1-t)`.

    The loss is that of the velocity, so an error near the target weighs more. A small network learns images sooner than
    velocities, which are mostly noise.
    """

    def error(self, output: Images, x_0: Images, x_1: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """Squared error of the velocity that the image means."""
        return ((output - x_1) / _left(t, LEAST)).square()

    def velocity(self, output: Images, x_t: Images, t: Times) -> Images:
        """Return what leads to the predicted image."""
        return (output - x_t) / _left(t, LEAST_LEFT)

    def image(self, output: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """The output itself."""
        return output


class DiffusionVelocity:
    r"""Variance-preserving path, :math:`x_t = \sin(\tfrac\pi2 t)\,x_1 + \cos(\tfrac\pi2 t)\,\epsilon`.

    The network predicts :math:`v = \cos(\tfrac\pi2 t)\,x_1 - \sin(\tfrac\pi2 t)\,\epsilon`, which is :math:`\tfrac2\pi\,\mathrm dx_t/\mathrm dt`
    (Salimans and Ho 2022). The solver follows the probability flow.
    """

    start = 0.0
    in_one_step = False

    def point(self, x_0: Images, x_1: Images, t: Times) -> Images:
        """Return x_t."""
        signal, noise = _shares(t)
        return signal * x_1 + noise * x_0

    def error(self, output: Images, x_0: Images, x_1: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """Squared error of v."""
        signal, noise = _shares(t)
        return (output - (noise * x_1 - signal * x_0)).square()

    def velocity(self, output: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """Scale v to dx/dt."""
        return output * (math.pi / 2)

    def image(self, output: Images, x_t: Images, t: Times) -> Images:
        """Turn (x_t, v) back by the angle."""
        signal, noise = _shares(t)
        return signal * x_t + noise * output


class DiffusionNoise(DiffusionVelocity):
    r"""The same path; the network predicts the noise :math:`\epsilon` (Ho et al. 2020).

    At t = 0 the noise is x_0 itself and says nothing about the image, so a solver begins a little later.
    """

    start = 0.02

    def error(self, output: Images, x_0: Images, x_1: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """Squared error of the noise."""
        return (output - x_0).square()

    def velocity(self, output: Images, x_t: Images, t: Times) -> Images:
        """Return the velocity of the image and noise that the output means."""
        signal, noise = _shares(t)
        return (noise * self.image(output, x_t, t) - signal * output) * (math.pi / 2)

    def image(self, output: Images, x_t: Images, t: Times) -> Images:
        """Take the noise away."""
        signal, noise = _shares(t)
        return (x_t - noise * output) / signal.clamp(min=LEAST_SIGNAL)


class Step:
    """From source to target at once: the network predicts x_1 from x_0 and is told no time (0 in its place)."""

    start = 0.0
    in_one_step = True

    def point(self, x_0: Images, x_1: Images, t: Times) -> Images:  # noqa: ARG002
        """Return x_0."""
        return x_0

    def error(self, output: Images, x_0: Images, x_1: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """Squared error of the image."""
        return (output - x_1).square()

    def velocity(self, output: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """Return what one step of length 1 adds."""
        return output - x_t

    def image(self, output: Images, x_t: Images, t: Times) -> Images:  # noqa: ARG002
        """The output itself."""
        return output


PATHS: Final[dict[tuple[str, str], Callable[[], Path]]] = {
    ("linear", "velocity"): LinearVelocity,
    ("linear", "image"): LinearImage,
    ("step", "image"): Step,
    ("diffusion", "velocity"): DiffusionVelocity,
    ("diffusion", "noise"): DiffusionNoise,
}


def make_path(settings: PathSettings) -> Path:
    """Return the path of the settings.

    Raises
    ------
    SettingsError
        If there is no such path.
    """
    kind = (settings.kind, settings.predicted)
    if kind not in PATHS:
        raise SettingsError(f"path {kind}: there are {', '.join(map(str, PATHS))}.")
    return PATHS[kind]()


def _wide(t: Times) -> Tensor:
    return t.view(-1, 1, 1, 1)


def _left(t: Times, least: float) -> Tensor:
    return (1 - _wide(t)).clamp(min=least)


def _shares(t: Times) -> tuple[Tensor, Tensor]:
    angle = _wide(t) * (math.pi / 2)
    return angle.sin(), angle.cos()
