"""Random streams with a name and a place, so that neither tile size nor worker count can change a result.

Nothing draws from one long stream: each consumer asks for the generator of its stream at its own place (a block of
cells, a 256-px square of the image), and gets the same numbers whoever asks, and whenever.
"""

from enum import IntEnum

import numpy as np

CELLS_PER_BLOCK = 1024


class Stream(IntEnum):
    """Names of the streams; the numbers enter the seeds, so they never change."""

    LAYOUT = 1
    PLACEMENT = 2
    STATES = 3
    FEATURES = 4
    OUTLINES = 5
    COUNTS = 6
    SPILL = 7
    LOCATIONS = 8
    UNASSIGNED = 9
    DONOR = 10
    PANEL = 11
    PROGRAMS = 12
    TEXTURE = 13
    CAMERA = 14
    IDENTITY = 15
    COUNTERFACTUAL = 16


def generator(seed: int, stream: Stream, *place: int) -> np.random.Generator:
    """Return the generator of a stream at a place.

    Examples
    --------
    >>> a, b = (generator(0, Stream.COUNTS, 3, 7).random() for _ in range(2))
    >>> a == b
    True
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, int(stream), *place])))


def blocks(n_cells: int) -> list[slice]:
    """Cut ``n_cells`` into the fixed blocks in which cells draw their numbers."""
    return [slice(start, min(start + CELLS_PER_BLOCK, n_cells)) for start in range(0, n_cells, CELLS_PER_BLOCK)]
