"""What a generator is trained on: target images, what is known of them beforehand, and where they come from."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from spatia.data.batch import BatchError


@dataclass(frozen=True, kw_only=True, eq=False)
class GenerationBatch:
    """Rows to generate.

    Attributes
    ----------
    section, row
        Of the target (in a transition, of the source) in the loader's sections.
    key
        One integer per row: noise, time and dropout are functions of it.
    target_key
        One integer per target image: several rows may have the same target. None: each row has one of its own, that of ``key``.
    target
        Intensities 0…255 of the images to learn.
    channels_present
        Which channels of which target hold an image.
    conditions
        What is known beforehand, by name, each (rows, width).
    known
        By the same names: which rows have it.
    source
        Images of the source cells, 0…255; None where there are none.
    confidence
        Of the pairs, in (0, 1].
    morphology, morphology_measured
        Measured features of the targets, and which of them were measured.
    inside, nucleus
        Which pixels of the targets lie inside the outline of the cell and of its nucleus; of a row without an outline none. None:
        outlines are not known.
    """

    section: Int64[Tensor, "rows"]
    row: Int64[Tensor, "rows"]
    key: Int64[Tensor, "rows"]
    target: UInt8[Tensor, "rows channels y x"]
    channels_present: Bool[Tensor, "rows channels"]
    conditions: Mapping[str, Float[Tensor, "rows width"]]
    known: Mapping[str, Bool[Tensor, "rows"]]
    source: UInt8[Tensor, "rows channels y x"] | None = None
    confidence: Float[Tensor, "rows"] | None = None
    morphology: Float[Tensor, "rows features"] | None = None
    morphology_measured: Bool[Tensor, "rows features"] | None = None
    inside: Bool[Tensor, "rows y x"] | None = None
    nucleus: Bool[Tensor, "rows y x"] | None = None
    target_key: Int64[Tensor, "rows"] | None = None

    def __post_init__(self) -> None:
        n = len(self.key)
        if set(self.conditions) != set(self.known):
            raise BatchError(f"GenerationBatch: conditions {sorted(self.conditions)}, known {sorted(self.known)}.")
        for name, value in (*self.conditions.items(), *self.known.items()):
            if len(value) != n:
                raise BatchError(f"GenerationBatch: condition {name!r} has {len(value)} rows, expected {n}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and len(value) != n:
                raise BatchError(f"GenerationBatch.{field.name}: {len(value)} rows, expected {n}.")

    def __len__(self) -> int:
        return len(self.key)

    @property
    def image_key(self) -> Int64[Tensor, "rows"]:
        """Which image each row learns from: rows are kept apart by it, where a model must not see what it is judged on."""
        return self.key if self.target_key is None else self.target_key

    def has_all(self, channels: Bool[Tensor, "channels"]) -> Bool[Tensor, "rows"]:
        """Return which rows hold an image in each of these channels."""
        return (self.channels_present | ~channels).all(dim=1)

    def to(self, device: Any, *, non_blocking: bool = False) -> "GenerationBatch":
        """Copy every tensor to a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "GenerationBatch":
        """Copy every tensor to page-locked memory."""
        return self._map(lambda tensor: tensor.pin_memory())

    def take(self, index: Tensor) -> "GenerationBatch":
        """Return some rows."""
        return self._map(lambda tensor: tensor[index])

    @staticmethod
    def joined(parts: Sequence["GenerationBatch"]) -> "GenerationBatch":
        """Return the rows of several batches of one loader."""

        def join(values: Sequence[Any]) -> Any:
            if isinstance(values[0], Mapping):
                return {name: torch.cat([value[name] for value in values]) for name in values[0]}
            return None if any(value is None for value in values) else torch.cat(list(values))

        return GenerationBatch(
            **{field.name: join([getattr(part, field.name) for part in parts]) for field in fields(GenerationBatch)}
        )

    def _map(self, change: Callable[[Tensor], Tensor]) -> "GenerationBatch":
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = change(value)
            elif isinstance(value, Mapping):
                changed[field.name] = {name: change(tensor) for name, tensor in value.items()}
        return replace(self, **changed)
