"""The picture of `docs/generation.md`: cells drawn from their expression, the real ones, and the nearest training cell of each.

    python benchmarks/generation_grid.py ours.zarr --corpus CORPUS --split SPLIT -o docs/images/generation.png

Cells are taken evenly from the store, not chosen. Nearest is by pixels at 16 px, as in the grids that training saves.
"""

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.generation.samples import SMALL_PX, Samples
from spatia.plotting.generated_cells import plot_samples


def crops_of(corpus: Corpus, sample: str) -> NDArray[np.uint8]:
    """Return all crops of a section."""
    cells = corpus.section(sample).cells
    return cells.read(f"obsm/{keys.CELL_IMAGES}", 0, corpus.section(sample).entry.n_cells)


def small(images: torch.Tensor) -> torch.Tensor:
    """Return images at the size at which they are compared."""
    return F.adaptive_avg_pool2d(images.float(), SMALL_PX).flatten(1)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=8)
    arguments = parser.parse_args()
    corpus, store = Corpus.open(arguments.corpus), ad.read_zarr(arguments.store)
    chosen = np.linspace(0, store.n_obs - 1, arguments.cells).astype(int)
    real = []
    for name, sample in store.obs.iloc[chosen][["cell_id", "sample"]].itertuples(index=False):
        row = corpus.section(sample).table("cell").obs().index.get_loc(name)
        real.append(corpus.section(sample).cells.read(f"obsm/{keys.CELL_IMAGES}", row, row + 1)[0])
    pool = torch.from_numpy(
        np.concatenate(
            [
                crops_of(corpus, sample)[begin:end]
                for sample, ranges in corpus.split(arguments.split).parts["train"].items()
                for begin, end in ranges
            ]
        )
    )
    truth, drawn = torch.from_numpy(np.stack(real)), torch.from_numpy(store.obsm[keys.CELL_IMAGES][chosen])
    nearest = pool[torch.cdist(small(drawn), small(pool)).argmin(dim=1)]
    plot_samples(Samples(corpus.channels, None, drawn, truth, nearest), arguments.out)


if __name__ == "__main__":
    main()
