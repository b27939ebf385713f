"""Open any image file as lazy pyramid levels: OME-TIFF, plain TIFF, JPEG, PNG; one or several files of channels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dask
import dask.array as da
import imagecodecs
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from spatia.errors import SlideError
from spatia.io.border import Level, Pyramid
from spatia.io.ome_xml import OmeHeader, parse_ome_header
from spatia.io.paths import path_inside
from spatia.io.tiff_planes import MAX_EXPANSION, MAX_SEGMENT_BYTES, Plane, TiffLevels, open_tiff

RGB = ("r", "g", "b")
_TIFF_ENDINGS = (".tif", ".tiff", ".btf", ".svs")
_MAX_CHANNELS = 200  # more planes than this are a stack in depth or time, not channels


@dataclass(frozen=True)
class Raster:
    """An image file opened lazily.

    Attributes
    ----------
    levels
        (c, y, x) dask arrays, fine to coarse; a chunk is what the file compresses on its own.
    channels
        Names as the file gives them; None where it gives none (or not for all).
    um_per_px
        (x, y) as the file declares it; None where it does not.
    """

    levels: tuple[da.Array, ...]
    channels: tuple[str, ...] | None
    rgb: bool
    um_per_px: tuple[float, float] | None
    files: tuple[Path, ...]

    def pyramid(
        self,
        um_per_px: tuple[float, float],
        *,
        origin_um: tuple[float, float] = (0.0, 0.0),
        channels: Sequence[str] | None = None,
    ) -> Pyramid:
        """Place the image: full-resolution pixel size (x, y) in µm, and where its first pixel's outer corner lies.

        Raises
        ------
        SlideError
            If the number of names is not the number of channels, or two are the same.
        """
        count, height, width = self.levels[0].shape
        names = tuple(channels or self.channels or (f"channel_{k}" for k in range(count)))
        if len(names) != count or len(set(names)) != count:
            raise SlideError(
                f"{self.files[0]}: {count} channels in the image but the names {list(names)}. Expected {count} "
                "different names; correct `channels` in the samplesheet."
            )
        levels = tuple(
            Level(pixels, (um_per_px[0] * width / pixels.shape[2], um_per_px[1] * height / pixels.shape[1]))
            for pixels in self.levels
        )
        return Pyramid(levels, names, origin_um, rgb=self.rgb)


def open_raster(path: Path) -> Raster:
    """Open one image file, or a folder of OME-TIFF files of one channel each, without decoding a pixel.

    Raises
    ------
    SlideError
        If it is missing, damaged, of a pixel type other than uint8 or uint16, or no plain two-dimensional image.
    """
    raster = open_any_raster(path)
    check_pixel_type(raster, path)
    return raster


def open_any_raster(path: Path) -> Raster:
    """Open as :func:`open_raster` does, but with any pixel type (label rasters are often 32 bit or float)."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith((".ome.tif", ".ome.tiff")))
        if not files:
            raise SlideError(f"{path}: no *.ome.tif in this image folder. Expected one OME-TIFF per channel.")
        return open_channel_files(files)
    if not path.is_file():
        raise SlideError(f"{path}: no such image file. Expected a TIFF, OME-TIFF, JPEG or PNG.")
    if path.suffix.lower() in _TIFF_ENDINGS:
        return _open_one_tiff(path)
    return _open_photograph(path)


def check_pixel_type(raster: Raster, path: Path) -> None:
    """Refuse an image that is not uint8 or uint16: what its values mean would be a guess."""
    dtype = raster.levels[0].dtype
    if dtype not in (np.uint8, np.uint16):
        raise SlideError(
            f"{path}: pixels are {dtype}; expected uint8 or uint16. Save the image with the instrument's raw intensities, "
            "or scale it to uint16 yourself."
        )


def open_channel_files(files: Sequence[Path]) -> Raster:
    """Open files of one channel each as one image; each file is read by itself, whatever its header names elsewhere.

    Raises
    ------
    SlideError
        If the files differ in size, or a header names a file that is missing or lies outside the folder.
    """
    tiffs = [open_tiff(file) for file in files]
    headers = [parse_ome_header(tiff.ome, file) if tiff.ome else None for tiff, file in zip(tiffs, files, strict=True)]
    for file, header in zip(files, headers, strict=True):
        _check_named_files(file, header)
    shapes = {tuple(level[0].shape for level in tiff.levels): file for tiff, file in zip(tiffs, files, strict=True)}
    if len(shapes) > 1:
        described = "; ".join(f"{file.name}: {shape[0][1:]} px, {len(shape)} levels" for shape, file in shapes.items())
        raise SlideError(f"{files[0].parent}: the channel files differ in size ({described}). Expected one size.")
    levels = [tuple(plane for tiff in tiffs for plane in tiff.levels[k]) for k in range(len(tiffs[0].levels))]
    names = [_channel_name(file, header) for file, header in zip(files, headers, strict=True)]
    first = headers[0]
    return Raster(
        levels=tuple(_lazy(planes) for planes in levels),
        channels=tuple(names) if all(names) and len(set(names)) == len(names) else None,
        rgb=False,
        um_per_px=first.um_per_px if first else None,
        files=tuple(files),
    )


def _open_one_tiff(path: Path) -> Raster:
    tiff = open_tiff(path)
    header = parse_ome_header(tiff.ome, path) if tiff.ome else None
    count = sum(plane.shape[0] for plane in tiff.levels[0])
    if header is not None:
        _check_header(header, tiff, count, path)
    if count > _MAX_CHANNELS:
        raise SlideError(f"{path}: {count} planes; expected one per channel. Project the stack in depth first.")
    rgb = tiff.photometric_rgb and tiff.levels[0][0].shape[0] in (3, 4) and len(tiff.levels[0]) == 1
    raster = Raster(
        levels=tuple(_lazy(planes) for planes in tiff.levels),
        channels=_names(header, count),
        rgb=rgb,
        um_per_px=header.um_per_px if header else None,
        files=(path,),
    )
    return as_rgb(raster) if rgb else raster


def as_rgb(raster: Raster) -> Raster:
    """Return the red, green and blue of an image of three or four samples (a fourth, alpha, is dropped)."""
    return replace(raster, levels=tuple(level[:3] for level in raster.levels), channels=RGB, rgb=True)


def _check_header(header: OmeHeader, tiff: TiffLevels, count: int, path: Path) -> None:
    _check_named_files(path, header)
    _, height, width = tiff.levels[0][0].shape
    if (header.size_x, header.size_y) != (width, height):
        raise SlideError(
            f"{path}: the OME-XML declares {header.size_x} x {header.size_y} px but the file holds {width} x {height}. "
            "The header belongs to another image; export it again."
        )
    if header.size_z > 1 or header.size_t > 1:
        raise SlideError(
            f"{path}: {header.size_z} planes in depth and {header.size_t} in time; expected one. Give a projection "
            "(for Xenium: morphology_focus)."
        )
    if header.size_c > count:
        raise SlideError(f"{path}: the OME-XML declares {header.size_c} channels but the file holds {count} planes.")


def _names(header: OmeHeader | None, count: int) -> tuple[str, ...] | None:
    if header is None or len(header.channels) != count or not all(header.channels):
        return None
    return header.channels if len(set(header.channels)) == count else None


def _channel_name(file: Path, header: OmeHeader | None) -> str:
    if header is None or not header.channels:
        return ""
    index = header.channel_files.get(file.name, 0)
    return header.channels[index] if index < len(header.channels) else ""


def _check_named_files(file: Path, header: OmeHeader | None) -> None:
    for name in header.channel_files if header else ():
        if not path_inside(file.parent, name, f"the OME-XML of {file.name}").exists():
            raise SlideError(
                f"{file}: its OME-XML names the channel file {name!r}, which is missing from {file.parent}. Expected all "
                "channels of the image. Copy the whole folder, or accept the section without image (--no-image)."
            )


def _lazy(planes: Sequence[Plane]) -> da.Array:
    """Stack planes into one (c, y, x) array whose chunks are the file's own blocks."""
    first = planes[0]
    per_sample, heights, widths = first.chunks
    per_plane = len(per_sample)

    def read(block_id: tuple[int, int, int]) -> NDArray:
        plane = planes[block_id[0] // per_plane]
        return plane.read_block(block_id[0] % per_plane, block_id[1], block_id[2])

    stamp = [(str(plane.path), plane.path.stat().st_mtime_ns, int(plane.offsets[0])) for plane in planes]
    return da.map_blocks(
        read,
        chunks=(per_sample * len(planes), heights, widths),
        dtype=first.dtype,
        meta=np.empty((0, 0, 0), first.dtype),
        name=f"image-{tokenize(stamp, first.shape)}",
    )


def _open_photograph(path: Path) -> Raster:
    """JPEG and PNG have no tiles: the image is decoded whole at first touch, hence the limit."""
    opener = PngImagePlugin.PngImageFile if path.suffix.lower() == ".png" else JpegImagePlugin.JpegImageFile
    try:
        with opener(path) as header:  # not Image.open: our own limits, not Pillow's warning
            (width, height), mode = header.size, header.mode
    except (SyntaxError, UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise SlideError(f"{path}: not a readable TIFF, JPEG or PNG ({error}). Copy it again or convert it.") from error
    samples = Image.getmodebands(mode)
    unpacked, packed = width * height * samples, path.stat().st_size
    if unpacked > MAX_SEGMENT_BYTES or unpacked > MAX_EXPANSION * packed:
        raise SlideError(
            f"{path}: {width} x {height} px unpack to {unpacked:,} bytes from {packed:,}; expected under "
            f"{MAX_SEGMENT_BYTES:,} and {MAX_EXPANSION:,} times the file. Convert it to a tiled OME-TIFF."
        )
    grey = mode in ("L", "I;16", "I", "1")
    shape = (1 if grey else 3, height, width)
    dtype = np.dtype(np.uint16 if mode in ("I;16", "I") else np.uint8)
    pixels = da.from_delayed(dask.delayed(_decode_photograph)(path, shape, dtype), shape, dtype=dtype)
    return Raster((pixels,), None if grey else RGB, not grey, None, (path,))


def _decode_photograph(path: Path, shape: tuple[int, int, int], dtype: np.dtype) -> NDArray:
    decode = imagecodecs.png_decode if path.suffix.lower() == ".png" else imagecodecs.jpeg_decode
    try:
        pixels = np.atleast_3d(decode(path.read_bytes())).transpose(2, 0, 1)[: shape[0]]
    except Exception as error:  # decoders raise what they like; every failure here is a damaged file
        raise SlideError(f"{path}: cannot be decoded ({type(error).__name__}: {error}). Copy it again.") from error
    if pixels.shape != shape or pixels.dtype != dtype:
        raise SlideError(f"{path}: decodes to {pixels.shape} {pixels.dtype}; its header says {shape} {dtype}.")
    return np.ascontiguousarray(pixels)
