"""What a user names when naming a slide: paths and facts, not data. One row of a samplesheet is one `Source`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Measure = Literal["counts", "intensity"]
PATHS = ("path", "counts", "image", "outlines", "labels")
PATH_FACTS = ("cells",)  # facts that name a file


@dataclass(frozen=True)
class Source:
    """Where one tissue section is, and what the user says of it.

    Everything here is small and picklable, so that a build task on another machine can open the slide by itself.

    Attributes
    ----------
    sample
        Name of the section; the folder name in a corpus. Letters, digits, ``.``, ``_``, ``-``.
    path
        Vendor folder or SpatialData zarr; None for the generic door (`counts` is given instead).
    platform
        Name of a reader (`spatia.io.read.READERS`); None: recognised from the folder.
    counts, image, outlines, labels
        The generic door: AnnData h5ad / 10x h5 / csv, image, vertex table or label raster. With a vendor folder, those
        that its reader reads (``READS``): `image` replaces the folder's own (an H&E, for instance).
    um_per_px
        Pixel size of `image` (and `labels`) in µm; None: read from the data, and an error where the data does not say.
    channels
        Names of the image's channels, in order; None: read from the data.
    image_origin_um
        Position (x, y) in µm of the outer corner of pixel (0, 0) of `image`.
    measure
        "counts": raw molecule counts, the default and checked. "intensity": protein intensities, declared by the user.
    no_image
        True: accept the section without its image (recorded); the image is not read even where there is one.
    donor, tissue, disease, organism
        Facts of the section, carried to every cell.
    facts
        Further samplesheet columns, carried as they are.

    Notes
    -----
    Paths may be text: they become paths.

    Examples
    --------
    >>> Source("breast", "outs").path.name
    'outs'
    """

    sample: str
    path: Path | None = None
    platform: str | None = None
    counts: Path | None = None
    image: Path | None = None
    outlines: Path | None = None
    labels: Path | None = None
    um_per_px: float | None = None
    channels: tuple[str, ...] | None = None
    image_origin_um: tuple[float, float] = (0.0, 0.0)
    measure: Measure = "counts"
    no_image: bool = False
    donor: str | None = None
    tissue: str | None = None
    disease: str | None = None
    organism: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in PATHS:
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))

    @property
    def where(self) -> str:
        """The path that an error message names."""
        return str(self.path if self.path is not None else self.counts)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values (paths as text)."""
        plain = dataclasses.asdict(self)
        return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}
