"""A model over a larger vocabulary: old rows are copied by name, never by position, and what it knows does not change.

Depth keeps its meaning. ``gene_fraction`` of a grown model does not sum to 1: it stays relative to the panel that the model was
first trained on, so that the depth of a cell remains its counts over *that* panel, however many genes join
(``docs/decisions/0010-a-vocabulary-grows-around-its-first-panel.md``).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.data.vocabulary import Vocabulary
from spatia.models.spatia import Spatia, named_rows
from spatia.models.statistics import Statistics

KINDS: Final = ("genes", "channels", "features")
EMBEDDING_NOISE: Final = 0.02  # of new genes, as a new model draws it: two of them must not be the same gene

# How new rows start where rows of that kind are known. "new": as in a new model, from the statistics of the new corpus.
# A new gene is read (its token differs from others by its value and a little noise) but enters no summary yet; its rate
# starts at the mean of the corpus. A feature has a sign and a direction of its own, so no mean of others means anything.
ROW_STARTS: Final[dict[str, str]] = {
    "gene_encoder.embedding": "near the mean",
    "gene_encoder.summary_weight": "zero",
    "gene_encoder.gene_fraction": "new",
    "gene_encoder.gene_mean": "new",
    "gene_head.weight": "zero",
    "gene_head.bias": "new",
    "gene_head.log_dispersion": "new",
    "image_encoder.patch_weight": "mean",
    "image_encoder.channel_embedding": "mean",
    "image_encoder.channel_mean": "new",
    "image_encoder.channel_sd": "new",
    "image_encoder.feature_weight": "zero",
    "image_encoder.feature_mean": "new",
    "image_encoder.feature_sd": "new",
    "image_encoder.summary_weight": "zero",
    "image_head.pixel_weight": "mean",
    "image_head.pixel_bias": "mean",
    "niche_transformer.patch_weight": "mean",
    "morphology_head.weight": "zero",
    "morphology_head.bias": "zero",
}
# scales of counts: those of the corpus where the model has seen no gene before
SCALES_OF_COUNTS: Final = ("gene_encoder.depth_scale", "gene_encoder.log_depth")

# fields of `Statistics` with a row per name, and the vocabulary of the names
STATISTICS_ROWS: Final[dict[str, str]] = {
    "gene_fraction": "genes",
    "gene_mean": "genes",
    "gene_directions": "genes",
    "gene_dispersion": "genes",
    "channel_mean": "channels",
    "channel_sd": "channels",
    "feature_mean": "features",
    "feature_sd": "features",
    "feature_directions": "features",
}


@dataclass(frozen=True)
class Growth:
    """What a model and a corpus have in common, by name.

    Attributes
    ----------
    known
        Of the corpus, what the model knows already.
    added
        Of the corpus, what the model learns anew.
    absent
        Of the model, what the corpus does not have.
    """

    known: Vocabulary
    added: Vocabulary
    absent: Vocabulary

    @classmethod
    def between(cls, model: Vocabulary, corpus: Vocabulary) -> "Growth":
        """Compare the vocabulary of a model with that of a corpus.

        Examples
        --------
        >>> growth = Growth.between(Vocabulary(("A", "B"), ()), Vocabulary(("C", "B"), ("DAPI",)))
        >>> growth.known.genes, growth.added.genes, growth.added.channels, growth.absent.genes
        (('B',), ('C',), ('DAPI',), ('A',))
        """
        return cls(
            known=_those_of(corpus, model, shared=True),
            added=_those_of(corpus, model, shared=False),
            absent=_those_of(model, corpus, shared=False),
        )

    def to_json(self, most: int = 20) -> dict[str, Any]:
        """Return the number of names of each kind, and the first of them."""
        return {
            group: {
                kind: {"n": len(names), "first": list(names[:most])}
                for kind in KINDS
                if (names := getattr(getattr(self, group), kind))
            }
            for group in ("known", "added", "absent")
        }


def grown_vocabulary(model: Vocabulary, corpus: Vocabulary) -> Vocabulary:
    """Return the model's names in their order, then those of the corpus that are new to it."""
    added = Growth.between(model, corpus).added
    return Vocabulary(**{kind: getattr(model, kind) + getattr(added, kind) for kind in KINDS})


def grow(model: Spatia, corpus: Vocabulary, statistics: Statistics, *, seed: int = 0) -> Spatia:
    """Make a model that also knows the names of a corpus.

    The embedding of a cell in which nothing new is measured stays what it was.

    Parameters
    ----------
    model
        Not changed.
    corpus
        Names of the new corpus.
    statistics
        Measured on the new corpus, over ``corpus``.
    seed
        Of what is random in new rows.

    Returns
    -------
    A model over :func:`grown_vocabulary`, with `ROW_STARTS` where a name is new and all else copied.
    """
    vocabulary = grown_vocabulary(model.vocabulary, corpus)
    measured = _on_scale_of(model, corpus, statistics)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        grown = Spatia(model.config, vocabulary, _over(vocabulary, corpus, measured))
    weights, rows = grown.state_dict(), named_rows(model)
    knows_genes = bool(model.vocabulary.genes)
    for name, old in model.state_dict().items():
        if kind := rows.get(name):
            names = getattr(model.vocabulary, kind), getattr(vocabulary, kind)
            weights[name] = _grown_rows(old, weights[name], *names, start=ROW_STARTS[name], seed=seed)
        elif knows_genes or name not in SCALES_OF_COUNTS:
            weights[name] = old
    grown.load_state_dict(weights, strict=True)
    return grown.to(model.device)


def _those_of(vocabulary: Vocabulary, other: Vocabulary, *, shared: bool) -> Vocabulary:
    there = {kind: set(getattr(other, kind)) for kind in KINDS}
    return Vocabulary(
        **{kind: tuple(n for n in getattr(vocabulary, kind) if (n in there[kind]) == shared) for kind in KINDS}
    )


def _grown_rows(
    old: Tensor, new: Tensor, old_names: tuple[str, ...], names: tuple[str, ...], *, start: str, seed: int
) -> Tensor:
    """Put old rows where their names stand; the others by ``start``, or as they are where there is no old row."""
    grown = new.clone()
    if not old_names:
        return grown
    at = {name: row for row, name in enumerate(names)}
    # in the order of their names: what a new row draws does not depend on where it stands
    added = sorted(set(names) - set(old_names))
    rows = torch.tensor([at[name] for name in added], dtype=torch.int64)
    if start == "zero":
        grown[rows] = 0
    elif start != "new":
        grown[rows] = old.mean(dim=0)
    if start == "near the mean":
        generator = torch.Generator().manual_seed(seed)
        grown[rows] += torch.randn(grown[rows].shape, generator=generator) * EMBEDDING_NOISE
    grown[torch.tensor([at[name] for name in old_names])] = old.to(grown)
    return grown


def _on_scale_of(model: Spatia, corpus: Vocabulary, statistics: Statistics) -> Statistics:
    """Return the statistics of the genes on the scale of the model's depth.

    ``ratio`` is what one share of the corpus is in shares of the model's first panel, as told by the genes that both know;
    where there are none, it lets the corpus's median depth be the model's.
    """
    if not model.vocabulary.genes or not corpus.genes:
        return statistics
    encoder, old_row = model.gene_encoder, {name: row for row, name in enumerate(model.vocabulary.genes)}
    known = [name for name in corpus.genes if name in old_row]
    if known:
        old_share = float(encoder.gene_fraction[[old_row[name] for name in known]].sum())
        share = float(statistics.gene_fraction[[name in old_row for name in corpus.genes]].sum())
        ratio = old_share / share
    else:
        ratio = statistics.depth / float(encoder.depth_scale)
    # The corpus scaled counts to its own median depth. For the mean of a logarithm this is not exact; it is the offset
    # of a gene that has no weight in the summary yet.
    scale = ratio * float(encoder.depth_scale) / statistics.depth
    return dataclasses.replace(
        statistics,
        gene_fraction=(statistics.gene_fraction * ratio).astype(np.float32),
        gene_mean=np.log1p(np.expm1(statistics.gene_mean) * scale).astype(np.float32),
    )


def _over(vocabulary: Vocabulary, corpus: Vocabulary, statistics: Statistics) -> Statistics:
    """Put statistics over a corpus's names where these stand in a larger vocabulary."""
    blank = Statistics.blank(*(len(getattr(vocabulary, kind)) for kind in KINDS))

    def spread(field: str, kind: str) -> Any:
        own: NDArray[np.float32] = getattr(statistics, field)
        empty = getattr(blank, field)
        values = np.zeros((len(empty), *own.shape[1:]), np.float32) if own.ndim > 1 else empty.copy()
        at = {name: row for row, name in enumerate(getattr(vocabulary, kind))}
        values[[at[name] for name in getattr(corpus, kind)]] = own
        return values

    return dataclasses.replace(statistics, **{field: spread(field, kind) for field, kind in STATISTICS_ROWS.items()})
