"""Genes that a corpus and a model know by different names: an Ensembl id here, the same gene's symbol there."""

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.log import logger
from spatia.models.spatia import Spatia


def known_by_symbol(model: Spatia, corpora: Sequence[Corpus]) -> Spatia:
    """Call genes of a model by the ids of corpora, where only the symbol is the same; nothing else of the model changes.

    Vendors' newer bundles name genes by Ensembl ids with the symbol beside, older ones by the symbol alone. A gene of a corpus is
    taken for one of the model's if its id is not known, its symbol is a name that the model knows, and no other gene of the
    corpora has this symbol or this name as its id. Letter case counts: Cd3e of a mouse is not CD3E.

    Returns
    -------
    The model itself where nothing is renamed; else one with the same weights and a renamed vocabulary.
    """
    known = set(model.vocabulary.genes)
    symbols: dict[str, str] = {}
    for corpus in corpora:
        for gene, symbol in zip(corpus.genes["gene_id"].astype(str), corpus.genes["symbol"].astype(str), strict=True):
            symbols.setdefault(gene, symbol)
    times = Counter(symbols.values())
    new_name = {
        symbol: gene
        for gene, symbol in symbols.items()
        if gene not in known
        and symbol in known
        and symbol not in symbols
        and times[symbol] == 1
        and not gene.startswith(keys.SIMULATED_GENE)  # a simulated gene must not be taken for a real one
    }
    if not new_name:
        return model
    renamed = copy(model)  # shares weights: the model that was given may be used on another corpus next
    genes = tuple(new_name.get(gene, gene) for gene in model.vocabulary.genes)
    renamed.vocabulary = replace(model.vocabulary, genes=genes)
    logger.info(
        "%d genes are known to the model by their symbol, first %s (%s)", len(new_name), *next(iter(new_name.items()))
    )
    return renamed
