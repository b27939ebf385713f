"""Which genes are changed: named singly or as sets, by id or symbol; what cannot be changed is refused by name."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError


@dataclass(frozen=True)
class GeneSet:
    """Genes that are changed together.

    Attributes
    ----------
    name
        Of the set; of a single gene its symbol, or its id where it has none.
    gene_ids
        At least one.
    """

    name: str
    gene_ids: tuple[str, ...]


def read_gmt(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read gene sets in GMT: a line a set, parted by tabs: name, description, genes.

    Raises
    ------
    SettingsError
        If the file is missing or a line is not of that form.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingsError(
            f"{path}: no such file. Expected gene sets in GMT: NAME<tab>DESCRIPTION<tab>GENE<tab>GENE …"
        )
    found: dict[str, tuple[str, ...]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is no text in UTF-8 ({error}).") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = tuple(dict.fromkeys(field for field in rest[1:] if field))
        if not name or not genes:
            raise SettingsError(
                f"{path}, line {number}: expected NAME<tab>DESCRIPTION<tab>GENE …, found {line[:60]!r}."
            )
        if name in found:
            raise SettingsError(f"{path}, line {number}: the set {name!r} stands there twice.")
        found[name] = genes
    if not found:
        raise SettingsError(f"{path}: no gene set in it.")
    return found


def choose_gene_sets(
    corpus: Corpus,
    known: Sequence[str],
    samples: Sequence[str],
    genes: Sequence[str] | None = None,
    sets: Mapping[str, Sequence[str]] | None = None,
) -> list[GeneSet]:
    """Return what is to be changed.

    Parameters
    ----------
    known
        Ids of the genes of the model.
    samples
        Sections whose cells are changed: each must measure each gene.
    genes
        Ids or symbols, one change each; None (and no ``sets``): every gene that can be changed.
    sets
        Name -> ids or symbols, one change each.

    Raises
    ------
    SettingsError
        For a gene that is unknown (with the nearest names), not measured in a section, or not known to the model.
    """
    panel = _Panel(corpus, known, samples)
    if genes is None and sets is None:
        return [GeneSet(panel.label(gene), (gene,)) for gene in panel.possible]
    chosen = [GeneSet(panel.label(gene), (gene,)) for gene in dict.fromkeys(map(panel.find, genes or ()))]
    for name, members in (sets or {}).items():
        chosen.append(GeneSet(name, tuple(dict.fromkeys(map(panel.find, members)))))
    names = [one.name for one in chosen]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"Two changes are named {twice[0]!r}: rename the set.")
    if not chosen or not all(one.gene_ids for one in chosen):
        raise SettingsError("No gene is named. Give genes or gene sets, or neither for every gene.")
    return chosen


class _Panel:
    """The genes of a corpus by id and symbol, and which of them can be changed."""

    def __init__(self, corpus: Corpus, known: Sequence[str], samples: Sequence[str]) -> None:
        self._path, self._known = corpus.path, set(known)
        table = corpus.genes
        self._ids = table["gene_id"].astype(str).tolist()
        symbols = table["symbol"].astype(object).where(table["symbol"].notna(), "").astype(str).tolist()
        self._symbol = {gene: symbol for gene, symbol in zip(self._ids, symbols, strict=True) if symbol}
        self._by_symbol: dict[str, list[str]] = {}
        for gene, symbol in self._symbol.items():
            self._by_symbol.setdefault(symbol, []).append(gene)
        self._measured = {sample: set(corpus.section(sample).cells.var().index.astype(str)) for sample in samples}
        everywhere = set.intersection(*self._measured.values())
        if not everywhere:
            raise SettingsError(
                f"{corpus.path}: no gene is measured in all of the sections {', '.join(samples)}. Choose cells of sections with the same "
                f"panel, for example --where \"sample == '{samples[0]}'\"."
            )
        self.possible = [gene for gene in self._ids if gene in everywhere & self._known]
        if not self.possible:
            raise SettingsError(f"{corpus.path}: the model knows no gene that {', '.join(samples)} measure.")
        self._symbols_here = Counter(self._symbol[gene] for gene in everywhere if gene in self._symbol)

    def label(self, gene: str) -> str:
        """Return the symbol of a gene, its id where it has none or shares it."""
        symbol = self._symbol.get(gene, "")
        return symbol if self._symbols_here[symbol] == 1 else gene

    def find(self, name: str) -> str:
        """Return the id of a gene that can be changed."""
        found = [name] if name in set(self._ids) else self._by_symbol.get(name, [])
        if len(found) > 1:  # other sections may use other ids
            found = [gene for gene in found if all(gene in measured for measured in self._measured.values())] or found
        if len(found) > 1:
            raise SettingsError(
                f"gene {name!r} is the symbol of {len(found)} genes: {', '.join(found)}. Give the gene_id."
            )
        if not found:
            near = difflib.get_close_matches(name, [*self._by_symbol, *self._ids], n=3)
            if not near:  # symbols differ in case between organisms
                near = [symbol for symbol in self._by_symbol if symbol.upper() == name.upper()]
            hint = f"Nearest: {', '.join(near)}." if near else f"Genes go by gene_id or symbol, as {self._ids[0]!r}."
            raise SettingsError(f"gene {name!r} is not in {self._path}. {hint}")
        gene = found[0]
        if lacking := [sample for sample, measured in self._measured.items() if gene not in measured]:
            raise SettingsError(
                f"gene {name!r} is not measured in section {lacking[0]!r}, so its cells have no count to change. Leave the gene or the "
                "section out."
            )
        if gene not in self._known:
            raise SettingsError(
                f"gene {name!r} is not known to the generator's model, so changing it would change nothing."
            )
        return gene


def permuted(sets: Sequence[GeneSet], possible: Sequence[str], seed: int) -> list[GeneSet]:
    """Return the sets under their names with every gene exchanged for another: the control that no ranking may survive.

    Examples
    --------
    >>> sets = [GeneSet("a", ("a",)), GeneSet("b", ("b",))]
    >>> [(one.name, one.gene_ids[0] != one.name) for one in permuted(sets, ["a", "b", "c"], 0)]
    [('a', True), ('b', True)]
    """
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(possible))
    partner = {possible[at]: possible[to] for at, to in zip(order, np.roll(order, 1), strict=True)}  # one cycle
    return [GeneSet(one.name, tuple(partner[gene] for gene in one.gene_ids)) for one in sets]
