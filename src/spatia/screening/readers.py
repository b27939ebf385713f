"""Two ways to predict what a change does: draw the cell again and measure it, or read the features off its embedding.

- ``image``: the generator draws the cell before and after, with the same noise, and both images are measured.
- ``embedding``: a ridge regression, fitted on real cells, reads the measured features of the image from the embedding of the genes; no
  image is drawn. Cheap, and only as good as a linear reading can be.
"""

from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.morphology_distance import correlation
from spatia.models.spatia import Spatia
from spatia.screening.cells import ChosenCells
from spatia.screening.counts import CountReader, embed_counts
from spatia.screening.drawing import CellEncoder, Drawer
from spatia.screening.perturbation import Counts
from spatia.screening.readings import Readings
from spatia.tasks.tissue_readout import TissueReadout

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]


class Reader(Protocol):
    """Predicts what changed counts do to chosen cells."""

    images_a_cell: int

    def __call__(self, cells: NDArray[np.int64], counts: Counts) -> Floats:
        """Return the difference after minus before, (rows, readings); ``cells`` says which chosen cell each row is."""


class ImageReader:
    """Draws cells before and after.

    Parameters
    ----------
    encoder, drawer
        From counts to conditions to images.
    readings
        What is measured.
    counts
        (cells, genes) of the chosen cells as they are.
    """

    def __init__(self, encoder: CellEncoder, drawer: Drawer, readings: Readings, counts: Counts) -> None:
        self._encoder, self._drawer, self._readings = encoder, drawer, readings
        every = np.arange(len(counts))
        self.before = drawer(every, encoder(every, counts))
        self.images_a_cell = self.before.shape[1]

    @cached_property
    def _read_before(self) -> Floats:
        """Readings of the cells as they are, (cells, draws, columns)."""
        return self._readings.of(self.before)

    def draw(self, cells: NDArray[np.int64], counts: Counts) -> Images:
        """Return images after a change, (rows, draws, channels, y, x)."""
        return self._drawer(cells, self._encoder(cells, counts))

    def __call__(self, cells: NDArray[np.int64], counts: Counts) -> Floats:
        """Return differences of readings, and how far the pixels moved."""
        images = self.draw(cells, counts)
        change = (self._readings.of(images) - self._read_before[cells]).mean(axis=1)
        return np.concatenate([change, pixels_moved(images, self.before[cells])[:, None]], axis=1)


class EmbeddingReader:
    """Reads features from embeddings.

    Attributes
    ----------
    quality
        Reading -> correlation of what is read from the embeddings of real cells with what was measured, on cells that it was not
        learned from (the other half of the blocks of tissue).
    """

    images_a_cell = 0

    def __init__(self, model: Spatia, chosen: ChosenCells, reader: CountReader, readings: Readings) -> None:
        self._model, self._visible = model, reader.visible(chosen.changed)
        x = embed_counts(model, reader(chosen.reference), reader.visible(chosen.reference)).double().numpy()
        y = readings.real
        readout = TissueReadout(x, chosen.index.positions_um(chosen.reference), chosen.reference_samples)
        guess, true = readout.held_out(y)
        tested = readings.names[: y.shape[1]]
        self.quality = {name: correlation(guess[:, at], true[:, at]) for at, name in enumerate(tested)}
        self._ridge = readout.ridge(y)
        self._before = self._read(np.arange(len(chosen.changed)), reader(chosen.changed))

    def _read(self, cells: NDArray[np.int64], counts: Counts) -> Floats:
        return self._ridge.predict(embed_counts(self._model, counts, self._visible[cells]).double().numpy())

    def __call__(self, cells: NDArray[np.int64], counts: Counts) -> Floats:
        """Return differences of readings; the pixels are not known."""
        change = self._read(cells, counts) - self._before[cells]
        return np.concatenate([change, np.full((len(cells), 1), np.nan)], axis=1)


def pixels_moved(after: Images, before: Images) -> Floats:
    """Return the root mean square difference of intensities, mean over draws, (rows,)."""
    squared = (after.astype(np.float32) - before.astype(np.float32)) ** 2
    moved: Floats = np.sqrt(squared.mean(axis=(2, 3, 4), dtype=np.float64)).mean(axis=1)
    return moved
