"""The doctor's figure: do outlines and centroids sit on the image?"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from spatialdata import SpatialData

from spatia import keys
from spatia.io.border import Level, Pyramid, slide_info, slide_labels, slide_outlines, slide_pyramid, slide_table
from spatia.io.check_outlines import survey_outlines
from spatia.io.check_positions import spread_sample
from spatia.io.check_reading import reading
from spatia.io.findings import Report
from spatia.io.stain import densest_window, image_extent_um, stain_channel

Floats = NDArray[np.float64]
Window = tuple[float, float, float, float]  # x0, y0, x1, y1, µm
CELL, NUCLEUS, CENTROID = "#00e5ff", "#ffd400", "#ff4da6"  # told apart on grey, on H&E, and by the colour-blind
MOST_DOTS = 20_000
MOST_OUTLINES = 4_000


def plot_slide_qc(slide: SpatialData, report: Report, path: Path, *, zoom_um: float = 160.0) -> None:
    """Write a PNG: the whole slide with its cells, and a dense part of it with outlines and centroids.

    Parameters
    ----------
    slide
        The border object; only what is drawn is read.
    report
        The doctor's findings; their verdict becomes the title.
    path
        The PNG to write.
    zoom_um
        Side of the magnified part, µm.
    """
    position = np.asarray(slide_table(slide).obsm[keys.SPATIAL], np.float64)[:, :2]
    position_seen = position[np.isfinite(position).all(axis=1)]
    pyramid = slide_pyramid(slide)
    whole = _whole(pyramid, position_seen)
    zoom = _zoom(whole, position_seen, zoom_um)
    width = float(np.clip((whole[2] - whole[0]) / (whole[3] - whole[1]), 0.5, 2.0)) * 6
    figure = Figure(figsize=(width + 6.2, 7.0), dpi=130)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 2, width_ratios=(width, 6), left=0.008, right=0.992, bottom=0.05, top=0.9, wspace=0.02
    )
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    _draw_part(left, slide, whole, position, fine=False)
    _draw_part(right, slide, zoom, position, fine=True)
    for colour, line in (("black", 2.8), ("white", 1.2)):
        left.add_patch(Rectangle(zoom[:2], zoom[2] - zoom[0], zoom[3] - zoom[1], fill=False, ec=colour, lw=line))
    _captions(figure, slide, report, pyramid)
    figure.savefig(path)


def _whole(pyramid: Pyramid | None, position: Floats) -> Window:
    if pyramid is not None:
        return image_extent_um(pyramid)
    if not len(position):
        return 0.0, 0.0, 1.0, 1.0
    (x0, y0), (x1, y1) = position.min(axis=0) - 10, position.max(axis=0) + 10
    return float(x0), float(y0), float(x1), float(y1)


def _zoom(whole: Window, position: Floats, side_um: float) -> Window:
    """Return the square with most cells, moved so that it does not reach beyond the whole where that is large enough."""
    x0, y0, x1, y1 = whole
    side = min(side_um, max(x1 - x0, y1 - y0))
    inside = position[((position >= (x0, y0)) & (position <= (x1, y1))).all(axis=1)]
    x, y = densest_window(inside, side)[:2] if len(inside) else ((x0 + x1 - side) / 2, (y0 + y1 - side) / 2)
    x = float(np.clip(x, x0, x1 - side)) if x1 - x0 >= side else (x0 + x1 - side) / 2
    y = float(np.clip(y, y0, y1 - side)) if y1 - y0 >= side else (y0 + y1 - side) / 2
    return x, y, x + side, y + side


def _draw_part(ax: Axes, slide: SpatialData, window: Window, position: Floats, *, fine: bool) -> None:
    x0, y0, x1, y1 = window
    pyramid = slide_pyramid(slide)
    ax.set_facecolor("#20242c" if pyramid is not None and not pyramid.rgb else "white")
    if pyramid is not None:
        pixels, extent = _view(pyramid, window)
        ax.imshow(pixels, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="antialiased", origin="upper")
    x, y = position.T
    rows = np.flatnonzero((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
    drawn_outlines = rows[spread_sample(len(rows), MOST_OUTLINES)]
    if fine or len(rows) <= MOST_OUTLINES:
        _draw_outlines(ax, slide, drawn_outlines, 1.1 if fine else 0.35)
        if fine:
            _draw_labels(ax, slide, window)
    dots = rows[spread_sample(len(rows), MOST_DOTS)]
    if fine:
        ax.scatter(x[dots], y[dots], s=13, c=CENTROID, edgecolors="white", linewidths=0.5)
    else:
        size = float(np.clip(3_000 / max(len(dots), 1), 0.15, 4.0))
        ax.scatter(x[dots], y[dots], s=size, c=CENTROID, linewidths=0, alpha=0.8)
    ax.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[], aspect="equal")
    _scale_bar(ax, window)


def _draw_outlines(ax: Axes, slide: SpatialData, rows: NDArray[np.int64], width: float) -> None:
    ids = slide_table(slide).obs_names
    for name, colour in ((keys.CELL_OUTLINES, CELL), (keys.NUCLEUS_OUTLINES, NUCLEUS)):
        outlines = slide_outlines(slide, name)
        if outlines is None or ids.has_duplicates or not len(rows):
            continue
        rings = [np.vstack([ring, ring[:1]]) for ring in survey_outlines(outlines, ids, rows).kept.values()]
        ax.add_collection(LineCollection(rings, colors=colour, linewidths=width), autolim=False)


def _draw_labels(ax: Axes, slide: SpatialData, window: Window) -> None:
    labels = slide_labels(slide)
    if labels is None:
        return
    values, extent = _crop(labels, labels.levels[0], window, 1)
    edge = np.zeros(values.shape[1:], bool)
    edge[:, 1:] |= values[0, :, 1:] != values[0, :, :-1]
    edge[1:, :] |= values[0, 1:, :] != values[0, :-1, :]
    shown = np.zeros((*edge.shape, 4))
    shown[edge] = (0.0, 0.9, 1.0, 1.0)
    ax.imshow(shown, extent=extent, interpolation="nearest", origin="upper")


def _view(pyramid: Pyramid, window: Window, most_px: int = 1_600) -> tuple[NDArray[np.float32], Window]:
    """Return the window stretched to 0..1, as (y, x) grey of the nuclear channel or (y, x, 3), and its extent for imshow."""
    target = max(window[2] - window[0], window[3] - window[1]) / most_px
    fine_enough = [level for level in pyramid.levels if max(level.um_per_px) <= target]
    level = fine_enough[-1] if fine_enough else pyramid.levels[0]
    pixels, extent = _crop(pyramid, level, window, max(1, int(target / max(level.um_per_px))))
    values = pixels.astype(np.float32)
    if pyramid.rgb:
        scale = 1.0 if values.max(initial=0) <= 1 else 255.0 if values.max() <= 255 else 65535.0
        return np.moveaxis(values[:3], 0, -1) / scale, extent
    channel = stain_channel(pyramid) or pyramid.channels[0]
    grey = values[pyramid.channels.index(channel)]
    low, high = np.percentile(grey, [1, 99.7]) if grey.size else (0.0, 1.0)
    stretched: NDArray[np.float32] = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) ** np.float32(0.8)
    return stretched, extent


def _crop(pyramid: Pyramid, level: Level, window: Window, step: int) -> tuple[NDArray[Any], Window]:
    (ox, oy), (sx, sy) = pyramid.origin_um, level.um_per_px
    _, height, width = level.pixels.shape
    columns = (max(0, int((window[0] - ox) / sx)), min(width, int(np.ceil((window[2] - ox) / sx))))
    rows = (max(0, int((window[1] - oy) / sy)), min(height, int(np.ceil((window[3] - oy) / sy))))
    lazy = level.pixels[:, rows[0] : rows[1] : step, columns[0] : columns[1] : step]
    with reading("the image"):
        pixels = np.asarray(lazy.compute(scheduler="threads", num_workers=2))
    right, bottom = columns[0] + pixels.shape[2] * step, rows[0] + pixels.shape[1] * step
    return pixels, (ox + columns[0] * sx, ox + right * sx, oy + bottom * sy, oy + rows[0] * sy)


def _scale_bar(ax: Axes, window: Window) -> None:
    x0, y0, x1, y1 = window
    length = max(nice for nice in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000) if nice <= max(1.0, (x1 - x0) / 4))
    left, base = x0 + 0.04 * (x1 - x0), y1 - 0.05 * (y1 - y0)
    ax.plot([left, left + length], [base, base], color="black", lw=6, solid_capstyle="butt")
    ax.plot([left, left + length], [base, base], color="white", lw=3, solid_capstyle="butt")
    ax.text(
        left + length / 2, base - 0.015 * (y1 - y0), f"{length:g} µm", color="white", ha="center", va="bottom", fontsize=9,
        bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip


def _captions(figure: Figure, slide: SpatialData, report: Report, pyramid: Pyramid | None) -> None:
    refused = report.of_severity("refused")
    verdict = "REFUSED: " + ", ".join(finding.code for finding in refused) if refused else "fine"
    table = slide_table(slide)
    stain = "no image" if pyramid is None else (stain_channel(pyramid) or "RGB")
    figure.text(
        0.012, 0.985, f"{report.sample} ({slide_info(slide).platform}), {table.n_obs:,} cells, {stain}: {verdict}",
        va="top", fontsize=12, fontweight="bold", color="#b00020" if refused else "black", parse_math=False,
    )  # fmt: skip
    aligned = report.find("image-alignment")
    if aligned is not None:
        figure.text(0.012, 0.94, _wrap(f"alignment: {aligned.found}"), va="top", fontsize=9, parse_math=False)
    drawn = [(CELL, "cell outline")] if keys.CELL_OUTLINES in slide.points or keys.CELL_LABELS in slide.labels else []
    drawn += [(NUCLEUS, "nucleus outline")] if keys.NUCLEUS_OUTLINES in slide.points else []
    for place, (colour, name) in enumerate([*drawn, (CENTROID, "centroid")]):
        box = {"facecolor": "#20242c", "edgecolor": "none", "pad": 2.5}
        figure.text(0.012 + 0.115 * place, 0.015, f"■ {name}", color=colour, fontsize=9, bbox=box)


def _wrap(text: str, width: int = 170) -> str:
    return "\n".join(textwrap.wrap(text, width)[:2])
