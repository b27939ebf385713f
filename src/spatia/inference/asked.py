"""What a generator is asked for: cells, what is known of them, and how several draws of a transition differ."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from spatia.generation.displacement import Place
from spatia.generation.settings import AIM

CHANGES: Final = (AIM, "delta_morphology")  # conditions that say how morphology changes


@dataclass(frozen=True)
class Spread:
    """How far the mean change of training pairs moves where other cells weigh more.

    Attributes
    ----------
    resampled
        (transitions, resamples, features): what each resample asks for, less what all cells together do.
    number
        Transition of each row.
    """

    resampled: Float32[Tensor, "transitions resamples features"]
    number: Int64[Tensor, "rows"]

    def part(self, start: int, stop: int, device: torch.device) -> "Spread":
        """Return it for some rows, on a device."""
        return Spread(self.resampled.to(device), self.number[start:stop].to(device))

    def of_draw(self, draw: int) -> Float32[Tensor, "rows features"]:
        """Return what one draw asks for beyond that: one resample, the same for all cells of a transition."""
        return self.resampled[self.number, draw]


@dataclass(frozen=True)
class RealStart:
    """Real cells that a drawing begins at, in the place of noise.

    Attributes
    ----------
    images
        Intensities 0…255, one for each draw.
    present
        Which channels of them hold an image.
    conditions
        What is known of them, by name, (rows, draws, width).
    """

    images: UInt8[Tensor, "rows draws channels y x"]
    present: Bool[Tensor, "rows draws channels"]
    conditions: Mapping[str, Tensor]


@dataclass(frozen=True)
class Asked:
    """Cells to draw.

    Attributes
    ----------
    key
        One integer a cell: the noise is a function of it.
    conditions, known
        What is known of them, by name, and of which.
    source
        Images of the source cells, 0…255; None where paths begin at noise.
    before
        The same conditions of the source cells as they are, where what differs is drawn; None where paths begin at noise or at another cell.
    place
        Where the nuclei of the source cells lie.
    spread
        How the change asked for differs from draw to draw; None where nothing is known of it.
    real
        Real cells to begin at, one for each draw; :meth:`for_draw` makes them source and before.
    present
        Which channels of the source images hold an image; None where there are no sources.
    """

    key: Int64[Tensor, "rows"]
    conditions: Mapping[str, Tensor]
    known: Mapping[str, Bool[Tensor, "rows"]]
    source: UInt8[Tensor, "rows channels y x"] | None = None
    before: Mapping[str, Tensor] | None = None
    place: Place | None = None
    spread: Spread | None = None
    real: RealStart | None = None
    present: Bool[Tensor, "rows channels"] | None = None

    def __len__(self) -> int:
        return len(self.key)

    def part(self, start: int, stop: int, device: torch.device) -> "Asked":
        """Return some rows, on a device."""
        return Asked(
            self.key[start:stop].to(device),
            {name: value[start:stop].to(device) for name, value in self.conditions.items()},
            {name: value[start:stop].to(device) for name, value in self.known.items()},
            None if self.source is None else self.source[start:stop].to(device),
            None
            if self.before is None
            else {name: value[start:stop].to(device) for name, value in self.before.items()},
            None if self.place is None else self.place.part(start, stop, device),
            None if self.spread is None else self.spread.part(start, stop, device),
            present=None if self.present is None else self.present[start:stop].to(device),
        )

    def for_draw(self, draw: int, draws: int) -> "Asked":
        """Return what one of some draws is asked for."""
        if self.real is not None:
            before = {name: values[:, draw] for name, values in self.real.conditions.items()}
            source, present = self.real.images[:, draw], self.real.present[:, draw]
            return replace(self, source=source, present=present, before=before, real=None)
        if self.spread is None or draws == 1:
            return self
        more = self.spread.of_draw(draw)
        told = {name: value + more if name in CHANGES else value for name, value in self.conditions.items()}
        return replace(self, conditions=told)

    def toward(self, share: float) -> "Asked":
        """Return what is asked a share of the way from before to after the change."""
        assert self.before is not None
        moved = {
            name: torch.lerp(self.before[name].float(), value.float(), share) for name, value in self.conditions.items()
        }
        return replace(self, conditions=moved)
