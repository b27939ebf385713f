"""Nuclei found by the stain (`spatia build --nuclei stain`) beside those that were drawn, on a slide in Xenium layout that has both.

    python benchmarks/nuclei.py SLIDE

The slide is built twice, once without its nucleus outlines. Cells of which both have a nucleus are compared.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
from model_data import built

from spatia import keys
from spatia.io.source import Source


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


def main() -> None:
    """Print the table."""
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
    main()
