"""The same cells under two names: in another corpus that a model was trained on, or in two sections of one corpus."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from spatia.corpus.corpus import Corpus
from spatia.corpus.sketch import shared


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
        (one.get("path", one.get("name", "a corpus")), name, cells)
        for one in trained_on
        if one.get("corpus_id") != corpus.corpus_id
        for name, cells in one.get("cells", {}).items()
    ]
    if not seen:
        return None
    for name, section in corpus.sections.items():
        for path, other, cells in seen:
            if share := shared(section.sketch, cells):  # one cell with equal counts is no chance
                return f"section {other} of {path}, which holds cells of section {name} of {corpus.path} (in both: about {share:.0%})"
    return None


def repeated(corpus: Corpus) -> dict[tuple[str, str], float]:
    """Find pairs of sections of a corpus that hold the same cells, as when a slide was added twice.

    Returns
    -------
    For each pair, about which share of the cells of both together is in both.
    """
    sketches = {name: section.sketch for name, section in corpus.sections.items()}
    holding: dict[str, list[str]] = {}
    for name, values in sketches.items():
        for value in values:
            holding.setdefault(value, []).append(name)
    pairs = {pair for names in holding.values() for pair in combinations(names, 2)}
    return {(one, other): shared(sketches[one], sketches[other]) for one, other in sorted(pairs)}
