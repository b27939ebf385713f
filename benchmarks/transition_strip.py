"""The picture of a transition in `docs/generation.md`: cells on their way from what they are to what they would be.

    python benchmarks/transition_strip.py GENERATOR --corpus CORPUS --cells cells.txt -o docs/images/transition.png

cells.txt: ids of source cells that the generator was not trained on, one a line; some are taken evenly. Columns are cells, rows are times.
"""

import argparse
from pathlib import Path

import numpy as np

from spatia.inference.generator import Generator
from spatia.plotting.reconstructions import plot_reconstructions

TIMES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--transition", help="name; the generator's first by default")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=8)
    arguments = parser.parse_args()
    cells = arguments.cells.read_text(encoding="utf-8").split()
    chosen = [cells[k] for k in np.linspace(0, len(cells) - 1, arguments.most).astype(int)]
    generator = Generator.load(arguments.generator, device="cpu")
    name = arguments.transition or generator.transitions[0]
    steps = generator.interpolate(chosen, name, corpus=arguments.corpus, times=TIMES)
    rows = {
        ("the cell" if t == 0 else "generated" if t == 1 else f"t = {t:g}"): steps[:, k] for k, t in enumerate(TIMES)
    }
    plot_reconstructions(rows, arguments.out)


if __name__ == "__main__":
    main()
