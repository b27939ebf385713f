"""Planes of a TIFF read segment by segment, after checks that its header tells the truth.

A *plane* is one image directory of the file; a *segment* is what the file compresses on its own (a tile, or a strip).
tifffile parses the directories and decodes; the reading of bytes is ours, for three reasons that were measured or met:
each segment is decoded exactly once (through tifffile's zarr store, blocks with a margin decode tiles three times); no
lock is held while decoding, so that threads scale; and paths in OME-XML are never followed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from spatia.errors import SlideError

MAX_EXPANSION = 2_000  # an image that unpacks to more than this many times its file is refused as a bomb
MAX_SEGMENT_BYTES = 1 << 30
BLOCK_ROWS = 1_024  # strips are read together up to about this many rows


@dataclass(frozen=True)
class Plane:
    """One image directory: (samples, height, width), readable block by block. A block is a tile or a run of strips."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    block: tuple[int, int]  # (height, width) px
    rows_per_segment: int
    interleaved: bool  # RGBRGB…: one segment holds all samples
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    decode: Callable[..., Any]
    jpeg_tables: bytes | None

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Lengths of the blocks along (sample, y, x)."""
        samples, height, width = self.shape
        per_sample = (samples,) if self.interleaved else (1,) * samples
        return per_sample, _lengths(height, self.block[0]), _lengths(width, self.block[1])

    def read_block(self, sample: int, row: int, column: int) -> NDArray[Any]:
        """Decode one block of the grid that :attr:`chunks` describes.

        Returns
        -------
        Array of (samples or 1, height, width).
        """
        _, heights, widths = self.chunks
        samples = self.shape[0] if self.interleaved else 1
        out = np.zeros((samples, heights[row], widths[column]), self.dtype)
        for segment, top in self._segments(sample, row, column):
            pixels = self._decode_segment(segment)
            if pixels is not None:  # None: the file stores no bytes for it, which in TIFF means background
                part = pixels[: heights[row] - top, : widths[column]]
                out[:, top : top + part.shape[0], : part.shape[1]] = part.transpose(2, 0, 1)
        return out

    def _segments(self, sample: int, row: int, column: int) -> Iterator[tuple[int, int]]:
        """Yield (index of segment, its first row within the block)."""
        rows_in_file = -(-self.shape[1] // self.rows_per_segment)
        columns = -(-self.shape[2] // self.block[1])
        per_block = self.block[0] // self.rows_per_segment
        for k in range(row * per_block, min((row + 1) * per_block, rows_in_file)):
            yield (sample * rows_in_file + k) * columns + column, (k - row * per_block) * self.rows_per_segment

    def _decode_segment(self, segment: int) -> NDArray[Any] | None:
        size = int(self.sizes[segment])
        if size == 0:
            return None
        with self.path.open("rb") as file:  # opened anew: no lock between threads, no handle to leak
            file.seek(int(self.offsets[segment]))
            data = file.read(size)
        try:
            pixels, _, _ = self.decode(data, segment, jpegtables=self.jpeg_tables)
        except Exception as error:  # decoders raise what they like; every failure here is a damaged segment
            raise SlideError(
                f"{self.path}: tile {segment} of {len(self.sizes):,} cannot be decoded ({type(error).__name__}: {error}). "
                "The file is damaged or uses a codec that is not installed; copy it again from the instrument."
            ) from error
        return pixels[0]


@dataclass(frozen=True)
class TiffLevels:
    """The planes of each pyramid level, fine to coarse, and the OME-XML text if there is one."""

    levels: tuple[tuple[Plane, ...], ...]
    ome: str | None
    photometric_rgb: bool


def open_tiff(path: Path) -> TiffLevels:
    """Read the directories of a TIFF and check them; no pixel is decoded.

    Raises
    ------
    SlideError
        If it is no TIFF, is truncated, is a decompression bomb, or a pyramid level lies about its size.
    """
    try:
        with tifffile.TiffFile(path, is_ome=False) as file:
            pages = [page.aspage() for page in file.pages]
            groups = _levels_of(pages, path)
            description = pages[0].description
            _check_imagej(description, len(pages), path)
            ome = description if re.search(r"<(\w+:)?OME\b", description) else None
            levels = tuple(tuple(_plane(page, path) for page in group) for group in groups)
            rgb = pages[0].photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no such image. Expected a TIFF.") from error
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, OSError, EOFError) as error:
        raise SlideError(
            f"{path}: not a readable TIFF ({type(error).__name__}: {error}); it may be truncated. Expected a TIFF or "
            "OME-TIFF. Copy it again from the instrument."
        ) from error
    _check_bomb(levels, path)
    _check_pyramid(levels, path)
    return TiffLevels(levels, ome, rgb)


def _levels_of(pages: list[tifffile.TiffPage], path: Path) -> list[list[tifffile.TiffPage]]:
    """Group directories into levels: by SubIFDs (OME), else by further, smaller directories (older pyramids)."""
    first = pages[0]
    if first.subifds:
        planes = [page for page in pages if page.shape == first.shape]
        counts = {len(page.subifds or ()) for page in planes}
        if len(counts) != 1:
            raise SlideError(f"{path}: planes with {sorted(counts)} pyramid levels; expected the same number in each.")
        subs = [page.pages for page in planes]
        return [planes, *([sub[k].aspage() for sub in subs if sub is not None] for k in range(counts.pop()))]
    groups: list[list[tifffile.TiffPage]] = [[]]
    for page in pages:
        if groups[-1] and page.shape != groups[-1][0].shape:
            if not _is_smaller(page, groups[-1][0]):  # a thumbnail, label or macro picture, as slide scanners add
                continue
            groups.append([])
        groups[-1].append(page)
    return groups


def _is_smaller(page: tifffile.TiffPage, finer: tifffile.TiffPage) -> bool:
    """Tell whether a page shows all of a finer one, divided by a power of two.

    Whether it says that it is reduced does not tell: labels of Aperio's scanners say so, and their levels do not.
    """
    factor = 2 ** max(round(np.log2(finer.imagelength / page.imagelength)), 1)
    sides = ((finer.imagelength, page.imagelength), (finer.imagewidth, page.imagewidth))
    fits = all(abs(less - whole / factor) <= 1 for whole, less in sides)
    return fits and (page.is_tiled or page.is_reduced)


def _plane(page: tifffile.TiffPage, path: Path) -> Plane:
    separate, depth, height, width, contiguous = page.shaped
    if page.dtype is None or depth != 1:
        raise SlideError(f"{path}: directory {page.index} has no plain two-dimensional pixels.")
    block = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    rows = block[0]
    if not page.is_tiled:
        block = (max(BLOCK_ROWS // rows, 1) * rows, width)
    offsets, sizes = np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64)
    plane = Plane(
        path=path,
        shape=(separate * contiguous, height, width),
        dtype=np.dtype(page.dtype),
        block=block,
        rows_per_segment=rows,
        interleaved=contiguous > 1 or separate * contiguous == 1,
        offsets=offsets,
        sizes=sizes,
        decode=page.decode,
        jpeg_tables=page.jpegtables,
    )
    _check_segments(plane, separate, contiguous, path)
    return plane


def _check_segments(plane: Plane, separate: int, contiguous: int, path: Path) -> None:
    _, heights, widths = plane.chunks
    expected = separate * -(-plane.shape[1] // plane.rows_per_segment) * len(widths)
    if len(plane.offsets) != expected or len(plane.sizes) != expected:
        raise SlideError(
            f"{path}: a level of {plane.shape[2]} x {plane.shape[1]} px lists {len(plane.offsets):,} tiles; expected "
            f"{expected:,}. The level lies about its size or the file is damaged; export the image again."
        )
    file_bytes = path.stat().st_size
    ends = plane.offsets + plane.sizes
    if (plane.sizes < 0).any() or (plane.offsets < 0).any() or (ends > file_bytes).any():
        raise SlideError(
            f"{path}: truncated: {int((ends > file_bytes).sum()):,} of {expected:,} tiles of the level "
            f"{plane.shape[2]} x {plane.shape[1]} px lie beyond the end of the file at {file_bytes:,} bytes "
            f"(the last ends at {int(ends.max()):,}). Copy the file again from the instrument."
        )
    segment_bytes = plane.rows_per_segment * plane.block[1] * contiguous * plane.dtype.itemsize
    if segment_bytes > MAX_SEGMENT_BYTES:
        raise SlideError(
            f"{path}: one tile or strip unpacks to {segment_bytes / 2**30:.1f} GiB; expected under "
            f"{MAX_SEGMENT_BYTES / 2**30:.0f} GiB. Save the image as a tiled OME-TIFF (tiles of 1024 px)."
        )


def _check_bomb(levels: tuple[tuple[Plane, ...], ...], path: Path) -> None:
    unpacked = sum(int(np.prod(plane.shape)) * plane.dtype.itemsize for level in levels for plane in level)
    packed = path.stat().st_size
    if unpacked > MAX_EXPANSION * packed:
        raise SlideError(
            f"{path}: declares {unpacked:,} bytes of pixels in a file of {packed:,} bytes, {unpacked // packed:,} times "
            f"as much; expected at most {MAX_EXPANSION:,} times. This is a decompression bomb or a damaged header."
        )


def _check_pyramid(levels: tuple[tuple[Plane, ...], ...], path: Path) -> None:
    samples, height, width = levels[0][0].shape
    last = 1
    for k, level in enumerate(levels[1:], start=1):
        if len(level) != len(levels[0]) or any(plane.shape != level[0].shape for plane in level):
            raise SlideError(f"{path}: pyramid level {k} has other planes than level 0. Export the image again.")
        s, h, w = level[0].shape
        factor = 2 ** max(round(np.log2(max(height / h, 1))), last.bit_length())
        fits = abs(h - height / factor) <= 1 and abs(w - width / factor) <= 1 and s == samples
        if not fits or level[0].dtype != levels[0][0].dtype:
            raise SlideError(
                f"{path}: pyramid level {k} says it has {w} x {h} px ({level[0].dtype}), which is not level 0 "
                f"({width} x {height} px, {levels[0][0].dtype}) divided by a power of two, here {factor}: about "
                f"{width // factor} x {height // factor}. The level lies about its size; export the image again."
            )
        last = factor


def _check_imagej(description: str, n_pages: int, path: Path) -> None:
    """Refuse ImageJ's private layouts, whose further planes have no directory, or are slices in depth."""
    stated = {
        name: int(value) for name, value in re.findall(r"^(images|slices|frames)=(\d+)\s*$", description, re.MULTILINE)
    }
    if not description.startswith("ImageJ="):
        return
    if stated.get("images", 1) > n_pages or stated.get("slices", 1) > 1 or stated.get("frames", 1) > 1:
        raise SlideError(
            f"{path}: an ImageJ stack ({stated}) with {n_pages} directories. Expected one plane per channel. Project it "
            "in depth and save it as a tiled OME-TIFF."
        )


def _lengths(total: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, total - start) for start in range(0, total, step))
