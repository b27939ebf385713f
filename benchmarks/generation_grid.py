"""The picture of `docs/generation.md`: cells drawn from their expression, the real ones, and the nearest training cell of each.

    python benchmarks/generation_grid.py ours.zarr --corpus CORPUS --split SPLIT -o docs/images/generation.png

Cells are taken evenly from the store, not chosen. Nearest is by pixels at 16 px, as in the grids that training saves.
"""

import argparse
from pathlib import Path

from spatia.corpus.corpus import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.inference.beside_real import beside_real
from spatia.plotting.generated_cells import plot_samples


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=8)
    arguments = parser.parse_args()
    corpus = Corpus.open(arguments.corpus)
    samples = beside_real(arguments.store, corpus, Vocabulary.of([corpus]), arguments.split, cells=arguments.cells)
    plot_samples(samples, arguments.out)


if __name__ == "__main__":
    main()
