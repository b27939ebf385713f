"""Which cells a section holds, in a few numbers: enough to know a slide again in another corpus, under another name.

A cell is its id and its place, rounded to a micrometre: ids alone repeat from slide to slide. Kept are the smallest of the cells' hashes
(Broder 1997): of two sections, the share of the smallest hashes of both together that both have estimates the share of common cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus, Section

SIZE: Final = 128  # hashes of a section: a share of 5 % is then told from none
LEAST_SHARED: Final = 0.03  # of the cells of both: chance gives none


def sketch_of(section: Section) -> list[str]:
    """Return the smallest hashes of the cells of a section, ascending, as hexadecimal numbers (JSON has no 64-bit integers)."""
    cells = section.cells
    position = np.asarray(cells.read("obsm/spatial", 0, section.n_rows("cell")), np.float64)
    return sketch(cells.obs().index.astype(str).to_numpy(object), position)


def sketch(cell_ids: NDArray[np.object_], position_um: NDArray[np.float64]) -> list[str]:
    """Return the smallest hashes of some cells.

    Examples
    --------
    >>> ids, position = np.array(["a", "b"], object), np.array([[0.0, 1.0], [7.2, 8.0]])
    >>> one, other = sketch(ids, position), sketch(ids[::-1].copy(), position[::-1])
    >>> one == other, len(one), shared(one, sketch(ids, position + 5))
    (True, 2, 0.0)
    """
    place = np.round(position_um).astype(np.int64)
    with np.errstate(over="ignore"):
        parts = [pd.util.hash_array(cell_ids), *(pd.util.hash_array(place[:, axis]) for axis in (0, 1))]
        mixed = pd.util.hash_array(parts[0] * np.uint64(3) + parts[1] * np.uint64(5) + parts[2] * np.uint64(7))
    return [f"{value:016x}" for value in np.unique(mixed)[:SIZE]]


def shared(one: Sequence[str], other: Sequence[str]) -> float:
    """Estimate the share of the cells of two sections together that both have, from their sketches."""
    smallest = sorted({*one, *other})[: min(SIZE, max(len(one), len(other)))]
    both = {*one} & {*other}
    return sum(value in both for value in smallest) / max(1, len(smallest))


def known_again(trained_on: Sequence[Mapping[str, Any]], corpus: Corpus) -> str | None:
    """Find cells of a corpus in *other* corpora that a model was trained on; None where there are none, or nothing is recorded.

    Parameters
    ----------
    trained_on
        The ``corpora`` of a model's description or of a ``run.json``.

    Returns
    -------
    What to tell the user of the first section that was seen.
    """
    seen = [
        (one.get("path", "a corpus"), name, cells)
        for one in trained_on
        if one.get("corpus_id") != corpus.corpus_id
        for name, cells in one.get("cells", {}).items()
    ]
    if not seen:
        return None
    for name, section in corpus.sections.items():
        own = sketch_of(section)
        for path, other, cells in seen:
            if (share := shared(own, cells)) >= LEAST_SHARED:
                return f"section {other} of {path}, which holds cells of section {name} of {corpus.path} (in both: about {share:.0%})"
    return None
