"""Draw a simulated slide beside its truth: stains, types, a state, and a part close up with its outlines."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import zarr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from spatia.errors import SlideError
from spatia.simulate.celltypes import CODE, STATES, TYPES
from spatia.simulate.outlines import vertices_um
from spatia.simulate.section import Cells
from spatia.simulate.states import TYPES_WITH
from spatia.simulate.truth import read_truth

# how much of each channel goes to red, green and blue
MIX = np.array([[0.10, 0.25, 1.00], [0.10, 0.80, 0.05], [0.12, 0.16, 0.10], [0.95, 0.20, 0.25]])
STATE_COLOURS = {"emt": "inferno", "proliferation": "viridis", "activation": "viridis", "hypoxia": "inferno"}


@dataclass(frozen=True)
class View:
    """A square of the slide: upper left corner (x, y) and side, µm."""

    corner_um: tuple[float, float]
    side_um: float


def draw(bundle: Path, out_png: Path, *, state: str = "emt", zoom_um: float = 190.0, dpi: int = 80) -> Path:
    """Draw a bundle of ``spatia simulate`` into a PNG.

    Parameters
    ----------
    state
        The state that the third panel shows.
    zoom_um
        Side of the part that the fourth panel shows close up; it is chosen where most types meet.

    Raises
    ------
    SlideError
        If the folder has no truth, or the state is unknown.
    """
    if state not in STATES:
        raise SlideError(f"{bundle}: no state {state!r}. Expected one of {', '.join(STATES)}.")
    section = read_truth(Path(bundle)).section
    cells, whole = section.cells, View((0.0, 0.0), section.side_um)
    zoom = _liveliest(cells, section.side_um, min(zoom_um, section.side_um / 2))
    figure = Figure(figsize=(13, 13), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    stains, types, states, close = figure.subplots(2, 2).ravel()
    _show(stains, Path(bundle), whole, pixels=700)
    stains.set_title("Stains: DAPI blue, boundary green, 18S grey, αSMA / vimentin red")
    _outline_box(stains, zoom)
    _fill(types, cells, whole, np.array([kind.colour for kind in TYPES])[cells.kind])
    patches = [Patch(color=kind.colour, label=kind.name.replace("_", " ")) for kind in TYPES]
    types.legend(handles=patches, loc="lower center", ncols=5, fontsize=8, frameon=False, bbox_to_anchor=(0.5, -0.085))
    types.set_title("Truth: types")
    able = np.isin(cells.kind, [CODE[name] for name in TYPES_WITH[state]])
    values = np.where(able, cells.states[:, STATES.index(state)], np.nan)
    shades = _fill(states, cells, whole, values, STATE_COLOURS[state])
    figure.colorbar(shades, ax=states, location="bottom", shrink=0.5, aspect=30, pad=0.01, label=state)
    states.set_title(f"Truth: {state} (grey: types without it)")
    _show(close, Path(bundle), zoom, pixels=900)
    for radii, style in ((cells.outlines.cell, "-"), (cells.outlines.nucleus, ":")):
        rings = list(vertices_um(cells.centre_um, radii))
        close.add_collection(
            PolyCollection(rings, facecolors="none", edgecolors="white", linewidths=0.5, linestyles=style, alpha=0.7)
        )
    close.set_title(f"Close up ({zoom.side_um:.0f} µm) with outlines of cells and nuclei")
    _save_small(figure, Path(out_png), dpi)
    return Path(out_png)


def _save_small(figure: Figure, out_png: Path, dpi: int) -> None:
    """Save with 256 colours: a third of the size, and no difference that the eye finds."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture.quantize(224, dither=Image.Dither.NONE).save(out_png, optimize=True)


def _liveliest(cells: Cells, side_um: float, zoom_um: float) -> View:
    """Find the square where the most evenly mixed types meet (highest entropy), epithelium counted twice."""
    best, where = -1.0, (0.0, 0.0)
    for x in np.arange(0.08 * side_um, 0.92 * side_um - zoom_um, zoom_um / 3):
        for y in np.arange(0.08 * side_um, 0.92 * side_um - zoom_um, zoom_um / 3):
            inside = ((cells.centre_um >= [x, y]) & (cells.centre_um < [x + zoom_um, y + zoom_um])).all(1)
            share = np.bincount(cells.kind[inside], minlength=len(TYPES)) + 1e-3
            share = share / share.sum()
            entropy = -(share * np.log(share)).sum() + share[:3].min()
            if entropy > best:
                best, where = entropy, (float(x), float(y))
    return View(where, zoom_um)


def _show(axes: Axes, bundle: Path, view: View, pixels: int) -> None:
    """Show the stains of a view from the coarsest pyramid level that is fine enough, read through zarr."""
    path = bundle / "morphology_focus" / "morphology_focus_0000.ome.tif"
    um_per_px = read_truth(bundle).settings.um_per_px
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        fits = [i for i in range(len(levels)) if view.side_um / (um_per_px * 2**i) >= pixels]
        level = max(fits, default=0)
        scale = um_per_px * 2**level
        array = zarr.open_array(file.series[0].aszarr(level=level), mode="r")
        (left, top), side = (int(c / scale) for c in view.corner_um), int(view.side_um / scale)
        image = np.asarray(array[:, top : top + side, left : left + side], np.float32)
    height, width = image.shape[1] * scale, image.shape[2] * scale
    extent = (left * scale, left * scale + width, top * scale + height, top * scale)
    axes.imshow(composite(image), extent=extent, interpolation="antialiased")
    _frame(axes, view)


def composite(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix four channels (4, h, w) into RGB (h, w, 3) in [0, 1]; each is stretched to its own range."""
    low = np.percentile(image, 3, axis=(1, 2), keepdims=True)
    high = np.percentile(image, 99.3, axis=(1, 2), keepdims=True)
    level = np.clip((image - low) / np.maximum(high - low, 1), 0, 1) ** 0.75
    return np.clip(np.einsum("chw,cr->hwr", level, MIX), 0, 1)


def _fill(axes: Axes, cells: Cells, view: View, values: NDArray, colours: str | None = None) -> PolyCollection:
    polygons = PolyCollection(list(vertices_um(cells.centre_um, cells.outlines.cell)), linewidths=0)
    if colours is None:
        polygons.set_facecolor(values.tolist())
    else:
        shades = colormaps[colours].with_extremes(bad="#c9c9c9")  # cells of types that cannot have the state
        polygons.set(array=np.ma.masked_invalid(values), cmap=shades, clim=(0, 1))
    axes.add_collection(polygons)
    axes.set_facecolor("white")
    _frame(axes, view)
    return polygons


def _outline_box(axes: Axes, view: View) -> None:
    (x, y), side = view.corner_um, view.side_um
    axes.plot([x, x + side, x + side, x, x], [y, y, y + side, y + side, y], color="white", linewidth=0.8)


def _frame(axes: Axes, view: View) -> None:
    (x, y), side = view.corner_um, view.side_um
    axes.set(xlim=(x, x + side), ylim=(y + side, y), aspect="equal", xticks=[], yticks=[])
