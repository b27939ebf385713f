"""The cells that are paired: what is known of every cell, and the expression and morphology of the ones that matter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus, Section, Split
from spatia.corpus.expression import normalised
from spatia.corpus.given_cells import SUFFIXES, GivenCells, is_cell_table
from spatia.corpus.splits import MARGIN, PARTS
from spatia.errors import PairingError, SettingsError
from spatia.log import logger

ROW = "row"
PART = "part"
OF_CORPUS = (keys.NICHE, keys.TISSUE)  # where a partner may be is read from these
UNUSED = "unused"  # cells of no part: the margin of a split
_BLOCK_ROWS = 20_000
_EMBEDDED: dict[str, Callable[[Path], ad.AnnData]] = {".h5ad": ad.read_h5ad, ".zarr": ad.read_zarr}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """All cells of a corpus.

    Attributes
    ----------
    corpus
        Where they are from.
    obs
        One row a cell, index ``cell_id``: the columns of the corpus's obs and of the user's table; ``sample``, ``row`` (of
        ``cells.zarr``) and ``part`` of the split.
    position_um
        (n, 2).
    embedding
        (n, d), where the user's table has one.
    """

    corpus: Corpus
    obs: pd.DataFrame
    position_um: Floats
    embedding: Floats | None = None


@dataclass(frozen=True)
class Measured:
    """Expression and morphology of some of the cells, in the order of ``rows`` of :class:`Cells`.

    Attributes
    ----------
    rows
        (k,) rows of the cells.
    section
        (k,) number of the section of each.
    expression
        (k, genes) log1p of counts scaled to ``depth``; no entry where a section does not measure the gene.
    measures
        (sections, genes) which section measures which gene.
    morphology
        (k, features), NaN where a feature was not measured.
    genes, symbols, features
        Names of the columns; genes by id, and their symbols.
    """

    rows: NDArray[np.int64]
    section: NDArray[np.int64]
    expression: sp.csr_matrix
    measures: NDArray[np.bool_]
    morphology: Floats
    genes: tuple[str, ...]
    symbols: tuple[str, ...]
    features: tuple[str, ...]
    depth: float

    def place(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where rows of the cells stand here."""
        return np.searchsorted(self.rows, rows)


def read_cells(
    corpus: Corpus, split: Split, table: ad.AnnData | pd.DataFrame | str | Path | None, embedding: str | None
) -> Cells:
    """Read what is known of every cell of a corpus, joined with a table of the user's.

    Parameters
    ----------
    table
        ``cells.h5ad`` or ``.zarr`` of ``spatia embed``, or a ``.parquet``, ``.csv`` or ``.tsv`` with ``cell_id`` (and ``sample``, where ids
        are not unique); its columns stand beside, and before, those of the corpus.
    embedding
        Key of ``obsm`` of the table.
    """
    parts, positions = [], []
    for sample, section in corpus.sections.items():
        n = section.entry.n_cells
        obs = section.cells.obs()
        obs.index = pd.Index(obs.index.astype(str), name=keys.CELL_ID)
        part = split.part_of_rows(sample, n)
        part[~np.isin(part, PARTS)] = UNUSED
        obs[keys.SAMPLE], obs[ROW], obs[PART] = sample, np.arange(n), part
        parts.append(obs)
        positions.append(section.positions_um())
    own = pd.concat(parts)
    vectors = None
    if table is not None:
        own, vectors = _joined(own, table, embedding)
    elif embedding is not None:
        raise SettingsError(
            f"embedding {embedding!r}: no table of cells to take it from. Give the table of `spatia embed`."
        )
    return Cells(corpus, own, np.concatenate(positions), vectors)


def _joined(
    own: pd.DataFrame, table: ad.AnnData | pd.DataFrame | str | Path, embedding: str | None
) -> tuple[pd.DataFrame, Floats | None]:
    given, opened = _opened(table)
    joined = given.join(own.index, own[keys.SAMPLE], "the corpus")
    if note := given.unknown_note(joined, "the corpus"):
        logger.warning("%s", note)
    found = own.copy(deep=False)
    for name, column in given.table.drop(columns=given.named_by).items():
        values = _taken(column, joined.at)
        if name in OF_CORPUS and name in own:
            _check_same(own[name], values, joined.at, name, given.where)
        elif name not in (ROW, PART):
            found[str(name)] = values
    if embedding is None:
        return found, None
    return found, _vectors(opened, embedding, joined.at, given.where)


def _check_same(own: pd.Series, given: Any, at: NDArray[np.int64], name: str, where: str) -> None:
    """Refuse a column that scopes are read from and that means something else in the user's table."""
    there = at >= 0
    differs = pd.to_numeric(pd.Series(given)[there], errors="coerce").to_numpy(np.float64) != own.to_numpy()[there]
    if differs.any():
        raise SettingsError(
            f"{where}: its column {name!r} differs from the corpus's in {int(differs.sum()):,} of {int(there.sum()):,} cells; that column says "
            f"which {name} a cell is in, where scope is {name!r}. Rename yours."
        )


def _taken(column: pd.Series, at: NDArray[np.int64]) -> Any:
    """Return a column at these rows, missing at -1; a table of some cells leaves 1 a whole number and true a truth."""
    if (at < 0).any() and column.dtype.kind in "biu":
        column = column.convert_dtypes()  # numpy has no missing value for these: it makes them 1.0, and text
    values = column.take(np.maximum(at, 0)).where(at >= 0)
    return values.array if values.dtype.kind in "biu" else values.to_numpy()


def _vectors(opened: ad.AnnData | None, embedding: str, at: NDArray[np.int64], where: str) -> Floats:
    if opened is None or embedding not in opened.obsm:
        there = "no obsm at all" if opened is None else ", ".join(map(str, opened.obsm))
        raise SettingsError(
            f"{where}: no embedding {embedding!r} in obsm; there: {there}. `spatia embed` makes X_spatia."
        )
    values = np.asarray(opened.obsm[embedding], np.float64)[np.maximum(at, 0)]
    values[at < 0] = np.nan
    return values


def _opened(table: ad.AnnData | pd.DataFrame | str | Path) -> tuple[GivenCells, ad.AnnData | None]:
    """Return the table, and what else is known of its cells where it is of `spatia embed`."""
    where = str(table) if isinstance(table, str | Path) else "the table of cells"
    if isinstance(table, str | Path) and (path := Path(table)).suffix not in _EMBEDDED:
        if path.exists() and not is_cell_table(path):
            raise SettingsError(f"{path}: expected a table of cells, one of {', '.join((*_EMBEDDED, *SUFFIXES))}.")
        return GivenCells.read(path), None
    if isinstance(table, str | Path):
        if not path.exists():
            raise SettingsError(f"{path}: no such file. Expected a table of cells of `spatia embed`.")
        try:
            table = _EMBEDDED[path.suffix](path)
        except Exception as error:  # readers raise anything from OSError to KeyError for a damaged file
            raise SettingsError(f"{path}: cannot be read ({error}).") from error
    if isinstance(table, pd.DataFrame):
        return GivenCells.of(table, where), None
    return GivenCells.of(table.obs, where), table


def measure(cells: Cells, rows: NDArray[np.int64]) -> Measured:
    """Read expression and morphology of some cells, section by section, block by block.

    The depth that counts are scaled to is the median over the training cells among them, so no other cell has a say in it.
    """
    rows = np.unique(rows)
    corpus = cells.corpus
    samples = list(corpus.sections)
    of_cell = pd.Categorical(cells.obs[keys.SAMPLE], categories=samples).codes.astype(np.int64)
    at = cells.obs[ROW].to_numpy(np.int64)
    genes = tuple(map(str, corpus.genes["gene_id"]))
    column = {gene: number for number, gene in enumerate(genes)}
    features = tuple(dict.fromkeys(name for section in corpus.sections.values() for name in section.features))
    measures = np.zeros((len(samples), len(genes)), bool)
    blocks, tables = [], []
    for number, sample in enumerate(samples):
        section = corpus.sections[sample]
        own = np.array([column[str(gene)] for gene in section.cells.var().index], np.int64)
        measures[number, own] = True
        wanted = at[rows[of_cell[rows] == number]]
        blocks.append(_counts(section, wanted, own, len(genes)))
        tables.append(_morphology(section, wanted, features))
    counts = sp.csr_matrix(sp.vstack(blocks, format="csr"))
    total = np.asarray(counts.sum(axis=1), np.float64).ravel()
    train = (cells.obs[PART].to_numpy() == PARTS[0])[rows]
    if not (total[train] > 0).any():
        raise PairingError("No training cell among the sources and targets has a molecule; nothing to pair by.")
    depth = float(np.median(total[train & (total > 0)]))
    return Measured(
        rows=rows,
        section=of_cell[rows],
        expression=normalised(counts, depth),
        measures=measures,
        morphology=np.concatenate(tables),
        genes=genes,
        symbols=tuple(corpus.genes["symbol"].fillna("").astype(str)),
        features=features,
        depth=depth,
    )


def _counts(section: Section, wanted: NDArray[np.int64], own: NDArray[np.int64], n_genes: int) -> sp.csr_matrix:
    parts = [sp.csr_matrix((0, n_genes), dtype=np.float64)]
    for start, stop, chosen in _blocks(wanted, section.entry.n_cells):
        part = section.cells.read_csr("X", start, stop)[chosen - start]
        parts.append(
            sp.csr_matrix((part.data.astype(np.float64), own[part.indices], part.indptr), (len(chosen), n_genes))
        )
    return sp.csr_matrix(sp.vstack(parts, format="csr"))


def _morphology(section: Section, wanted: NDArray[np.int64], features: Sequence[str]) -> Floats:
    values = np.full((len(wanted), len(features)), np.nan)
    for number, name in enumerate(features):
        if name in section.features:
            column = section.cells.read(f"obsm/{keys.MORPHOLOGY}/{name}", 0, section.entry.n_cells)
            values[:, number] = column[wanted]
    return values


def _blocks(wanted: NDArray[np.int64], n: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Return ranges of rows that hold wanted ones, with those; ascending."""
    found = []
    for start in range(0, n, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, n)
        chosen = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, stop)]
        if len(chosen):
            found.append((int(chosen[0]), int(chosen[-1]) + 1, chosen))
    return found


def checked_split(corpus: Corpus, name: str | None) -> Split:
    """Return the split to use: cells are split before they are paired, so there must be one.

    Raises
    ------
    SettingsError
        If there is none, or several and none was named, or it has no training part.
    """
    names = corpus.split_names()
    if name is None and len(names) != 1:
        have = (
            f"it has {', '.join(names)}; name one with --split"
            if names
            else "it has none; make one with `spatia split`"
        )
        raise SettingsError(f"{corpus.path}: cells are paired within the parts of a split, and {have}.")
    split = corpus.split(name or names[0])
    if not split.parts.get(PARTS[0]):
        raise SettingsError(f"Split {split.name!r} has no cell in 'train'; its parts: {', '.join(split.parts)}.")
    return split


def split_facts(split: Split) -> Mapping[str, Any]:
    """Return what identifies a split."""
    n = {
        part: sum(stop - start for ranges in of.values() for start, stop in ranges) for part, of in split.parts.items()
    }
    return {
        "name": split.name,
        "by": split.by,
        "seed": split.seed,
        "n_cells": {k: v for k, v in n.items() if k != MARGIN},
    }
