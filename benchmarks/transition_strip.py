"""The picture of a transition in `docs/generation.md`: cells on their way from what they are to what they would be.

    python benchmarks/transition_strip.py GENERATOR --corpus CORPUS --cells cells.txt -o docs/images/transition.png

cells.txt: ids of source cells that the generator was not trained on, one a line; some are taken evenly. Columns are cells, rows are times.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus
from spatia.corpus.intensity import IntensityMap
from spatia.inference.generator import Generator
from spatia.plotting.reconstructions import plot_reconstructions
from spatia.simulate.counterfactual import counterfactual

TIMES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def truth_of(cells: list[str], arguments: argparse.Namespace, generator: Generator) -> NDArray[np.uint8]:
    """Return the simulator's pictures of the same cells in the target state."""
    corpus, space = Corpus.open(arguments.corpus), generator.space
    found: dict[str, NDArray[np.uint8]] = {}
    for sample, section in corpus.sections.items():
        ids = set(section.table("cell").obs().index.astype(str))
        own = [cell for cell in cells if cell in ids]
        if not own:
            continue
        size_um = space.um_per_px * space.px
        drawn = counterfactual(arguments.truth / sample, arguments.simulated, own, size_um=size_um, size_px=space.px)
        names, maps = list(drawn.uns["channels"]), section.details["intensity"]
        for name, raw in zip(drawn.obs_names, drawn.obsm["images_counterfactual"], strict=True):
            parts = [
                IntensityMap(float(maps[one]["low"]), float(maps[one]["high"])).apply(raw[names.index(one)])
                for one in generator.channels
            ]
            found[str(name)] = np.stack(parts)
    return np.stack([found[cell] for cell in cells])


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--transition", help="name; the generator's first by default")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=8)
    parser.add_argument(
        "--truth", type=Path, help="folder of simulated slides, one a section: draw the simulator's own picture, too"
    )
    parser.add_argument("--simulated", default="emt: 0→1", help="the simulator's transition")
    arguments = parser.parse_args()
    cells = arguments.cells.read_text(encoding="utf-8").split()
    chosen = [cells[k] for k in np.linspace(0, len(cells) - 1, arguments.most).astype(int)]
    generator = Generator.load(arguments.generator, device="cpu")
    name = arguments.transition or generator.transitions[0]
    steps = generator.interpolate(chosen, name, corpus=arguments.corpus, times=TIMES)
    rows = {
        ("the cell" if t == 0 else "generated" if t == 1 else f"t = {t:g}"): steps[:, k] for k, t in enumerate(TIMES)
    }
    if arguments.truth is not None:
        rows["the truth"] = truth_of(chosen, arguments, generator)
    plot_reconstructions(rows, arguments.out)


if __name__ == "__main__":
    main()
