"""The one border between corpora and models: validated batches of cells, niches and tissue windows.

Absence is carried by masks, never by zeros alone: ``channels_present``, ``mask_present`` and ``measured`` say which
numbers are data. Shapes are in the annotations, units in the names.
"""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor


class BatchError(ValueError):
    """A batch breaks its own contract: a mistake in the code that made it, not in a user's data."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Batch(ABC):
    """Rows of one level: where they come from, where they lie, and their images.

    Attributes
    ----------
    section
        Index into the loader's sections.
    row
        Row of the section's table, to find obs columns and to place results.
    position_um
        Centre (x, y) in µm, y down.
    um_per_px
        Pixel size of ``images`` and ``masks``.
    images
        Intensities 0…255; 0 in every channel that is not present. None where images were not asked for.
    channels_present
        Which channels of which row hold an image.
    """

    section: Int64[Tensor, "rows"]
    row: Int64[Tensor, "rows"]
    position_um: Float32[Tensor, "rows 2"]
    um_per_px: float
    images: UInt8[Tensor, "rows channels y x"] | None
    channels_present: Bool[Tensor, "rows channels"]

    def __post_init__(self) -> None:
        self._check_rows()
        self._check()

    def __len__(self) -> int:
        return len(self.row)

    def __repr__(self) -> str:
        shapes = [f"{f.name} {tuple(v.shape)}" for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)]
        return f"{type(self).__name__}({len(self)}: {', '.join(shapes)})"

    @property
    def image_present(self) -> Bool[Tensor, "rows"]:
        """Rows with at least one channel."""
        return self.channels_present.any(dim=1)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.row.device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Copy every tensor to a device; nothing is validated again."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Copy every tensor to page-locked memory, for asynchronous copies to a GPU."""
        return self._map(Tensor.pin_memory)

    def with_fields(self, **values: Any) -> Self:
        """Return the rows with other values in some fields; nothing is validated again."""
        changed = copy.copy(self)  # does not run __post_init__, which would wait for the device
        for name, value in values.items():
            object.__setattr__(changed, name, value)
        return changed

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = change(value)
            elif isinstance(value, _Batch):
                changed[field.name] = value._map(change)
        return self.with_fields(**changed)

    def _check_rows(self) -> None:
        n, channels = len(self.row), self.channels_present.shape[-1]
        self._expect("row", torch.int64, (n,))
        self._expect("section", torch.int64, (n,))
        self._expect("position_um", torch.float32, (n, 2))
        self._expect("channels_present", torch.bool, (n, channels))
        self._require(bool(np.isfinite(_host(self.position_um)).all()), "position_um", "a position is NaN or infinite")
        self._require(self.um_per_px > 0, "um_per_px", f"{self.um_per_px} is not positive")
        if self.images is not None:
            self._expect("images", torch.uint8, (n, channels, None, None))
            present = _host(self.channels_present)
            if not present.all():
                stray = _host(self.images)[~present].any()
                self._require(not stray, "images", "intensities in a channel that is not present")

    @abstractmethod
    def _check(self) -> None:
        """Check what the level adds."""

    def _expect(self, name: str, dtype: torch.dtype, shape: tuple[int | None, ...]) -> None:
        """Check kind, dtype and shape of a field; None stands for any length."""
        value = getattr(self, name)
        self._require(isinstance(value, Tensor), name, f"found {type(value).__name__}, expected a tensor")
        found = tuple(value.shape)
        fits = len(found) == len(shape) and all(b is None or a == b for a, b in zip(found, shape, strict=True))
        wanted = tuple("any" if length is None else length for length in shape)
        self._require(fits and value.dtype == dtype, name, f"found {value.dtype} {found}, expected {dtype} {wanted}")

    def _expect_offsets(self, name: str, n_groups: int, n_members: int) -> None:
        self._expect(name, torch.int64, (n_groups + 1,))
        offsets: Tensor = getattr(self, name)
        ascending = offsets[0] == 0 and offsets[-1] == n_members and bool((offsets.diff() >= 0).all())
        self._require(bool(ascending), name, f"not ascending from 0 to {n_members}")

    def _require(self, holds: bool, name: str, problem: str) -> None:
        if not holds:
            raise BatchError(f"{type(self).__name__}.{name}: {problem}.")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CellBatch(_Batch):
    """Cells with their crops, masks and counts.

    Attributes
    ----------
    image_share
        Share of the crop's window that lies inside the image; what lies outside is 0 in ``images``.
    masks
        Bit 1 the cell's outline, bit 2 its nucleus (``keys.MASK_*``). None where masks were not asked for.
    mask_present
        Cells with an outline.
    counts
        Raw counts over the joint vocabulary; 0 where the gene is not measured. None where counts were not asked for.
    panel_measured
        Which genes of the vocabulary the panel of each section measures.
    morphology
        Measured features over the vocabulary's names, in their own units; 0 where not measured. None where morphology was
        not asked for.
    morphology_measured
        Which features of which cell are measurements. None where morphology was not asked for.
    """

    image_share: Float32[Tensor, "rows"]
    masks: UInt8[Tensor, "rows y x"] | None
    mask_present: Bool[Tensor, "rows"]
    counts: Float32[Tensor, "rows genes"] | None
    panel_measured: Bool[Tensor, "sections genes"]
    morphology: Float32[Tensor, "rows features"] | None = None
    morphology_measured: Bool[Tensor, "rows features"] | None = None

    @property
    def measured(self) -> Bool[Tensor, "rows genes"]:
        """Which counts are measurements: a 0 there is a zero, elsewhere it is nothing."""
        return self.panel_measured[self.section]

    def take(self, index: Int64[Tensor, "some"]) -> "CellBatch":
        """Return some rows of the batch, in the order given; nothing is validated again."""
        taken = copy.copy(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and field.name != "panel_measured":  # that has a row per section
                object.__setattr__(taken, field.name, value[index])
        return taken

    def _check(self) -> None:
        n, (n_sections, n_genes) = len(self), self.panel_measured.shape
        self._expect("panel_measured", torch.bool, (n_sections, n_genes))
        self._expect("image_share", torch.float32, (n,))
        self._expect("mask_present", torch.bool, (n,))
        if n:
            self._require(int(self.section.min()) >= 0, "section", "a negative index")
            self._require(int(self.section.max()) < n_sections, "section", f"an index beyond {n_sections} sections")
            share = _host(self.image_share)
            share_valid = bool(((share >= 0) & (share <= 1)).all())
            self._require(share_valid, "image_share", "outside [0, 1]")
        if self.masks is not None:
            self._expect("masks", torch.uint8, (n, None, None))
            present = _host(self.mask_present)
            if not present.all():
                self._require(not _host(self.masks)[~present].any(), "masks", "a mask where none is present")
        if self.counts is not None:
            self._expect("counts", torch.float32, (n, n_genes))
            self._check_counts(_host(self.counts))
        self._check_morphology(n)

    def _check_morphology(self, n: int) -> None:
        asked = [value is not None for value in (self.morphology, self.morphology_measured)]
        self._require(asked[0] == asked[1], "morphology", "values without their mask, or a mask without values")
        if self.morphology is None or self.morphology_measured is None:
            return
        self._expect("morphology", torch.float32, (n, None))
        self._expect("morphology_measured", torch.bool, tuple(self.morphology.shape))
        values, measured = _host(self.morphology), _host(self.morphology_measured)
        self._require(bool(np.isfinite(values).all()), "morphology", "a feature is NaN or infinite")
        self._require(not values[~measured].any(), "morphology", "a value where none was measured")

    def _check_counts(self, counts: NDArray[np.float32]) -> None:
        if not counts.size:
            return
        low, high = float(counts.min()), float(counts.max())  # both are NaN if any count is
        self._require(low >= 0 and high < float("inf"), "counts", f"NaN, negative or infinite (range {low} to {high})")
        panel = _host(self.panel_measured)
        if not panel.all():
            stray = ((counts != 0) & ~panel[_host(self.section)]).any()
            self._require(not stray, "counts", "a count in a gene that the section's panel does not measure")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NicheBatch(_Batch):
    """Whole niches with their cells.

    Attributes
    ----------
    cells
        Every cell of the niches once, though several cell-centred niches may share it.
    offsets
        Members of niche i: ``member_cell[offsets[i]:offsets[i + 1]]``.
    member_cell
        Index into ``cells``.
    centre_cell
        Index into ``cells`` of the cell a niche is centred on (``radius``, ``knn``); -1 for a partitioning definition.
    """

    cells: CellBatch
    offsets: Int64[Tensor, "rows+1"]
    member_cell: Int64[Tensor, "members"]
    centre_cell: Int64[Tensor, "rows"]

    @property
    def n_members(self) -> Int64[Tensor, "rows"]:
        """Cells of each niche."""
        return self.offsets.diff()

    @property
    def member_niche(self) -> Int64[Tensor, "members"]:
        """Niche of each member."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.n_members)

    def _check(self) -> None:
        n_cells = len(self.cells)
        self._expect("member_cell", torch.int64, (None,))
        self._expect("centre_cell", torch.int64, (len(self),))
        self._expect_offsets("offsets", len(self), len(self.member_cell))
        for name, lowest in (("member_cell", 0), ("centre_cell", -1)):
            index: Tensor = getattr(self, name)
            inside = not index.numel() or (int(index.min()) >= lowest and int(index.max()) < n_cells)
            self._require(inside, name, f"an index outside [{lowest}, {n_cells})")
        home = self.section[self.member_niche]
        same = torch.equal(self.cells.section[self.member_cell], home)
        self._require(same, "member_cell", "a cell of another section")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TissueBatch(_Batch):
    """Whole tissue windows with their niches and cells.

    Attributes
    ----------
    niches
        Niches of all windows, window by window.
    offsets
        Niches of window i: ``offsets[i]`` to ``offsets[i + 1]``.
    """

    niches: NicheBatch
    offsets: Int64[Tensor, "rows+1"]

    @property
    def cells(self) -> CellBatch:
        """Every cell of the windows once."""
        return self.niches.cells

    @property
    def niche_window(self) -> Int64[Tensor, "niches"]:
        """Window of each niche."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.offsets.diff())

    def _check(self) -> None:
        self._expect_offsets("offsets", len(self), len(self.niches))
        same = torch.equal(self.niches.section, self.section[self.niche_window])
        self._require(same, "niches", "a niche of another section")


def _host(tensor: Tensor) -> NDArray[Any]:
    # checks run on arrays: torch would wake its thread pool for each, which costs more than the check
    return tensor.detach().cpu().numpy()


Batch = CellBatch | NicheBatch | TissueBatch
