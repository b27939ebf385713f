"""Simulate slides: a bundle in the vendor's layout for every section, with the truth beside it."""

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatia.errors import SettingsError
from spatia.simulate.bundle import write_metadata, write_tables
from spatia.simulate.celltypes import CHANNELS
from spatia.simulate.counterfactual import Transition, write_counterfactual
from spatia.simulate.pyramid import PyramidWriter
from spatia.simulate.randomness import Stream, generator
from spatia.simulate.raster import Microscope, Window, render, section_microscope
from spatia.simulate.section import Cells, Section, simulate_section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.truth import write_truth

Progress = Callable[[str, int, int], None]  # what, done, of


def _silent(what: str, done: int, total: int) -> None:
    pass


def simulate(out: Path, settings: SimulationSettings, progress: Progress = _silent) -> list[Path]:
    """Write simulated slides.

    Parameters
    ----------
    out
        The bundle folder; with several sections their common folder (``section_1``, ``section_2`` …).
    settings
        What to simulate.
    progress
        Called with what is being done, how much is done, and of how much.

    Returns
    -------
    The bundle folders, one per section.

    Raises
    ------
    SettingsError
        If the folder is there already, or a transition is not understood.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"{out}: is there already and not empty. Choose another folder, or remove this one first.")
    for transition in settings.transitions:
        Transition.parse(transition)  # a misspelt one is refused now, not after minutes
    paths = [out] if settings.n_sections == 1 else [out / f"section_{k + 1}" for k in range(settings.n_sections)]
    for number, path in enumerate(paths):
        _write_section(path, settings, number, progress)
    return paths


def _write_section(path: Path, settings: SimulationSettings, number: int, progress: Progress) -> None:
    """Write one bundle aside and give it its name only when it is whole."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        section = simulate_section(settings, number)
        numbers = write_tables(unfinished, settings, section, progress)
        write_truth(unfinished, settings, section)
        _write_image(unfinished, settings, section, progress)
        write_metadata(unfinished, settings, section, numbers)
        for transition in settings.transitions:
            write_counterfactual(unfinished, transition, n_cells=settings.n_counterfactual)
        if path.exists():
            path.rmdir()
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def image_shape(section: Section, um_per_px: float) -> tuple[int, int]:
    """Return height and width of the image in px."""
    side_px = int(np.ceil(section.side_um / um_per_px))
    return side_px, side_px


def _write_image(folder: Path, settings: SimulationSettings, section: Section, progress: Progress) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    shape = image_shape(section, settings.um_per_px)
    microscope = section_microscope(settings, section.number)
    writer = PyramidWriter(
        folder / "morphology_focus",
        shape,
        um_per_px=settings.um_per_px,
        channels=CHANNELS,
        codec=settings.codec,
        tile_px=settings.tile_px,
        scratch=scratch,
        identity=generator(settings.seed, Stream.IDENTITY, section.number, 1),
    )
    rows: list[NDArray[np.uint16]] = []
    windows = _tile_windows(shape, settings.tile_px)
    for done, (window, tile) in enumerate(_draw(section.cells, microscope, windows, settings.workers), start=1):
        rows.append(tile)
        progress("image", done, len(windows))
        if window.right == shape[1]:
            writer.add_rows(np.concatenate(rows, 2))
            rows.clear()
    writer.finish()
    scratch.rmdir()


def _tile_windows(shape: tuple[int, int], tile_px: int) -> list[Window]:
    height, width = shape
    return [
        Window(top, left, min(top + tile_px, height), min(left + tile_px, width))
        for top in range(0, height, tile_px)
        for left in range(0, width, tile_px)
    ]


def _draw(
    cells: Cells, microscope: Microscope, windows: list[Window], workers: int
) -> Iterator[tuple[Window, NDArray[np.uint16]]]:
    """Draw windows in threads and hand them out in order; at most a few wait."""
    tree = cKDTree(cells.centre_um)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Window, Future[NDArray[np.uint16]]]] = deque()
        for window in windows:
            waiting.append((window, pool.submit(render, cells, tree, microscope, window)))
            if len(waiting) > workers + 1:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
