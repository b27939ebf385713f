"""What an OME-XML header says of an image: channels, size, pixel size, files. The header is untrusted text."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from spatia.errors import SlideError

_UM_PER_UNIT = {"µm": 1.0, "um": 1.0, "μm": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
# 10x and most writers leave no channel colour etc. out; a header of more than this is no header
_MAX_HEADER = 16 * 1024 * 1024


@dataclass(frozen=True)
class OmeHeader:
    """The first image of an OME-XML header.

    Attributes
    ----------
    size_x, size_y, size_z, size_c, size_t
        Declared extent.
    channels
        Channel names; "" where a channel has none.
    um_per_px
        Declared (x, y) pixel size in µm, None where it is not stated in a unit of length.
    channel_files
        File name -> index of the first channel it holds, where the header names several files.
    """

    size_x: int
    size_y: int
    size_z: int = 1
    size_c: int = 1
    size_t: int = 1
    channels: tuple[str, ...] = ()
    um_per_px: tuple[float, float] | None = None
    channel_files: dict[str, int] = field(default_factory=dict)


def parse_ome_header(text: str, where: Path) -> OmeHeader | None:
    """Parse the OME-XML of a TIFF; None where it only points to another file's header.

    Raises
    ------
    SlideError
        If it holds a DOCTYPE or entities (a known attack), is not XML, or has no sizes.
    """
    if len(text) > _MAX_HEADER:
        raise SlideError(f"{where}: the OME-XML header has {len(text):,} characters; expected under {_MAX_HEADER:,}.")
    try:
        root = ElementTree.fromstring(text.encode(), forbid_dtd=True)
    except DefusedXmlException as error:
        raise SlideError(
            f"{where}: the OME-XML header holds a DOCTYPE or entity declaration ({type(error).__name__}), which no "
            "microscope writes. Expected plain OME-XML. Do not trust this file; export the image again."
        ) from error
    except ParseError as error:
        raise SlideError(f"{where}: the OME-XML header is not well-formed: {error}. Export the image again.") from error
    pixels = root.find(".//{*}Image/{*}Pixels")
    if pixels is None:
        return None
    try:
        sizes = {f"size_{axis.lower()}": int(pixels.get(f"Size{axis}", "1")) for axis in "XYZCT"}
    except ValueError as error:
        raise SlideError(f"{where}: the OME-XML header has a size that is no number: {error}.") from error
    return OmeHeader(
        **sizes,
        channels=tuple(channel.get("Name", "").strip() for channel in pixels.findall("{*}Channel")),
        um_per_px=_pixel_size(pixels),
        channel_files=_channel_files(pixels),
    )


def _pixel_size(pixels: Element) -> tuple[float, float] | None:
    sizes = []
    for axis in "XY":
        unit = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            value = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        except ValueError:
            return None
        if unit is None or not value > 0:
            return None
        sizes.append(value * unit)
    return sizes[0], sizes[1]


def _channel_files(pixels: Element) -> dict[str, int]:
    files: dict[str, int] = {}
    for data in pixels.findall("{*}TiffData"):
        uuid = data.find("{*}UUID")
        name = None if uuid is None else uuid.get("FileName")
        if name:
            files.setdefault(name, int(data.get("FirstC", "0")))
    return files
