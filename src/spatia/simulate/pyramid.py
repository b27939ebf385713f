"""Write multi-file OME-TIFF pyramids as a stream of rows of tiles; never is more than a row of each level in memory."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from spatia.simulate.settings import Codec

COMPRESSION: dict[Codec, str | None] = {"deflate": "adobe_deflate", "jpeg2000": "jpeg2000", "none": None}


def encode(tile: NDArray[np.uint16], codec: Codec) -> bytes:
    """Encode one tile as TIFF stores it."""
    if codec == "deflate":
        return bytes(imagecodecs.deflate_encode(tile.tobytes(), level=1, raw=False))
    if codec == "jpeg2000":
        return bytes(imagecodecs.jpeg2k_encode(tile, codecformat="j2k", level=0, reversible=True))
    return tile.tobytes()


def halve(image: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the mean of squares of 2 × 2 px, rounded; odd last rows and columns are left out as the vendor does."""
    c, h, w = image.shape
    whole = image[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2)
    return ((whole.sum((2, 4), dtype=np.uint32) + 2) // 4).astype(np.uint16)


@dataclass
class _Level:
    """One level under construction: the encoded tiles go to scratch files, one per channel."""

    height: int
    width: int
    scratch: list[Path]
    waiting: list[NDArray[np.uint16]] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    rows_done: int = 0


class PyramidWriter:
    """Take rows of the finest level from top to bottom, then write the files.

    Parameters
    ----------
    folder
        Where ``morphology_focus_0000.ome.tif`` … go.
    shape
        Height and width of level 0 in px.
    scratch
        An existing folder for the encoded tiles of unfinished levels.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int],
        *,
        um_per_px: float,
        channels: tuple[str, ...],
        codec: Codec,
        tile_px: int,
        scratch: Path,
        identity: np.random.Generator,
    ) -> None:
        self.folder, self.um_per_px, self.channels, self.codec, self.tile_px = (
            folder,
            um_per_px,
            channels,
            codec,
            tile_px,
        )
        self.uuids = [f"urn:uuid:{uuid.UUID(bytes=identity.bytes(16), version=4)}" for _ in channels]
        self.levels: list[_Level] = []
        height, width = shape
        while not self.levels or max(height, width) >= min(256, tile_px):
            number = len(self.levels)
            paths = [scratch / f"level{number}_channel{channel}" for channel in range(len(channels))]
            self.levels.append(_Level(height, width, paths, sizes=[[] for _ in channels]))
            height, width = height // 2, width // 2
            if min(height, width) < 1:
                break

    def add_rows(self, rows: NDArray[np.uint16]) -> None:
        """Add the next rows of level 0, (c, h, w): ``tile_px`` of them, fewer only at the bottom."""
        self._add(0, rows)

    def _add(self, number: int, rows: NDArray[np.uint16]) -> None:
        if number == len(self.levels) or not rows.shape[1]:
            return
        level = self.levels[number]
        level.waiting.append(rows)
        level.rows_done += rows.shape[1]
        have = sum(part.shape[1] for part in level.waiting)
        if have < self.tile_px and level.rows_done < level.height:
            return
        strip = np.concatenate(level.waiting, 1) if len(level.waiting) > 1 else rows
        level.waiting.clear()
        self._encode_strip(level, strip)
        self._add(number + 1, halve(strip))

    def _encode_strip(self, level: _Level, strip: NDArray[np.uint16]) -> None:
        for channel, path in enumerate(level.scratch):
            with path.open("ab") as file:
                for left in range(0, level.width, self.tile_px):
                    part = strip[channel, :, left : left + self.tile_px]
                    tile = np.zeros((self.tile_px, self.tile_px), np.uint16)
                    tile[: part.shape[0], : part.shape[1]] = part
                    encoded = encode(tile, self.codec)
                    level.sizes[channel].append(len(encoded))
                    file.write(encoded)

    def finish(self) -> list[Path]:
        """Write one file per channel from the encoded tiles and delete the scratch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / name for name in self.file_names]
        for channel, path in enumerate(paths):
            with tifffile.TiffWriter(path, bigtiff=True, ome=False) as writer:
                for number, level in enumerate(self.levels):
                    writer.write(
                        _stored_tiles(level.scratch[channel], level.sizes[channel]),
                        shape=(level.height, level.width),
                        dtype=np.uint16,
                        tile=(self.tile_px, self.tile_px),
                        compression=COMPRESSION[self.codec],
                        photometric="minisblack",
                        metadata=None,
                        software="spatia simulator",
                        description=self.ome_xml(channel).encode() if number == 0 else None,
                        subifds=len(self.levels) - 1 if number == 0 else None,
                        subfiletype=1 if number else 0,
                    )
        for level in self.levels:
            for path in level.scratch:
                path.unlink()
        return paths

    @property
    def file_names(self) -> list[str]:
        """Names of the files, as the vendor gives them."""
        return [f"morphology_focus_{channel:04d}.ome.tif" for channel in range(len(self.channels))]

    def ome_xml(self, channel: int) -> str:
        """Return the OME-XML of one file: it names all channels, and the file that holds each."""
        level = self.levels[0]
        names = "".join(
            f'<Channel ID="Channel:{number}" Name="{name}" SamplesPerPixel="1"/>'
            for number, name in enumerate(self.channels)
        )
        data = "".join(
            f'<TiffData FirstZ="0" FirstT="0" FirstC="{number}" IFD="0" PlaneCount="1">'
            f'<UUID FileName="{self.file_names[number]}">{self.uuids[number]}</UUID></TiffData>'
            for number in range(len(self.channels))
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            'xsi:schemaLocation="http://www.openmicroscopy.org/Schemas/OME/2016-06 '
            'http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd" '
            f'UUID="{self.uuids[channel]}" Creator="spatia simulator">'
            '<Instrument ID="Instrument:0"><Microscope Manufacturer="simulated" Model="spatia"/></Instrument>'
            '<Image ID="Image:0" Name="morphology_focus"><InstrumentRef ID="Instrument:0"/>'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{level.width}" SizeY="{level.height}" '
            f'SizeZ="1" SizeC="{len(self.channels)}" SizeT="1" PhysicalSizeX="{self.um_per_px}" PhysicalSizeXUnit="µm" '
            f'PhysicalSizeY="{self.um_per_px}" PhysicalSizeYUnit="µm">{names}{data}</Pixels></Image></OME>'
        )


def _stored_tiles(path: Path, sizes: list[int]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for size in sizes:
            yield file.read(size)
