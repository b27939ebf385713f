"""The parallel tasks of a section's build: each writes whole shards of rows, so that tasks never meet in a file."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.canvas import decode_tile
from spatia.corpus.crops import cut_crops, pixels_on_image, window_corners
from spatia.corpus.files import whole_file, write_text
from spatia.corpus.intensity import IntensityMap
from spatia.corpus.label_outlines import rings_from_labels
from spatia.corpus.morphology import shape_table, stain_table
from spatia.corpus.outlines import Rings, draw_rings, measure_shapes, read_rings
from spatia.corpus.plan import SectionPlan
from spatia.corpus.settings import LevelSettings
from spatia.corpus.slides import opened
from spatia.corpus.stain_nuclei import find_nuclei, nuclear_stain
from spatia.corpus.store import array_in
from spatia.io.border import slide_pyramid

BATCH = 512  # cells cut, drawn and measured together: their arrays fit the processor's cache
TISSUE_SHARD = 16  # tissue windows a shard; their images are large


def decode_canvas_tile(plan: SectionPlan, tile: tuple[int, int]) -> None:
    """Decode one tile of the slide's image onto the canvas."""
    pyramid = slide_pyramid(opened(plan.source))
    if plan.canvas is None or pyramid is None:
        raise RuntimeError(f"{plan.source.sample}: there is no image to decode")
    decode_tile(pyramid, plan.canvas, tile, plan.canvas_folder)


def cell_block(plan: SectionPlan, block: int) -> None:
    """Cut, mask and measure one shard of cells.

    The features go to a scratch file (features, cells), written last: a block that has one is complete.
    """
    done = plan.scratch / "features" / f"block-{block:06d}.npy"
    if done.exists():
        return
    rows = plan.settings.storage.shard_rows
    start, stop = block * rows, min((block + 1) * rows, plan.n_cells)
    obsm = zarr.open_group(plan.store / keys.STORES["cell"] / "obsm", mode="r+")
    image_store = array_in(obsm, keys.CELL_IMAGES) if plan.canvas is not None else None
    mask_store = array_in(obsm, keys.CELL_MASKS) if plan.outlines is not None else None
    # filled batch by batch in place: a block's crops are in memory once
    images, masks = (
        None if store is None else np.empty((stop - start, *store.shape[1:]), np.uint8)
        for store in (image_store, mask_store)
    )
    features = []
    for a in range(start, stop, BATCH):
        rows_here = slice(a - start, min(a + BATCH, stop) - start)
        features.append(
            _measure_batch(
                plan,
                start + rows_here.start,
                start + rows_here.stop,
                None if images is None else images[rows_here],
                None if masks is None else masks[rows_here],
            )
        )
    for store, rows_of_block in ((image_store, images), (mask_store, masks)):
        if store is not None and rows_of_block is not None:
            store[start:stop] = rows_of_block
    with whole_file(done) as aside, aside.open("wb") as file:
        np.save(file, np.ascontiguousarray(np.concatenate(features).T), allow_pickle=False)


def _measure_batch(
    plan: SectionPlan, start: int, stop: int, images: NDArray[np.uint8] | None, masks: NDArray[np.uint8] | None
) -> NDArray[np.float32]:
    """Fill images and masks of the rows [start, stop); return image share, has outline, then the morphology features."""
    level, centre = plan.settings.cell, np.asarray(plan.array("position_um")[start:stop])
    corner = window_corners(centre, level.px, level.um_per_px, plan.anchor_um)
    share = np.full(stop - start, np.nan, np.float32)
    if images is not None:
        share = cut_crops(
            plan.open_canvas(),
            intensity_tables(plan),
            centre,
            plan.array("tissue")[start:stop],
            level.px,
            level.um_per_px,
            out=images,
        ).image_share
    columns: list[NDArray[Any]] = [share[:, None]]
    if masks is not None:
        cell_rings = _cell_rings(plan, start, stop)
        masks[:] = draw_rings(cell_rings, stop - start, corner, level.px, level.um_per_px) * np.uint8(keys.MASK_CELL)
        nucleus_rings = _nucleus_rings(plan, start, stop, images, masks > 0, corner)
        if nucleus_rings is not None:
            masks |= draw_rings(nucleus_rings, stop - start, corner, level.px, level.um_per_px) * np.uint8(
                keys.MASK_NUCLEUS
            )
        has_outline = np.bincount(cell_rings.cell, minlength=stop - start) > 0
        nucleus = None if nucleus_rings is None else measure_shapes(nucleus_rings, stop - start)
        columns += [has_outline[:, None], shape_table(measure_shapes(cell_rings, stop - start), nucleus)]
        if images is not None:
            columns.append(stain_table(images, _measurable(plan, centre, masks, share), plan.has_nucleus))
    else:
        columns.append(np.zeros((stop - start, 1)))
    return np.hstack(columns).astype(np.float32)


def _measurable(
    plan: SectionPlan, centre_um: NDArray[np.float64], masks: NDArray[np.uint8], share: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return the masks without the pixels beyond the image: its stain there is not known, and 0 only in the crop."""
    cut = np.flatnonzero(share < 1)
    if plan.canvas is None or not len(cut):
        return masks
    level = plan.settings.cell
    kept = masks.copy()
    kept[cut] *= pixels_on_image(plan.canvas, centre_um[cut], level.px, level.um_per_px)
    return kept


def _cell_rings(plan: SectionPlan, start: int, stop: int) -> Rings:
    if plan.outlines == "labels":
        return rings_from_labels(plan, start, stop)
    return read_rings(plan.spill(keys.CELL_OUTLINES), start, stop)


def _nucleus_rings(
    plan: SectionPlan,
    start: int,
    stop: int,
    images: NDArray[np.uint8] | None,
    inside: NDArray[np.bool_],
    corner_um: NDArray[np.float64],
) -> Rings | None:
    if plan.nuclei == "outlines":
        return read_rings(plan.spill(keys.NUCLEUS_OUTLINES), start, stop)
    stain = nuclear_stain(plan.channels)
    if plan.nuclei is None or images is None or stain is None:
        return None
    um_per_px = plan.settings.cell.um_per_px
    return find_nuclei(images[:, stain], um_per_px, inside).rings(corner_um, um_per_px)


def window_block(plan: SectionPlan, level: str, block: int) -> None:
    """Cut one shard of niche or tissue images."""
    done = plan.scratch / "done" / f"{level}-{block:06d}"
    if done.exists():
        return
    settings, rows = level_settings(plan, level), shard_rows(plan, level)
    centre, tissue = window_centres(plan, level)
    start, stop = block * rows, min((block + 1) * rows, len(centre))
    images = array_in(zarr.open_group(plan.store / keys.STORES[level] / "obsm", mode="r+"), keys.IMAGES)
    step = BATCH if settings.px <= 64 else 4  # a few large windows at a time
    tables, canvas = intensity_tables(plan), plan.open_canvas()
    block_images = np.empty((stop - start, *images.shape[1:]), np.uint8)
    for a in range(start, stop, step):
        b = min(a + step, stop)
        # each large window is read by itself: windows of neighbouring tissue do not overlap
        group = np.asarray(tissue[a:b]) if level == "niche" else np.arange(a, b)
        here = block_images[a - start : b - start]
        cut_crops(canvas, tables, np.asarray(centre[a:b]), group, settings.px, settings.um_per_px, out=here)
    images[start:stop] = block_images
    write_text(done, "")


def level_settings(plan: SectionPlan, level: str) -> LevelSettings:
    """Return size and pixels of a level's window."""
    return {"cell": plan.settings.cell, "niche": plan.settings.niche, "tissue": plan.settings.tissue}[level]


def shard_rows(plan: SectionPlan, level: str) -> int:
    """Return how many rows a shard of a level's images has."""
    return TISSUE_SHARD if level == "tissue" else plan.settings.storage.shard_rows


def window_centres(plan: SectionPlan, level: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the centres (x, y, µm) of a level's windows and the tissue window each lies in."""
    if level == "tissue":
        centre = plan.array("tissue_centre_um")
        return centre, np.arange(len(centre))
    if plan.niches_around_cells:
        return plan.array("position_um"), plan.array("tissue")
    return plan.array("niche_centre_um"), plan.array("niche_tissue")


def intensity_tables(plan: SectionPlan) -> NDArray[np.uint8]:
    """Return the look-up tables from raw values to uint8, (channels, values)."""
    return np.load(plan.scratch / "intensity_tables.npy")


def save_intensity(plan: SectionPlan, maps: dict[str, IntensityMap]) -> None:
    """Save each channel's map, and its look-up table for the tasks."""
    if plan.canvas is None:
        raise RuntimeError("no image, no intensities")
    np.save(
        plan.scratch / "intensity_tables.npy",
        np.stack([maps[c].table(np.dtype(plan.canvas.dtype)) for c in plan.channels]),
    )
    write_text(plan.scratch / "intensity.json", json.dumps({name: one.to_json() for name, one in maps.items()}))


def image_calls(plan: SectionPlan) -> Iterator[tuple[Callable[..., None], tuple[object, ...]]]:
    """List the tasks that follow once the canvas and the tables are there: the short blocks of tissue windows last."""
    for block in range(-(-plan.n_cells // plan.settings.storage.shard_rows)):
        yield cell_block, (plan, block)
    if plan.canvas is not None:
        for level in ("niche", "tissue"):
            n = len(window_centres(plan, level)[0])
            for block in range(-(-n // shard_rows(plan, level))):
                yield window_block, (plan, level, block)
