"""Time, memory and size of `spatia build`, each beside its baseline in the same run.

    python benchmarks/build.py --cells 20000                     # time beside the floor and the naive way
    python benchmarks/build.py --memory SLIDE [SLIDE ...]        # peak memory of building each slide, smallest first

The floor is what no build can avoid: decode the image once and read the tables, with as many threads as the build. The naive
way holds level 0 of every channel in memory, cuts each cell by itself, resizes it to 256² with scikit-image and puts it
into LMDB in one transaction.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from spatialdata import SpatialData

from spatia import keys
from spatia.corpus.canvas import plan_canvas
from spatia.corpus.settings import BuildSettings
from spatia.io.border import Pyramid, slide_outlines, slide_pyramid, slide_table
from spatia.io.lazy import compute_here
from spatia.io.read import read_slide
from spatia.io.source import Source
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate

NAIVE_CELLS = 1_000  # cut by the naive way; the rest is extrapolated, and the table says so

_BUILD = """
import json, sys, time
from pathlib import Path
from spatia.corpus import build as module
from spatia.corpus import build_section
from spatia.corpus.scheduling import Scheduler
from spatia.io.source import Source
phases = {}
def peak_mb():  # not ru_maxrss: a process inherits that of the one it was forked from
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000
run = Scheduler.run
def timed(self, description, calls, unit):
    started = time.perf_counter(), time.process_time()
    out = run(self, description, calls, unit)
    phases[description.split(": ")[1]] = [time.perf_counter() - started[0], time.process_time() - started[1]]
    return out
Scheduler.run = timed
started = time.perf_counter(), time.process_time()
result = module.build([Source("s", Path(sys.argv[1]))], Path(sys.argv[2]))
assert result.exit_code == 0, result
print(json.dumps({"seconds": time.perf_counter() - started[0], "cpu": time.process_time() - started[1],
                  "phases": phases, "cells": result.sections[0].n_cells,
                  "peak_mb": peak_mb()}))
"""


def build_in_process_of_its_own(slide: Path, out: Path) -> dict:
    """Build, and return seconds (imports left out), phases and peak memory of the process."""
    finished = subprocess.run(
        [sys.executable, "-c", _BUILD, str(slide), str(out)], capture_output=True, text=True, check=True
    )
    return json.loads(finished.stdout.splitlines()[-1])


def timed(work: Callable[[], object]) -> "Time":
    """Return the seconds a call takes, and those of processor it uses (on a busy machine only these compare)."""
    started = time.perf_counter(), time.process_time()
    work()
    return Time(time.perf_counter() - started[0], time.process_time() - started[1])


class Time(NamedTuple):
    """Seconds on the clock, and seconds of processor over all threads."""

    clock: float
    cpu: float

    def plus(self, other: "Time") -> "Time":
        return Time(self.clock + other.clock, self.cpu + other.cpu)


def image_of(slide: SpatialData) -> Pyramid:
    """Return the levels of a simulated slide's image."""
    pyramid = slide_pyramid(slide)
    assert pyramid is not None
    return pyramid


def decode_level(slide: Path, level: int) -> None:
    """Decode every tile of one level once, all channels, one thread a core."""
    pixels = image_of(read_slide(Source("s", slide))).levels[level].pixels
    blocks = [pixels.blocks[index] for index in np.ndindex(*pixels.numblocks)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda block: compute_here(block).sum(), blocks))


def read_tables(slide: Path) -> None:
    """Read counts and outlines once, block after block."""
    opened = read_slide(Source("s", slide))
    for block in slide_table(opened).X.blocks:
        compute_here(block)
    for name in (keys.CELL_OUTLINES, keys.NUCLEUS_OUTLINES):
        vertices = slide_outlines(opened, name)
        for part in () if vertices is None else vertices.partitions:
            compute_here(part)


def naive(slide: Path, folder: Path) -> tuple[Time, Time, int, int]:
    """Return time to load, time for ``NAIVE_CELLS`` cells, bytes a cell on disk, and peak bytes held."""
    import lmdb
    from skimage.transform import resize

    opened = read_slide(Source("s", slide))
    image_levels = image_of(opened).levels
    pixels = image_levels[0].pixels
    started = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(lambda i: compute_here(pixels[:, i]), _bands(pixels.shape[1])))
    image = np.concatenate(rows, axis=1)
    load = Time(time.perf_counter() - started[0], time.process_time() - started[1])
    um_per_px = image_levels[0].um_per_px[0]
    half = round(13.6 / um_per_px)
    centre = np.rint(np.asarray(slide_table(opened).obsm[keys.SPATIAL][:NAIVE_CELLS]) / um_per_px).astype(int)
    padded = np.pad(image, ((0, 0), (half, half), (half, half)))
    environment = lmdb.open(str(folder), map_size=2**36)
    started = time.perf_counter(), time.process_time()
    with environment.begin(write=True) as transaction:
        for number, (x, y) in enumerate(centre):
            crop = padded[:, y : y + 2 * half, x : x + 2 * half]
            crop = resize(crop, (len(crop), 256, 256), preserve_range=True, anti_aliasing=True)
            transaction.put(str(number).encode(), crop.astype(np.uint8).tobytes())
    cut = Time(time.perf_counter() - started[0], time.process_time() - started[1])
    environment.close()
    return load, cut, pixels.shape[0] * 256 * 256, image.nbytes


def _bands(height: int, band: int = 1024) -> list[slice]:
    return [slice(start, start + band) for start in range(0, height, band)]


def bytes_below(folder: Path) -> int:
    """Return the size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare_times(n_cells: int, codec: str, um_per_px: float) -> None:
    """Print build time beside the floor and the naive way on one simulated slide."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = folder / "slide"
        simulate(slide, SimulationSettings(n_cells=n_cells, codec=codec, um_per_px=um_per_px, transcripts=False))
        pyramid = image_of(read_slide(Source("s", slide)))
        plan = plan_canvas(pyramid, BuildSettings().cell.um_per_px)
        decode, tables = timed(lambda: decode_level(slide, plan.level)), timed(lambda: read_tables(slide))
        whole = timed(lambda: decode_level(slide, 0)) if plan.level else decode
        built = build_in_process_of_its_own(slide, folder / "corpus")
        load, cut, raw, held = naive(slide, folder / "lmdb")
        share = n_cells / NAIVE_CELLS
        naive_time = load.plus(Time(cut.clock * share, cut.cpu * share))
        floor, build = decode.plus(tables), Time(built["seconds"], built["cpu"])
        size = bytes_below(folder / "corpus") / n_cells
    shape = "x".join(map(str, pyramid.levels[0].pixels.shape))
    print(f"slide: {n_cells:,} cells, image {shape} uint16 at {um_per_px} µm/px, {codec}; {os.cpu_count()} cores")
    rows = [
        (
            f"floor: decode level {plan.level} once + read the tables",
            floor,
            f"{decode.clock:.1f} + {tables.clock:.1f} s",
        ),
        ("floor with level 0: decode the whole image once + tables", whole.plus(tables), ""),
        ("spatia build", build, ", ".join(f"{k} {v[0]:.1f} s ({v[1]:.1f})" for k, v in built["phases"].items())),
        (
            f"naive way ({NAIVE_CELLS:,} cells cut, rest extrapolated)",
            naive_time,
            f"holds {held / 1e6:,.0f} MB of image",
        ),
    ]
    for what, taken, remark in rows:
        print(
            f"{what:58} {taken.clock:8.1f} s ({taken.cpu:6.1f} s of processor)  {taken.clock / floor.clock:6.2f} x floor "
            f"({taken.cpu / floor.cpu:6.2f})  {n_cells / taken.clock:9,.0f} cells/s  {remark}"
        )
    whole = whole.plus(tables)
    print(f"build / floor with level 0: {build.clock / whole.clock:.2f} ({build.cpu / whole.cpu:.2f} by processor)")
    cutting = Time(*built["phases"]["cutting"])
    print(
        f"cutting alone (crops, masks, features, niches, windows): {n_cells / cutting.clock:,.0f} cells/s; "
        f"{n_cells / cutting.cpu:,.0f} a second of processor"
    )
    print(f"peak memory of the build: {built['peak_mb']:,.0f} MB")
    print(f"on disk: {size:,.0f} bytes a cell; raw 256² crops: {raw:,} bytes a cell ({raw / size:.0f} x)")


def compare_memory(slides: list[Path]) -> None:
    """Print the peak memory of building each slide, as a ratio to the first."""
    first = None
    for slide in slides:
        with tempfile.TemporaryDirectory(dir=slide.parent) as name:
            built = build_in_process_of_its_own(slide, Path(name) / "corpus")
            shutil.rmtree(name)
            Path(name).mkdir()
        first = first or built["peak_mb"]
        print(
            f"{built['cells']:>9,} cells: peak {built['peak_mb']:7,.0f} MB ({built['peak_mb'] / first:.2f} x the first), "
            f"{built['seconds']:7.1f} s, {built['cells'] / built['seconds']:,.0f} cells/s",
            flush=True,
        )


def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument(
        "--codec", default="jpeg2000", help="compression of the simulated image; the vendor's is jpeg2000"
    )
    parser.add_argument("--um-per-px", type=float, default=0.2125)
    parser.add_argument("--memory", type=Path, nargs="+", metavar="SLIDE", help="slides to build for peak memory")
    arguments = parser.parse_args()
    if arguments.memory:
        compare_memory(arguments.memory)
    else:
        compare_times(arguments.cells, arguments.codec, arguments.um_per_px)
    print(f"peak memory of this script: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:,.0f} MB")


if __name__ == "__main__":
    main()
