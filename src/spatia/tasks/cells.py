"""The table of embedded cells that the tasks read and write: ``cells.h5ad`` or ``.zarr`` of ``spatia embed``."""

import difflib
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.files import put_in_place, whole_file
from spatia.errors import SettingsError
from spatia.inference.embed import GENES_ALONE, MEASURED_GENES, OBSM

Floats = NDArray[np.float64]
UNS: Final = "spatia"
EMBEDDINGS: Final = (*OBSM.values(), GENES_ALONE)


def read_cells(path: str | Path, *, written_by: str = "spatia embed") -> ad.AnnData:
    """Read an AnnData from ``.h5ad`` or ``.zarr``.

    Raises
    ------
    SettingsError
        If there is no such file, or it is no AnnData.
    """
    path = Path(path)
    if path.suffix not in (".h5ad", ".zarr") or not path.exists():
        what = "no such file" if not path.exists() else "neither .h5ad nor .zarr"
        raise SettingsError(f"{path}: {what}. Expected the table of cells that `{written_by}` writes.")
    try:
        return ad.read_h5ad(path) if path.suffix == ".h5ad" else ad.read_zarr(path)
    except Exception as error:  # h5py, zarr and anndata raise many kinds for a damaged file
        raise SettingsError(f"{path}: cannot be read as AnnData ({error}).") from error


def check_out(path: str | Path) -> Path:
    """Return where to write; refuses a name of another kind before hours of work and not after."""
    path = Path(path)
    if path.suffix not in (".h5ad", ".zarr"):
        raise SettingsError(f"{path}: expected a name that ends in .h5ad or .zarr.")
    return path


def write_cells(table: ad.AnnData, path: str | Path) -> Path:
    """Write aside and rename, so that the file is whole, old or new, whenever the program is stopped."""
    path = check_out(path)
    if path.suffix == ".h5ad":
        with whole_file(path) as aside:
            table.write_h5ad(aside, compression="gzip")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    if aside.exists():
        shutil.rmtree(aside)
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        # anndata consolidates the metadata, zarr warns that other readers may not know it: they read it piece by piece
        warnings.filterwarnings("ignore", "Consolidated metadata")
        table.write_zarr(aside)
    put_in_place(aside, path)
    return path


def embedding_of(table: ad.AnnData, key: str) -> NDArray[np.floating]:
    """Return ``table.obsm[key]``, (cells, width), or refuse with the names there are."""
    if key not in table.obsm:
        there = ", ".join(map(str, table.obsm)) or "none"
        raise SettingsError(
            f"The table has no embedding {key!r} in obsm; there: {there}. `spatia embed` makes X_spatia."
        )
    values = np.asarray(table.obsm[key])
    if not np.isfinite(values).all():
        n = int((~np.isfinite(values)).any(axis=1).sum())
        raise SettingsError(f"obsm[{key!r}]: {n:,} of {len(values):,} cells are not finite; embed the corpus again.")
    return values


def embeddings_of(table: ad.AnnData) -> dict[str, NDArray[np.floating]]:
    """Return the embeddings of `spatia embed` by key, those that are finite."""
    found = {key: np.asarray(table.obsm[key]) for key in EMBEDDINGS if key in table.obsm}
    return {key: values for key, values in found.items() if np.isfinite(values).all()}


def column_of(table: ad.AnnData, key: str) -> pd.Series:
    """Return ``table.obs[key]``, or refuse with the columns there are."""
    if key not in table.obs:
        near = difflib.get_close_matches(key, map(str, table.obs), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"The cells have no column {key!r}.{hint} Columns: {', '.join(map(str, table.obs))}.")
    return table.obs[key]


def place_of(table: ad.AnnData) -> dict[str, Any]:
    """Return positions (µm) and sections of the cells, as the tasks take them; nothing where there are no positions."""
    if keys.SPATIAL not in table.obsm:
        return {}
    position = np.asarray(table.obsm[keys.SPATIAL], np.float64)[:, :2]
    return {"positions_um": position, "sections": sections_of(table)}


def sections_of(table: ad.AnnData) -> NDArray[np.str_]:
    """Return the section of each cell; one where the table does not say."""
    return table.obs[keys.SAMPLE].astype(str).to_numpy() if keys.SAMPLE in table.obs else np.full(table.n_obs, "cells")


def symbols_of(table: ad.AnnData, ids: Sequence[str]) -> list[str]:
    """Return the symbol of each gene id, the id itself where there is none."""
    if keys.SYMBOL not in table.var:
        return list(ids)
    symbol = table.var[keys.SYMBOL].astype(str)
    return [symbol.get(gene, gene) or gene for gene in ids]


def expression_of(table: ad.AnnData, genes: Sequence[str], *, depth: float | None = None) -> Floats:
    """Return log1p of counts scaled to ``depth`` counts a cell, (cells, genes); NaN where a section does not measure a gene.

    Parameters
    ----------
    table
        ``X`` raw counts, or intensities; ``uns["spatia"]["measured"]`` (sections, ``measured_genes``) where sections have different panels.
    genes
        Gene ids; one that is not in the table at all is NaN everywhere.
    depth
        None: the median over cells of their counts, and intensities as they are.
    """
    counts = sp.csr_matrix(table.X)
    column = table.var_names.get_indexer(list(genes))
    values = np.full((table.n_obs, len(genes)), np.nan)
    known = column >= 0
    raw = counts[:, column[known]].toarray().astype(np.float64)
    if depth is not None or is_count(table.uns.get(UNS, {})):
        raw *= _to_depth(counts, depth)[:, None]
    values[:, known] = np.log1p(raw)
    measured = _measured(table, column[known])
    values[:, known] = np.where(measured, values[:, known], np.nan)
    return values


def _to_depth(counts: sp.csr_matrix, depth: float | None) -> Floats:
    """Return by how much the counts of each cell are scaled, (cells,); cells without a molecule stay empty."""
    total = np.asarray(counts.sum(axis=1), np.float64).ravel()
    depth = float(np.median(total[total > 0])) if depth is None else depth
    scale: Floats = np.divide(depth, total, out=np.zeros_like(total), where=total > 0)
    return scale


def is_count(facts: Mapping[str, Any]) -> bool:
    """Say whether a table holds counts, and not intensities, which are declared (``uns["spatia"]["measure"]``)."""
    return all(str(one) == "counts" for one in facts.get("measure", ()))


def measured_everywhere(facts: Mapping[str, Any], genes: Sequence[str], sections: Iterable[str]) -> NDArray[np.bool_]:
    """Say which genes every section measures, (genes,).

    Parameters
    ----------
    facts
        ``uns["spatia"]`` of a table of cells; one that does not say: all are measured.
    genes
        Ids of the genes of the table, in its order.
    sections
        Of the cells; where none of them is known, all that the table was made of.
    """
    if "measured" not in facts:
        return np.ones(len(genes), bool)
    known = set(sections)
    there = np.array([str(name) in known for name in facts["sections"]], bool)
    measured = _panels(facts, genes)
    return np.asarray((measured[there] if there.any() else measured).all(axis=0))


def _panels(facts: Mapping[str, Any], genes: Sequence[str]) -> NDArray[np.bool_]:
    """Return which section measures which gene of a table, (sections, genes): by name, as genes may have been taken out or moved."""
    measured = np.asarray(facts["measured"], bool)
    if measured.all():
        return np.ones((len(measured), len(genes)), bool)
    if MEASURED_GENES not in facts:  # tables of before: columns are those that the table had then
        if measured.shape[1] != len(genes):
            raise SettingsError(
                f'The table has {len(genes):,} genes, but uns["spatia"]["measured"] has {measured.shape[1]:,} columns and does not say of '
                "which genes they are. Give the table as `spatia embed` wrote it, or embed the corpus again."
            )
        return measured
    column = pd.Index(facts[MEASURED_GENES]).astype(str).get_indexer(pd.Index(genes).astype(str))
    if (column < 0).any():
        raise SettingsError(
            f"{(column < 0).sum():,} of {len(genes):,} genes (first: {str(genes[int(np.argmin(column))])!r}) are not in "
            f'uns["spatia"]["{MEASURED_GENES}"], so which sections measure them is not known. Give genes the ids that `spatia embed` wrote.'
        )
    return measured[:, column]


def _measured(table: ad.AnnData, columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    facts = table.uns.get(UNS, {})
    if "measured" not in facts:
        return np.ones((table.n_obs, len(columns)), bool)
    row = {str(sample): number for number, sample in enumerate(facts["sections"])}
    of_cell = np.array([row[sample] for sample in sections_of(table)])
    return _panels(facts, list(table.var_names))[of_cell][:, columns]


def most_variable(table: ad.AnnData, n: int, rows: NDArray[np.bool_] | None = None) -> list[str]:
    """Return the ids of the ``n`` genes of largest variance of log expression over ``rows``, in the order of the table."""
    genes = list(map(str, table.var_names))
    inside = np.ones(table.n_obs, bool) if rows is None else rows
    variance = np.zeros(len(genes))
    for start in range(0, len(genes), 512):
        part = expression_of(table, genes[start : start + 512])[inside]
        seen = np.isfinite(part).sum(axis=0)
        mean = np.nansum(part, axis=0) / np.maximum(seen, 1)
        variance[start : start + 512] = np.nansum((part - mean) ** 2, axis=0) / np.maximum(seen, 1)
    return [genes[i] for i in np.sort(np.argsort(-variance, kind="stable")[:n])]
