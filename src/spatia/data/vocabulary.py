"""The genes and channels that several corpora have between them, by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus
from spatia.errors import CorpusError


@dataclass(frozen=True)
class Vocabulary:
    """Names behind the columns of ``counts`` and ``morphology`` and the channels of ``images``.

    A trained model brings its own: genes and channels of a corpus that are not in it are left out, those of it that
    a section does not have are marked as not measured.

    Examples
    --------
    >>> vocabulary = Vocabulary(genes=("EPCAM", "CD3E"), channels=("DAPI",))
    >>> vocabulary.gene_columns(["CD3E", "ACTB"]).tolist()
    [1, -1]
    """

    genes: tuple[str, ...]
    channels: tuple[str, ...]
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in ("genes", "channels", "features"):
            names = getattr(self, kind)
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise CorpusError(f"The vocabulary names {twice!r} twice among its {kind}; expected each once.")

    @classmethod
    def of(cls, corpora: Iterable[Corpus]) -> Self:
        """Union over corpora in order of first appearance, genes by ``gene_id``."""
        corpora = list(corpora)
        genes = dict.fromkeys(gene for corpus in corpora for gene in corpus.genes["gene_id"])
        channels = dict.fromkeys(channel for corpus in corpora for channel in corpus.channels)
        sections = (section for corpus in corpora for section in corpus.sections.values())
        features = dict.fromkeys(feature for section in sections for feature in section.features)
        return cls(tuple(genes), tuple(channels), tuple(features))

    @cached_property
    def _column(self) -> dict[str, int]:
        return {gene: column for column, gene in enumerate(self.genes)}

    def gene_columns(self, gene_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the column of each gene; -1 for a gene outside the vocabulary."""
        return np.array([self._column.get(gene, -1) for gene in gene_ids], np.int64)

    @cached_property
    def _feature_column(self) -> dict[str, int]:
        return {feature: column for column, feature in enumerate(self.features)}

    def feature_column(self, feature: str) -> int:
        """Return the column of a measured feature; -1 for one outside the vocabulary."""
        return self._feature_column.get(feature, -1)

    def channel_index(self, channels: Sequence[str]) -> NDArray[np.int64]:
        """Return the position of each channel; -1 for a channel outside the vocabulary."""
        position = {channel: i for i, channel in enumerate(self.channels)}
        return np.array([position.get(channel, -1) for channel in channels], np.int64)
