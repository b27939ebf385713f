"""Build one section: plan → decode the image and sort the tables → cut, draw and measure → finish.

Everything grows in a folder beside its place (``.<sample>.building``), task by task; what a killed build has finished is
found again, and the result is byte for byte that of an unbroken one. Only a whole section is renamed to its place.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from spatialdata import SpatialData

from spatia import keys
from spatia.corpus.build_images import (
    decode_canvas_tile,
    image_calls,
    level_settings,
    save_intensity,
    shard_rows,
    window_centres,
)
from spatia.corpus.build_tables import write_counts
from spatia.corpus.canvas import plan_canvas, total_histogram
from spatia.corpus.crops import image_share
from spatia.corpus.expression import spill_counts
from spatia.corpus.files import write_json, write_text
from spatia.corpus.intensity import IDENTITY_UINT8, IntensityMap, map_from_histogram
from spatia.corpus.morphology import feature_names
from spatia.corpus.order import ranges_of
from spatia.corpus.outlines import spill_vertices
from spatia.corpus.plan import SectionPlan, lay_out, save_layout, sort_by_tissue
from spatia.corpus.scheduling import Scheduler
from spatia.corpus.settings import BuildSettings, Nuclei
from spatia.corpus.slides import close, keep_open, let_go_of_table, opened
from spatia.corpus.spill import Spill
from spatia.corpus.stain_nuclei import NUCLEAR_NAMES, nuclear_stain
from spatia.corpus.store import (
    array_in,
    create_rows,
    create_store,
    finish_store,
    open_to_finish,
    read_frame,
    subgroup,
    write_element,
    write_frame_columns,
    write_uns,
)
from spatia.errors import SlideError
from spatia.io.border import SlideInfo, slide_info, slide_outlines, slide_pyramid, slide_table
from spatia.io.columns import WRITTEN_BY_BUILD
from spatia.io.lazy import compute_here
from spatia.io.memory import give_back, large_blocks_returned
from spatia.io.source import PATH_FACTS, Source
from spatia.log import logger

GENE = "gene"
ANNOTATION = "annotation.zarr"  # scratch: obs of the cells in disk order, var of the genes
SPREAD_FEATURES = (
    2  # the first two columns of a block's scratch features: share of the crop on the image, has an outline
)


@dataclass(frozen=True)
class Tables:
    """What the sequential pass over the tables found; kept in the scratch folder as JSON."""

    depth: float
    vertices_without_cell: int
    n_niches: int
    n_tissues: int


def build_section(
    slide: SpatialData,
    source: Source,
    settings: BuildSettings,
    folder: Path,
    fingerprint: dict[str, Any],
    scheduler: Scheduler,
) -> dict[str, Any]:
    """Build the stores of one section in ``folder`` and return the facts for its ``section.json``.

    Parameters
    ----------
    folder
        ``.<sample>.building``; may hold the finished part of a killed build.
    fingerprint
        Digest of input and settings: a folder begun from another input is begun again.

    Returns
    -------
    The facts of ``section.json`` that the build decided (``docs/corpus-format.md``).

    Raises
    ------
    SlideError
        If the slide holds no cell, duplicate genes, or values that cannot be counts.
    """
    keep_open(source, slide)
    try:
        _begin(folder, fingerprint)
        plan = _plan(slide, source, settings, folder)
        tiles = [(decode_canvas_tile, (plan, tile)) for tile in plan.canvas.tiles] if plan.canvas is not None else []
        plan.canvas_folder.mkdir(exist_ok=True)
        with large_blocks_returned():
            # the tables are one long task, begun first: they are read while the other cores decode
            tables, *_ = scheduler.run(f"{source.sample}: decoding", [(prepare_tables, (plan,)), *tiles], "tiles")
            intensity = _intensity(plan)
        let_go_of_table(source)  # where another process read the tables
        give_back()
        scheduler.run(f"{source.sample}: cutting", list(image_calls(plan)), "blocks")
        give_back()
        with large_blocks_returned():
            _finish(plan, tables)
        return _facts(plan, slide_info(slide), tables, intensity)
    finally:
        close(source)


def _begin(folder: Path, fingerprint: dict[str, Any]) -> None:
    note = folder / "scratch" / "fingerprint.json"
    # without its stores, what is left is that of a section that was put in its place
    if (folder / "section").is_dir() and note.exists() and json.loads(note.read_text()) == fingerprint:
        logger.info("%s: continuing a build that was interrupted", folder.name)
        return
    if folder.exists():
        shutil.rmtree(folder)
    for name in ("scratch/features", "scratch/done", "section"):
        (folder / name).mkdir(parents=True)
    write_json(note, fingerprint)


def _plan(slide: SpatialData, source: Source, settings: BuildSettings, folder: Path) -> SectionPlan:
    table, pyramid = slide_table(slide), slide_pyramid(slide)
    genes = _gene_columns(table, source)
    if table.n_obs == 0:
        raise SlideError(f"{source.where}: the slide holds no cell. Expected at least one. Is this the right folder?")
    position = np.asarray(table.obsm[keys.SPATIAL], np.float64)
    if not np.isfinite(position).all():
        cell = table.obs_names[~np.isfinite(position).all(axis=1)][0]
        raise SlideError(f"{source.where}: the centroid of cell {cell!r} is not a number. Expected finite µm.")
    outlines = (
        "vertices" if keys.CELL_OUTLINES in slide.points else "labels" if keys.CELL_LABELS in slide.labels else None
    )
    channels = pyramid.channels if pyramid is not None else ()
    size = settings.tissue.size_um
    corner = tuple(float(value) for value in np.floor(position.min(axis=0) / size) * size)
    return SectionPlan(
        source=source,
        settings=settings,
        store=folder / "section",
        scratch=folder / "scratch",
        channels=channels,
        rgb=pyramid is not None and pyramid.rgb,
        anchor_um=pyramid.origin_um if pyramid is not None else (corner[0], corner[1]),
        canvas=plan_canvas(pyramid, settings.cell.um_per_px) if pyramid is not None else None,
        outlines=outlines,
        nuclei=_nuclei(
            settings, keys.NUCLEUS_OUTLINES in slide.points and outlines == "vertices", outlines, channels, source
        ),
        n_cells=table.n_obs,
        n_genes=len(genes),
    )


def _nuclei(
    settings: BuildSettings, drawn: bool, outlines: str | None, channels: tuple[str, ...], source: Source
) -> Nuclei | None:
    """Return where the outlines of nuclei come from: those of the slide always go first."""
    if drawn or settings.nuclei == "outlines" or outlines is None or not channels:
        return "outlines" if drawn else None
    if nuclear_stain(channels) is None:
        raise SlideError(
            f"{source.where}: nuclei=stain, but none of the channels ({', '.join(channels)}) has the name of a nuclear stain "
            f"({', '.join(NUCLEAR_NAMES)}). Name the channels (--channels), or build without nuclei."
        )
    return "stain"


def _gene_columns(table: ad.AnnData, source: Source) -> NDArray[np.int64]:
    """Columns that are genes; controls and blanks are left out (the doctor counts them)."""
    columns = np.flatnonzero((table.var[keys.FEATURE_TYPE] == GENE).to_numpy())
    if not len(columns):
        raise SlideError(f"{source.where}: none of {table.n_vars} features is a gene. Expected feature_type 'gene'.")
    ids = table.var[keys.GENE_ID].iloc[columns]
    if ids.duplicated().any():
        raise SlideError(
            f"{source.where}: gene id {ids[ids.duplicated()].iloc[0]!r} stands {int(ids.duplicated(keep=False).sum())} times in "
            "the panel. Expected every gene once. Merge or rename the duplicates."
        )
    return columns


def prepare_tables(plan: SectionPlan) -> Tables:
    """Sort counts and outlines into disk order and write all counts: the sequential part of a section."""
    done = plan.scratch / "tables.json"
    if done.exists():
        return Tables(**json.loads(done.read_text()))
    found = _sort_tables(plan)
    let_go_of_table(plan.source)
    give_back()
    _create_stores(plan)
    write_counts(plan, found.depth)
    write_text(done, json.dumps(found.__dict__))
    return found


def _sort_tables(plan: SectionPlan) -> Tables:
    """Bring all that is known of the cells into disk order, in the scratch folder: the table is not needed after this."""
    for name in ("counts", keys.CELL_OUTLINES, keys.NUCLEUS_OUTLINES):
        shutil.rmtree(plan.scratch / name, ignore_errors=True)
    slide = opened(plan.source, table=True)
    table = slide_table(slide)
    position = np.asarray(table.obsm[keys.SPATIAL], np.float64)
    tissues, tissue_row, bounds = sort_by_tissue(position, plan.settings, plan.anchor_um)
    counts = Spill(plan.scratch / "counts", bounds)
    totals = spill_counts(table.X, _gene_columns(table, plan.source), tissue_row, counts)
    depth = float(np.median(totals[totals > 0])) if (totals > 0).any() else 1.0
    layout = lay_out(position, tissues, tissue_row, counts, plan.n_genes, depth, plan.settings)
    save_layout(plan.scratch, layout, position, tissue_row, bounds)
    np.save(plan.scratch / "totals.npy", totals[layout.order])
    if plan.outlines == "labels":
        np.save(plan.scratch / "label.npy", table.obs[keys.LABEL].to_numpy()[layout.order])
    annotation = zarr.create_group(plan.scratch / ANNOTATION, zarr_format=3, overwrite=True)
    write_element(annotation, "obs", table.obs.iloc[layout.order])
    write_element(annotation, "var", table.var.iloc[_gene_columns(table, plan.source)])
    unknown = _spill_outlines(plan, slide, table.obs_names, layout.order)
    return Tables(depth, unknown, len(layout.niche_tissue), len(layout.tissue_centre_um))


def _spill_outlines(plan: SectionPlan, slide: SpatialData, cell_ids: pd.Index, order: NDArray[np.int64]) -> int:
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    cell_row = pd.Series(
        row, index=pd.Index(cell_ids.to_numpy())
    )  # an index of its own: its look-up table goes with it
    unknown = 0
    for name in (keys.CELL_OUTLINES, keys.NUCLEUS_OUTLINES):
        vertices = slide_outlines(slide, name)
        if vertices is None:
            continue
        spill = plan.spill(name)
        for partition in vertices.partitions:
            unknown += spill_vertices(compute_here(partition), cell_row, spill)[1]
    return unknown


def _create_stores(plan: SectionPlan) -> None:
    stores = {level: create_store(plan.store / name) for level, name in keys.STORES.items()}
    storage, cell = plan.settings.storage, plan.settings.cell
    obsm = subgroup(stores["cell"], "obsm")
    if plan.canvas is not None:
        create_rows(obsm, keys.CELL_IMAGES, (plan.n_cells, len(plan.channels), cell.px, cell.px), np.uint8, storage)
        for level in ("niche", "tissue"):
            px, n = level_settings(plan, level).px, len(window_centres(plan, level)[0])
            rows = shard_rows(plan, level) if level == "tissue" else None
            create_rows(
                subgroup(stores[level], "obsm"),
                keys.IMAGES,
                (n, len(plan.channels), px, px),
                np.uint8,
                storage,
                rows=rows,
            )
    if plan.outlines is not None:
        create_rows(obsm, keys.CELL_MASKS, (plan.n_cells, cell.px, cell.px), np.uint8, storage)


def _intensity(plan: SectionPlan) -> dict[str, IntensityMap]:
    """Map every channel's raw values to uint8 between robust percentiles of the whole image."""
    if plan.canvas is None:
        return {}
    if plan.rgb and plan.canvas.dtype == "uint8":
        maps = dict.fromkeys(plan.channels, IDENTITY_UINT8)
    else:
        histogram = total_histogram(plan.canvas, plan.canvas_folder)
        limits = plan.settings.intensity_low, plan.settings.intensity_high
        maps = {name: map_from_histogram(one, *limits) for name, one in zip(plan.channels, histogram, strict=True)}
    save_intensity(plan, maps)
    return maps


def _finish(plan: SectionPlan, tables: Tables) -> None:
    """Write the annotation of all three levels; the arrays are there."""
    annotation = zarr.open_group(plan.scratch / ANNOTATION, mode="r")
    stores = {level: open_to_finish(plan.store / name) for level, name in keys.STORES.items()}
    features = _Features(plan)
    obs = _cell_obs(plan, read_frame(annotation, "obs"), features)
    var = read_frame(annotation, "var")
    var.index = pd.Index(var[keys.GENE_ID].astype(str), name=None)
    write_element(stores["cell"], "obs", obs)
    write_element(subgroup(stores["cell"], "obsm"), keys.SPATIAL, np.asarray(plan.array("position_um")))
    if plan.outlines is not None:
        _write_features(plan, subgroup(stores["cell"], "obsm"), obs.index, features)
    for level in ("niche", "tissue"):
        frame, centre = _group_obs(plan, level)
        write_element(stores[level], "obs", frame)
        write_element(subgroup(stores[level], "obsm"), keys.SPATIAL, np.asarray(centre))
    for level, store in stores.items():
        write_element(store, "var", var)
        write_uns(store, _uns(plan, level, tables.depth))
        finish_store(plan.store / keys.STORES[level])


class _Features:
    """Columns of the blocks' scratch features, read one at a time: image share, has outline, the morphology features."""

    def __init__(self, plan: SectionPlan) -> None:
        self.files = sorted((plan.scratch / "features").glob("*.npy"))

    def column(self, number: int) -> NDArray[np.float32]:
        """Return one column over all cells; the files are mapped one after the other."""
        return np.concatenate([np.array(np.load(file, mmap_mode="r")[number]) for file in self.files])


def _cell_obs(plan: SectionPlan, obs: pd.DataFrame, features: _Features) -> pd.DataFrame:
    source = plan.source
    obs = obs.rename(columns={name: f"{name}_original" for name in WRITTEN_BY_BUILD if name in obs}, copy=False)
    for name in ("sample", "donor", "tissue_type", "disease", "organism"):
        value = getattr(source, "tissue" if name == "tissue_type" else name)
        if value is not None:
            obs[name] = _constant(value, len(obs))
    for name, value in source.facts.items():
        if name not in (*PATH_FACTS, *WRITTEN_BY_BUILD, *obs.columns):
            obs[name] = _constant(value, len(obs))
    if not plan.niches_around_cells:
        obs[keys.NICHE] = np.asarray(plan.array("niche")).astype(np.int32)
    obs[keys.TISSUE] = np.asarray(plan.array("tissue")).astype(np.int32)
    obs["n_counts"] = np.asarray(plan.array("totals")).astype(np.float32)
    share, has_outline = features.column(0), features.column(1)
    obs["has_outline"] = has_outline > 0
    obs[keys.HAS_IMAGE] = share > 0
    if plan.canvas is not None:
        obs["image_share"] = share
    return obs


def _constant(value: str, n: int) -> pd.Categorical:
    return pd.Categorical([value]).repeat(n)


def _write_features(plan: SectionPlan, obsm: zarr.Group, index: pd.Index, features: _Features) -> None:
    names = feature_names(plan.channels, plan.has_nucleus)

    def columns() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for number, name in enumerate(names):
            yield name, features.column(SPREAD_FEATURES + number)

    write_frame_columns(obsm, keys.MORPHOLOGY, index, columns(), plan.settings.storage)


def _group_obs(plan: SectionPlan, level: str) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    centre, tissue = window_centres(plan, level)
    frame = pd.DataFrame(index=pd.Index([f"{plan.source.sample}:{level}{i}" for i in range(len(centre))]))
    frame[keys.SAMPLE] = _constant(plan.source.sample, len(frame))
    frame[keys.HAS_IMAGE] = False
    if plan.canvas is not None:
        window = level_settings(plan, level)
        frame["image_share"] = image_share(plan.canvas, np.asarray(centre), window.px, window.um_per_px)
        frame[keys.HAS_IMAGE] = frame["image_share"] > 0
    if level == "niche":
        frame[keys.TISSUE] = np.asarray(tissue).astype(np.int32)
        if plan.niches_around_cells:
            members = zarr.open_group(plan.store / keys.STORES["niche"] / "obsm" / keys.MEMBERS, mode="r")
            frame[keys.N_CELLS] = np.diff(np.asarray(array_in(members, "indptr")[:])).astype(np.int32)
            return frame, np.asarray(centre)
    cell_group = plan.array("tissue" if level == "tissue" else "niche")
    frame[keys.CELL_START], frame[keys.CELL_STOP] = ranges_of(np.asarray(cell_group), len(frame))
    frame[keys.N_CELLS] = (frame[keys.CELL_STOP] - frame[keys.CELL_START]).astype(np.int32)
    frame["total_counts"] = np.add.reduceat(np.asarray(plan.array("totals")), frame[keys.CELL_START].to_numpy())
    if level == "tissue" and not plan.niches_around_cells:
        frame[keys.NICHE_START], frame[keys.NICHE_STOP] = ranges_of(np.asarray(plan.array("niche_tissue")), len(frame))
    return frame, np.asarray(centre)


def _uns(plan: SectionPlan, level: str, depth: float) -> dict[str, Any]:
    settings = level_settings(plan, level)
    window = {
        "size_um": settings.size_um,
        "px": settings.px,
        "um_per_px": settings.um_per_px,
        "channels": list(plan.channels),
    }
    if level == "cell":
        masks = [f"bit {keys.MASK_CELL}: cell", f"bit {keys.MASK_NUCLEUS}: nucleus"] if plan.outlines else []
        return {keys.CELL_IMAGES: {**window, "masks": masks}} if plan.canvas is not None or plan.outlines else {}
    return {"window": window, "depth": depth}


def _facts(plan: SectionPlan, info: SlideInfo, tables: Tables, intensity: dict[str, IntensityMap]) -> dict[str, Any]:
    canvas = plan.canvas
    image = None
    if canvas is not None:
        image = {
            "um_per_px": info.um_per_px,
            "level": canvas.level,
            "level_um_per_px": list(canvas.level_um_per_px),
            "canvas_um_per_px": list(canvas.um_per_px),
            "origin_um": list(canvas.origin_um),
            "extent_um": [canvas.shape[2] * canvas.um_per_px[0], canvas.shape[1] * canvas.um_per_px[1]],
        }
    return {
        "channels": list(plan.channels),
        "rgb": plan.rgb,
        "image_absence": info.image_absence,
        "nuclei": plan.nuclei,
        "outline_absence": None if plan.outlines else "the slide has neither outlines nor labels",
        "image": image,
        "intensity": {name: one.to_json() for name, one in intensity.items()},
        "n_cells": plan.n_cells,
        "n_niches": plan.n_cells if plan.niches_around_cells else tables.n_niches,
        "n_tissues": tables.n_tissues,
        "n_genes": plan.n_genes,
        "median_counts": tables.depth,
        "vertices_without_cell": tables.vertices_without_cell,
    }
