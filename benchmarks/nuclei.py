"""Nuclei found by their stain (`spatia build --nuclei stain`): beside those that a vendor drew, and in cells drawn by a generator.

    python benchmarks/nuclei.py SLIDE                              of a slide in Xenium layout that has nucleus outlines
    python benchmarks/nuclei.py drawn transition DATA.json ...     mean areas; arguments as of benchmarks/generation.py

The slide is built twice, once without its nucleus outlines. Cells of which both have a nucleus are compared.

Of a transition, nuclei are looked for twice: within the outline of the source cell (of real targets: their own), which no nucleus can
outgrow, and within 7 µm of the middle of the crop. Generators that stand in OUT already are not trained again.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import anndata as ad
import generation
import numpy as np
from model_data import built
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.dataset import DataSet
from spatia.bench.generators.generator import GenerationProblem, generate
from spatia.bench.generators.problems import parts_of, seeds_of
from spatia.corpus.lock import only_writer_of
from spatia.corpus.stain_nuclei import LEAST_CONTRAST, RAYS, find_nuclei, nuclear_stain
from spatia.errors import SettingsError, SpatiaError
from spatia.io.source import Source
from spatia.log import configure

DISC_UM = 7.0  # radius: room for a nucleus to grow beyond the source cell's outline


def cells_of(slide: Path, corpus: Path) -> ad.AnnData:
    """Build a slide and return its cells."""
    built(corpus, [Source("s", slide)], nuclei="stain")
    return ad.read_zarr(corpus / "sections" / "s" / "cells.zarr")


def overlap(one: ad.AnnData, other: ad.AnnData) -> tuple[float, float]:
    """Return the share of cells with a drawn nucleus of which the stain shows one, and the mean overlap (IoU) of the two."""
    a, b = (table.obsm[keys.CELL_MASKS] & keys.MASK_NUCLEUS > 0 for table in (one, other))
    drawn, found = a.any(axis=(1, 2)), b.any(axis=(1, 2))
    both = drawn & found
    shared, joined = (a & b)[both].sum(axis=(1, 2)), (a | b)[both].sum(axis=(1, 2))
    return float(both.sum() / drawn.sum()), float((shared / joined).mean())


def mean_area_um2(images: NDArray[np.uint8], inside: NDArray[np.bool_], cells: BenchCells) -> float:
    """Return the mean area of the nuclei that stand out of their background.

    Parameters
    ----------
    images
        (n, channels, y, x), channels of the corpus.
    inside
        (n, y, x) where a nucleus may lie.
    """
    stain = nuclear_stain(cells.corpus.channels)
    if stain is None:
        raise SettingsError(f"{cells.corpus.path}: none of {', '.join(cells.corpus.channels)} is a nuclear stain.")
    found = find_nuclei(images[:, stain], cells.corpus.levels["cell"].um_per_px, inside)
    corners = found.radii_um * np.roll(found.radii_um, -1, axis=1)
    areas = 0.5 * np.sin(2 * np.pi / RAYS) * corners.sum(axis=1)
    clear = found.contrast >= LEAST_CONTRAST
    return float(areas[clear].mean()) if clear.any() else float("nan")


def masks_of(cells: BenchCells) -> NDArray[np.bool_]:
    """Return the pixels of each cell, (n, y, x)."""
    sections = cells.corpus.sections.values()
    parts = [section.cells.read(f"obsm/{keys.CELL_MASKS}", 0, section.entry.n_cells) for section in sections]
    return np.concatenate(parts) & keys.MASK_CELL > 0


def both_areas(images: NDArray[np.uint8], rows: NDArray[np.int64], cells: BenchCells, masks: NDArray[np.bool_]) -> str:
    """Return the mean area within the outlines of some cells and within a disc, as columns."""
    px, um_per_px = images.shape[-1], cells.corpus.levels["cell"].um_per_px
    y, x = (np.mgrid[:px, :px] - (px - 1) / 2) * um_per_px
    disc = np.broadcast_to(np.hypot(y, x) <= DISC_UM, (len(images), px, px))
    return " | ".join(f"{mean_area_um2(images, inside, cells):.1f}" for inside in (masks[rows], disc))


def areas_of(problem: GenerationProblem, arguments: argparse.Namespace) -> None:
    """Print a line for the real cells at both ends and for what each generator draws."""
    cells, transition = problem.cells, problem.transition
    if transition is None or problem.labels is None:
        raise SettingsError(
            "Areas are compared across a transition: nuclei.py drawn transition DATA.json --types 'A→B'."
        )
    _, test = parts_of(cells, cells.data.split_name(problem.seed))
    target = transition.name.partition("→")[2]
    targets, masks = test[problem.labels[test] == target], masks_of(cells)
    real = {"sources": problem.wanted, "targets": targets}
    lines = [(f"real {name}", cells.images[rows], rows) for name, rows in real.items()]
    for one in generation.generators_of(arguments, problem):
        lines.append((one.name, generate(one, problem).obsm[keys.CELL_IMAGES], problem.wanted))
    for name, images, rows in lines:
        print(f"| {problem.seed} | {name} | {len(rows)} | {both_areas(images, rows, cells, masks)} |", flush=True)


def print_drawn(words: list[str]) -> None:
    """Print the areas of nuclei of a transition."""
    arguments = generation.parse(words)
    configure()
    generation.check_plan(arguments)  # another budget would train every generator anew
    print(f"| seed | cells | N | area within the outline, µm² | within {DISC_UM:g} µm |\n|---|---|---|---|---|")
    with only_writer_of(arguments.out, "benchmark"):
        for path in generation.data_paths(arguments):
            cells = load_cells(DataSet.read(path))
            for seed in seeds_of(cells.data.only_seed, arguments.seeds):
                areas_of(generation.problem_of(arguments, cells, seed)[0], arguments)


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["drawn"]:
        print_drawn(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    slide = parser.parse_args().slide
    with tempfile.TemporaryDirectory() as folder:
        drawn = cells_of(slide, Path(folder) / "drawn")
        bare = shutil.copytree(slide, Path(folder) / "slide", ignore=shutil.ignore_patterns("nucleus_boundaries*"))
        stain = cells_of(bare, Path(folder) / "stain")
    share, common = overlap(drawn, stain)
    print(
        f"{drawn.n_obs:,} cells; a nucleus found in {share:.1%} of those that have one; mean overlap (IoU) {common:.2f}\n"
    )
    print("| feature | r | mean, drawn | mean, stain |\n|---|---|---|---|")
    one, other = drawn.obsm[keys.MORPHOLOGY], stain.obsm[keys.MORPHOLOGY]
    for name in (name for name in one.columns if "nucleus" in name):
        a, b = one[name].to_numpy(np.float64), other[name].to_numpy(np.float64)
        both = np.isfinite(a) & np.isfinite(b)
        print(f"| `{name}` | {np.corrcoef(a[both], b[both])[0, 1]:.2f} | {a[both].mean():.2f} | {b[both].mean():.2f} |")


if __name__ == "__main__":
    try:
        main()
    except SpatiaError as error:
        sys.exit(str(error))
