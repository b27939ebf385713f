"""Images of the same cells before and after a change, with the same noise on both sides."""

from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.generation.samples import begin_at
from spatia.inference.asked import Asked
from spatia.inference.drawing import Drawing
from spatia.inference.generator import AT_ONCE, Generator, replace_evaluations
from spatia.screening.counts import embed_counts
from spatia.screening.perturbation import Counts
from spatia.screening.surroundings import NicheFollower

Images = NDArray[np.uint8]
AROUND: Final = ("niche", "tissue")


class Drawer(Protocol):
    """Draws chosen cells under conditions."""

    def __call__(self, cells: NDArray[np.int64], asked: Asked) -> Images:
        """Return (rows, draws, channels, y, x); ``cells`` says which cell each row of ``asked`` is."""


@dataclass(frozen=True)
class CellEncoder:
    """From counts of chosen cells to what the generator is told of them.

    Attributes
    ----------
    maker
        Generator with the representation model.
    base
        What is known of the chosen cells as they are.
    visible
        (cells, genes) which genes were measured.
    follower
        Embeds the surroundings again; None: they stay as in ``base``.
    shifts
        By condition, (cells, width): what is taken away from the embeddings of each chosen cell to align its section.
    """

    maker: Generator
    base: Asked
    visible: NDArray[np.bool_]
    follower: NicheFollower | None
    shifts: dict[str, Tensor]

    def __call__(self, cells: NDArray[np.int64], counts: Counts) -> Asked:
        """Return what is known of cells with other counts, (rows, genes) over the model's vocabulary."""
        at = torch.from_numpy(cells)
        conditions = {name: value[at] for name, value in self.base.conditions.items()}
        genes = embed_counts(self.maker.model, counts, self.visible[cells])
        conditions["genes"] = genes - self.shifts["genes"][at]
        if self.follower is not None and "niche" in conditions:
            conditions["niche"] = self.follower(cells, genes) - self.shifts["niche"][at]
        known = {name: torch.ones(len(cells), dtype=torch.bool) for name in conditions}
        return Asked(self.base.key[at], conditions, known)


class PathDrawer:
    """Walks the whole path for every image."""

    def __init__(self, maker: Generator, how: Drawing) -> None:
        self._maker, self._how = maker, how

    def __call__(self, cells: NDArray[np.int64], asked: Asked) -> Images:  # noqa: ARG002
        """Return the drawn images."""
        return self._maker.draw(asked, self._how).images


class MomentDrawer:
    r"""Reads the image that the network expects at one time of the path, at one evaluation for each image.

    The point :math:`x_t` is that of the cell as it is, walked to once for each cell and draw; the image expected from there under
    changed conditions is :math:`\hat x_1(x_t, t, c')`. At t = 0 that is the mean image of all cells with these conditions.

    Parameters
    ----------
    maker, how
        Generator, draws, solver, guidance.
    asked
        The chosen cells as they are.
    time
        From 0 to below 1.
    """

    def __init__(self, maker: Generator, how: Drawing, asked: Asked, time: float) -> None:
        maker.check_guidance(how.guidance)
        self._maker, self._how = maker, how
        self._time = max(time, maker.network.path.start)
        self._points = torch.stack([self._walk(asked, draw) for draw in range(how.draws)], dim=1)

    def _walk(self, asked: Asked, draw: int) -> Tensor:
        network, solver = self._maker.network, self._how.solver or self._maker.config.solver
        solver = replace_evaluations(solver, max(2, round(solver.evaluations * self._time)))
        found = []
        for start in range(0, len(asked), AT_ONCE):
            part = asked.part(start, start + AT_ONCE, network.device)
            x = begin_at(network, part.key, part.source, self._how.seed, draw)
            if self._time > network.path.start:
                x = network.sample(
                    x,
                    part.conditions,
                    part.known,
                    present=part.present,
                    solver=solver,
                    guidance=self._how.guidance,
                    stop=self._time,
                ).x
            found.append(x.cpu())
        return torch.cat(found)

    def __call__(self, cells: NDArray[np.int64], asked: Asked) -> Images:
        """Return the expected images."""
        points = self._points[torch.from_numpy(cells)]
        return np.stack([self._read(points[:, draw], asked) for draw in range(self._how.draws)], axis=1)

    @torch.inference_mode()
    def _read(self, points: Tensor, asked: Asked) -> Images:
        network, found = self._maker.network, []
        scale = network.config.guidance if self._how.guidance is None else self._how.guidance
        for start in range(0, len(asked), AT_ONCE):
            part = asked.part(start, start + AT_ONCE, network.device)
            x = points[start : start + AT_ONCE].to(network.device)
            t = torch.full((len(x),), self._time, device=x.device)
            image = network.path.image(network(x, t, part.conditions, part.known), x, t)
            if scale != 1:
                unaware = {name: torch.zeros_like(value) for name, value in part.known.items()}
                plain = network.path.image(network(x, t, part.conditions, unaware), x, t)
                image = plain + scale * (image - plain)
            found.append(self._maker.pixels(image))
        return np.concatenate(found)


def without_surroundings(asked: Asked) -> Asked:
    """Return what is known of cells but their surroundings."""
    kept = {name: value for name, value in asked.conditions.items() if name not in AROUND}
    return replace(asked, conditions=kept, known={name: asked.known[name] for name in kept})
