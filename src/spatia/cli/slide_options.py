"""The options that name slides, shared by every command that takes some, and the `Source` objects made of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spatia.errors import SettingsError

if TYPE_CHECKING:
    from spatia.io.source import Source

LEVELS = "Levels and niches"
PANEL = "A slide without a vendor's folder, or with another image"

Slides = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Output folder of a run (Xenium, CosMx, MERSCOPE, Visium HD), or a SpatialData zarr.", show_default=False
    ),
]
Samplesheet = Annotated[
    Path | None,
    typer.Option("--samplesheet", help="CSV with one section a line: sample, path, donor, tissue, …"),
]
Counts = Annotated[
    Path | None,
    typer.Option(
        "--counts", help="Counts of a slide without a vendor's folder: h5ad, 10x h5, csv.", rich_help_panel=PANEL
    ),
]
Image = Annotated[
    Path | None,
    typer.Option(
        "--image",
        help="Image of --counts, or instead of the folder's own (an H&E, for instance).",
        rich_help_panel=PANEL,
    ),
]
UmPerPx = Annotated[
    float | None, typer.Option("--um-per-px", help="Pixel size of --image and --labels, µm.", rich_help_panel=PANEL)
]
Outlines = Annotated[
    Path | None,
    typer.Option("--outlines", help="Vertices of the cells' outlines: parquet or csv.", rich_help_panel=PANEL),
]
Labels = Annotated[
    Path | None, typer.Option("--labels", help="Label raster of the cells, on the image's grid.", rich_help_panel=PANEL)
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", help="Names of the image's channels, comma-separated.", rich_help_panel=PANEL),
]
Origin = Annotated[
    tuple[float, float],
    typer.Option("--image-origin-um", help="Position x y of the image's first corner, µm.", rich_help_panel=PANEL),
]
Nuclei = Annotated[
    str,
    typer.Option(
        "--nuclei",
        help="outlines: of the slide alone; stain: where it has none, found by the nuclear stain within each cell.",
        rich_help_panel=LEVELS,
    ),
]
Measure = Annotated[
    str,
    typer.Option("--measure", help="counts, or intensity for declared protein intensities.", rich_help_panel=PANEL),
]
NoImage = Annotated[
    bool,
    typer.Option(
        "--no-image", help="Take the slide without its image; the absence is recorded.", rich_help_panel=PANEL
    ),
]
Platform = Annotated[
    str | None,
    typer.Option("--platform", help="Reader to use, where it is not to be recognised.", rich_help_panel=PANEL),
]


def sources_of(samplesheet: Path | None, slides: Sequence[Path] | None, **given: Any) -> "list[Source]":
    """Return the slides of a samplesheet, or those named on the command line with the options of :func:`sources_from`.

    Raises
    ------
    SettingsError
        If an option that names or describes a slide stands beside a samplesheet, which does that for each; as :func:`sources_from`.
    SlideError
        If the samplesheet cannot be read.
    """
    if samplesheet is None:
        return sources_from(slides, **given)
    if slides:
        raise SettingsError("Give either slides or --samplesheet, not both: the samplesheet names the slides.")
    if beside := [name for name, default in (sources_from.__kwdefaults__ or {}).items() if given[name] != default]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in beside)
        columns = ", ".join(
            "image_origin_x_um, image_origin_y_um" if name == "image_origin_um" else name for name in beside
        )
        raise SettingsError(
            f"{options} beside --samplesheet {samplesheet}: of which slide? The samplesheet says it of each, in columns {columns}."
        )
    from spatia.io.samplesheet import read_samplesheet

    return read_samplesheet(samplesheet)


def sources_from(
    slides: Sequence[Path] | None,
    *,
    counts: Path | None = None,
    image: Path | None = None,
    um_per_px: float | None = None,
    outlines: Path | None = None,
    labels: Path | None = None,
    channels: str | None = None,
    image_origin_um: tuple[float, float] = (0.0, 0.0),
    measure: str = "counts",
    no_image: bool = False,
    platform: str | None = None,
) -> "list[Source]":
    """Return one `Source` per slide named on the command line.

    Raises
    ------
    SettingsError
        If no slide is named, two would share a name, or an option of one slide is given for several.
    """
    from spatia.io.source import Source

    folders = list(slides or [])
    if measure not in ("counts", "intensity"):
        raise SettingsError(f"--measure is {measure!r}; expected 'counts' or 'intensity'.")
    if counts is not None and folders:
        raise SettingsError("Give either slide folders or --counts, not both: --counts is a slide without a folder.")
    if counts is None and not folders:
        raise SettingsError(
            "No slide named. Give the output folder of a run, or --counts with --image and --um-per-px."
        )
    of_one = {"--image": image, "--outlines": outlines, "--labels": labels, "--um-per-px": um_per_px}
    given = [name for name, value in of_one.items() if value is not None]
    if len(folders) > 1 and given:
        raise SettingsError(
            f"{', '.join(given)}: of which of the {len(folders)} slides? Use a samplesheet, or one slide."
        )
    names = sample_names([counts] if counts is not None else folders)
    paths: list[Path | None] = [*folders] if folders else [None]
    named_channels = tuple(part.strip() for part in channels.split(",")) if channels else None
    return [
        Source(
            sample=name,
            path=path,
            platform=platform,
            counts=counts,
            image=image,
            outlines=outlines,
            labels=labels,
            um_per_px=um_per_px,
            channels=named_channels,
            image_origin_um=image_origin_um,
            measure="intensity" if measure == "intensity" else "counts",
            no_image=no_image,
        )
        for name, path in zip(names, paths, strict=True)
    ]


def sample_names(paths: Sequence[Path]) -> list[str]:
    """Name each section after its folder or file; `outs`, which every run has, takes its parent's name.

    Examples
    --------
    >>> sample_names([Path("runs/breast 1/outs"), Path("lung.zarr")])
    ['breast_1', 'lung']
    """
    names = []
    for path in paths:
        whole = path.resolve()
        chosen = whole.parent if whole.name in ("outs", "output") else whole
        stem = re.sub(r"\.(zarr|h5ad|h5|csv|csv\.gz|loom|zip)$", "", chosen.name)
        names.append(re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._") or "sample")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SettingsError(f"Two slides would both be named {repeated[0]!r}. Name them yourself in a samplesheet.")
    return names
