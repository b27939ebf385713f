"""Does a label raster agree with the cells: is each cell's own label under its centroid?"""

import numpy as np
from numpy.typing import NDArray

from spatia.io.border import Pyramid
from spatia.io.check_offset import image_mirror_um
from spatia.io.check_positions import Plausible, scale_hint, spread_sample
from spatia.io.check_reading import reading
from spatia.io.findings import Finding, Severity
from spatia.io.lazy import compute_here
from spatia.io.stain import densest_window, inside_image

Floats = NDArray[np.float64]


def label_findings(
    labels: Pyramid, label_of_cell: NDArray[np.int64], position_um: Floats
) -> tuple[list[Finding], float]:
    """Judge a label raster: is each cell's own label under its centroid? Returns also the median cell diameter, µm."""
    level = labels.levels[0]
    diameter, counted = _label_diameter(labels, label_of_cell, position_um)
    rows = spread_sample(len(position_um), 2_000)
    tries = {
        "as stated": position_um[rows],
        "x and y swapped": position_um[rows][:, ::-1],
        "y flipped": np.column_stack([position_um[rows][:, 0], image_mirror_um(labels)[1] - position_um[rows][:, 1]]),
        "x flipped": np.column_stack([image_mirror_um(labels)[0] - position_um[rows][:, 0], position_um[rows][:, 1]]),
    }
    shares = {name: float((_label_at(labels, where) == label_of_cell[rows]).mean()) for name, where in tries.items()}
    stated = shares["as stated"]
    best = max(shares, key=lambda name: shares[name])
    limits = Plausible()
    severity: Severity = (
        "refused" if stated < limits.inside_share_refused else "warning" if stated < limits.inside_share else "ok"
    )
    better = f"; {best}: {shares[best]:.1%}" if shares[best] > stated + 0.2 else ""
    return [
        Finding(
            "labels-inside",
            severity,
            "axis order: centroids on their own label",
            f"{stated:.1%} of {rows.size:,} sampled{better}",
            f">= {limits.inside_share:.0%}",
            "" if severity == "ok" else "Correct the positions, or the label raster's pixel size, at their source.",
        ),
        _diameter_finding(diameter, counted, level.um_per_px[0]),
    ], diameter


def _diameter_finding(diameter_um: float, counted: int, um_per_px: float) -> Finding:
    low, high = Plausible().diameter_um
    fine = low <= diameter_um <= high
    # without a single cell nothing is known of their size: that they lie elsewhere is judged by labels-inside
    severity: Severity = "ok" if fine else "refused" if counted else "warning"
    return Finding(
        "cell-diameter",
        severity,
        f"median cell diameter from the labels (units; {counted:,} cells)",
        f"{diameter_um:.1f} µm{'' if fine else scale_hint(diameter_um)}" if counted else "no label of a cell",
        f"{low:g} to {high:g} µm",
        "" if fine else f"Is the label raster's pixel size of {um_per_px:.4g} µm right?",
        forceable=True,
    )


def _label_at(labels: Pyramid, position_um: Floats) -> NDArray[np.int64]:
    level = labels.levels[0]
    px = np.floor((position_um - np.asarray(labels.origin_um)) / np.asarray(level.um_per_px)).astype(np.int64)
    raster = level.pixels[0]
    inside = (px >= 0).all(axis=1) & (px[:, 0] < raster.shape[1]) & (px[:, 1] < raster.shape[0])
    found = np.full(len(px), -1, np.int64)
    with reading("the label raster"):
        found[inside] = compute_here(raster.vindex[px[inside, 1], px[inside, 0]]) if inside.any() else []
    return found


def _label_diameter(
    labels: Pyramid, label_of_cell: NDArray[np.int64], position_um: Floats, most_px: int = 16_000_000
) -> tuple[float, int]:
    """Measure the cells where most of them lie: the middle of a raster may be empty. Returns the median and their number."""
    level = labels.levels[0]
    raster = level.pixels[0]
    side = int(np.sqrt(most_px))
    on_raster = inside_image(position_um, labels)
    if not on_raster.any():
        return float("nan"), 0
    corner_um = densest_window(position_um[on_raster], side * max(level.um_per_px))[:2]
    corner_px = (np.asarray(corner_um) - np.asarray(labels.origin_um)) / np.asarray(level.um_per_px)
    left, top = np.clip(corner_px.astype(int), 0, np.maximum(np.array(raster.shape[::-1]) - side, 0))
    with reading("the label raster"):
        window = compute_here(raster[top : top + side, left : left + side])
    values, tally = np.unique(window, return_counts=True)
    tally = tally[np.isin(values, label_of_cell)]
    area = tally * level.um_per_px[0] * level.um_per_px[1]
    return (float(2 * np.sqrt(np.median(area) / np.pi)), int(tally.size)) if tally.size else (float("nan"), 0)
