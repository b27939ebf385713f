"""Drawn cells beside the real ones, and beside the training cells that they are most like: a copy would be seen."""

from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.data.vocabulary import Vocabulary
from spatia.generation.samples import Samples, nearest_of


def beside_real(
    store: Path, corpus: Corpus, vocabulary: Vocabulary, split: str, *, cells: int = 8, most_training: int = 20_000
) -> Samples:
    """Return some cells of a store of drawn images, taken evenly from it, not chosen.

    Parameters
    ----------
    store
        As `spatia generate` writes it, one draw a cell.
    corpus, split
        Of the cells; the split's part ``train`` is where nearest cells are looked for, among at most ``most_training`` of them.
    vocabulary
        Of the generator's model: its channels are those of the store.

    Returns
    -------
    Images (cells, channels, y, x), intensities 0…255.

    Raises
    ------
    CorpusError
        If the corpus lacks the split, or a section of the store.
    """
    drawn = ad.read_zarr(store)
    chosen = np.unique(np.linspace(0, drawn.n_obs - 1, min(cells, drawn.n_obs)).astype(int))
    reader = RowReader([corpus], "cell", vocabulary=vocabulary, read=("images",))
    number = {sample: at for at, sample in enumerate(corpus.sections)}
    real = []
    for cell, sample in drawn.obs.iloc[chosen][["cell_id", "sample"]].astype(str).itertuples(index=False):
        row = corpus.section(sample).cells.obs().index.astype(str).get_indexer(pd.Index([cell]))
        real.append(reader(number[sample], row).images[0])
    images = torch.from_numpy(drawn.obsm[keys.CELL_IMAGES][chosen])
    training = torch.cat(
        [reader(number[sample], rows).images for sample, rows in _training(corpus, split, most_training)]
    )
    return Samples(vocabulary.channels, None, images, torch.stack(real), nearest_of(images, training))


def _training(corpus: Corpus, split: str, most: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Give the training rows of each section with an image, evenly thinned."""
    parts = corpus.split(split)
    for sample, section in corpus.sections.items():
        ranges = parts.ranges("train", sample) if section.entry.channels else ()
        rows = np.concatenate([np.arange(begin, end) for begin, end in ranges]) if ranges else np.zeros(0, np.int64)
        if len(rows):
            yield sample, rows[:: -(-len(rows) * len(corpus.sections) // most)]
