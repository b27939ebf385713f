"""Drawn cells or niches beside the real ones, and beside those of training that they are most like: a copy would be seen."""

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
from spatia.data.sources import open_sources
from spatia.data.vocabulary import Vocabulary
from spatia.errors import CorpusError
from spatia.generation.samples import Samples, nearest_of


def beside_real(
    store: Path, corpus: Corpus, vocabulary: Vocabulary, split: str, *, cells: int = 8, most_training: int = 20_000
) -> Samples:
    """Return some cells (or niches) of a store of drawn images, taken evenly from it, not chosen.

    Parameters
    ----------
    store
        As `spatia generate` writes it, one draw a cell or niche.
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
    level = str(drawn.uns["spatia"]["level"])
    chosen = np.unique(np.linspace(0, drawn.n_obs - 1, min(cells, drawn.n_obs)).astype(int))
    names = drawn.obs.iloc[chosen]
    real = pictures_of(names["cell_id"], names[keys.SAMPLE], corpus, vocabulary, level=level)
    images = torch.from_numpy(drawn.obsm[keys.CELL_IMAGES][chosen])
    reader, number = _reader(corpus, vocabulary, level)
    some = _training(corpus, vocabulary, split, level, most_training)
    training = torch.cat([reader(number[sample], rows).images for sample, rows in some])
    return Samples(vocabulary.channels, None, images, real, nearest_of(images, training))


def pictures_of(
    cell_ids: pd.Series, samples: pd.Series, corpus: Corpus, vocabulary: Vocabulary, *, level: str = "cell"
) -> torch.Tensor:
    """Return the images of some cells (or niches) of a corpus, (cells, channels, y, x), intensities 0…255, channels of the vocabulary.

    Raises
    ------
    CorpusError
        If the corpus lacks one of the cells.
    """
    reader, number = _reader(corpus, vocabulary, level)
    pictures = []
    for cell, sample in zip(cell_ids.astype(str), samples.astype(str), strict=True):
        row = corpus.section(sample).table(level).obs().index.astype(str).get_indexer(pd.Index([cell]))
        if row[0] < 0:
            raise CorpusError(
                f"{corpus.path}: section {sample!r} has no {level} {cell!r}. Give the corpus that was drawn of."
            )
        pictures.append(reader(number[sample], row).images[0])
    return torch.stack(pictures)


def _reader(corpus: Corpus, vocabulary: Vocabulary, level: str) -> tuple[RowReader, dict[str, int]]:
    """Return what reads images, and the number that it calls each section by."""
    reader = RowReader([corpus], level, vocabulary=vocabulary, read=("images",) if level == "cell" else ())
    return reader, {sample: at for at, sample in enumerate(corpus.sections)}


def _training(
    corpus: Corpus, vocabulary: Vocabulary, split: str, level: str, most: int
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Give the training rows of each section with an image, evenly thinned."""
    names = [sample for sample, section in corpus.sections.items() if section.entry.channels]
    for source in open_sources([corpus], vocabulary, split=split, part="train", sections=names):
        ranges = source.rows(level).tolist()
        rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(begin, end) for begin, end in ranges)])
        if len(rows):
            yield source.section.sample, rows[:: -(-len(rows) * len(corpus.sections) // most)]
