"""Open a file of counts of any common kind: h5ad, 10x h5, loom, csv or tsv with one row per cell."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Notice, counts_in_memory
from spatia.io.check_reading import reading
from spatia.io.counts_h5 import (
    CountMatrix,
    as_text,
    check_sizes,
    csr_blocks,
    dense_blocks,
    in_memory,
    open_h5,
    read_10x_h5,
    stored,
    take_rows,
)
from spatia.io.counts_text import refuse_repeated_columns
from spatia.io.ids import ids_as_text
from spatia.io.tables import numbers_in

POSITION_COLUMNS = (("x", "y"), ("X", "Y"), ("x_um", "y_um"), ("x_centroid", "y_centroid"), ("center_x", "center_y"))
_POSITIONS_UM, _POSITIONS_PX = (keys.SPATIAL, "spatial_um"), "spatial_px"
_PARTS_READ = ("obs", "var", "X", "layers/counts", "raw/X")
_GENE_ID_COLUMNS = ("gene_id", "gene_ids", "ensembl_id", "ensembl")
_SAMPLED = 1_000_000  # stored values looked at to tell raw counts from normalised ones; the doctor looks at all
_MAX_IN_MEMORY = 200_000_000  # stored values; above it a file that cannot be read by rows is refused


@dataclass(frozen=True)
class CellTable:
    """Counts with what the file knows of each cell.

    Attributes
    ----------
    positions
        Where the file holds positions, by the name of the place: obsm key or "obs x, y"; (n, 2) each.
    """

    matrix: CountMatrix
    obs: pd.DataFrame
    positions: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()

    def only(self, column: str, value: str, where: Path) -> "CellTable":
        """Keep the cells whose ``obs[column]`` reads as ``value``.

        Raises
        ------
        SlideError
            If there is no such column, or no such cell.
        """
        if column not in self.obs:
            raise SlideError(f"{where}: no column {column!r} to choose cells by; found {list(self.obs.columns)}.")
        rows = np.flatnonzero([_reads_as(cell, value) for cell in self.obs[column]])
        if not len(rows):
            found = sorted({str(cell) for cell in self.obs[column]})[:10]
            raise SlideError(f"{where}: no cell has {column} = {value!r}; found {found}.")
        matrix = replace(self.matrix, counts=take_rows(self.matrix.counts, rows), cell_ids=self.matrix.cell_ids[rows])
        positions = {name: xy[rows] for name, xy in self.positions.items()}
        return replace(self, matrix=matrix, obs=self.obs.iloc[rows], positions=positions)


def open_cell_table(path: Path, *, intensities: bool = False) -> CellTable:
    """Open a file of counts by its ending.

    Parameters
    ----------
    intensities
        True: X is what the user wants, whatever its values; do not look for raw counts elsewhere in the file.

    Raises
    ------
    SlideError
        If it is missing, damaged or of an unknown kind.
    """
    if not path.is_file():
        raise SlideError(f"{path}: no such file of counts. Expected h5ad, 10x h5, loom, csv or tsv (.gz).")
    name = path.name.lower().removesuffix(".gz")
    openers: dict[str, Callable[[Path], CellTable]] = {
        ".h5ad": lambda file: _open_h5ad(file, intensities),
        ".h5": _open_10x,
        ".loom": _open_loom,
        ".csv": _open_text,
        ".tsv": _open_text,
        ".txt": _open_text,
    }
    for ending, opener in openers.items():
        if name.endswith(ending):
            return opener(path)
    raise SlideError(
        f"{path}: counts of an unknown kind {path.suffix!r}. Expected one of {', '.join(openers)} (text also .gz)."
    )


def positions_in(obs: pd.DataFrame, where: Path) -> dict[str, NDArray[np.float64]]:
    """Return the first pair of columns that are positions by their names."""
    for pair in POSITION_COLUMNS:
        if set(pair) <= set(obs.columns):
            return {f"obs {pair[0]}, {pair[1]}": numbers_in(obs, pair, where)}
    return {}


def _open_10x(path: Path) -> CellTable:
    matrix = read_10x_h5(path)
    return CellTable(matrix, pd.DataFrame(index=matrix.cell_ids))


def _open_h5ad(path: Path, intensities: bool) -> CellTable:
    with open_h5(path) as file:
        if "X" not in file or "obs" not in file or "var" not in file:
            raise SlideError(f"{path}: not an AnnData file; found {sorted(file)}. Expected X, obs and var.")
        try:
            for name in (*_PARTS_READ, *(f"obsm/{name}" for name in (*_POSITIONS_UM, _POSITIONS_PX))):
                check_sizes(file, name)
            obs, var = _element(file["obs"]), _element(file["var"])
            names = [name for name in (*_POSITIONS_UM, _POSITIONS_PX) if f"obsm/{name}" in file]
            positions = {name: np.asarray(_element(file[f"obsm/{name}"]), np.float64)[:, :2] for name in names}
        except (OSError, KeyError, ValueError) as error:
            raise SlideError(
                f"{path}: the AnnData file cannot be read ({error}). Write it again with anndata."
            ) from error
        with reading(str(path)):
            place, notices = ("X", ()) if intensities else _place_of_counts(file)
        if place.startswith("raw/") and "raw/var" in file:
            check_sizes(file, "raw/var")
            var = _element(file["raw/var"])
    symbols = _var_column(var, ("symbol", "gene_symbol", "gene_name", "gene_names"))
    matrix = CountMatrix(
        counts=_h5ad_counts(path, place, (len(obs), len(var))),
        cell_ids=pd.Index(ids_as_text(obs.index.to_numpy(), path).to_pylist(), dtype=str),
        symbols=symbols or [str(name) for name in var.index],
        ids=_var_column(var, _GENE_ID_COLUMNS) or ([str(name) for name in var.index] if symbols else None),
        types=_var_column(var, (keys.FEATURE_TYPE, "feature_types")),
    )
    obs.index = matrix.cell_ids
    return CellTable(matrix, obs, {**positions_in(obs, path), **positions}, notices)


def _place_of_counts(file: h5py.File) -> tuple[str, tuple[Notice, ...]]:
    """Return where the raw counts are: X, unless X is not raw and another place plainly is."""
    if _looks_raw(file["X"]):
        return "X", ()
    for place in ("layers/counts", "raw/X"):
        if place in file and _looks_raw(file[place]):
            found = "X holds values that are no raw counts"
            return place, (Notice("counts_not_in_x", f"{found}; took {place}", "raw counts in X", "Nothing to do."),)
    return "X", ()  # kept as it is: the doctor refuses it with the numbers


def _looks_raw(element: h5py.Group | h5py.Dataset) -> bool:
    values = (
        stored(element, "data")[:_SAMPLED]
        if isinstance(element, h5py.Group)
        else element[: max(_SAMPLED // element.shape[1], 1)]
    )
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values == np.round(values)).all())


def _h5ad_counts(path: Path, place: str, shape: tuple[int, int]) -> Any:
    with open_h5(path) as file:
        element = file[place]
        if isinstance(element, h5py.Dataset):
            return dense_blocks(path, place)
        kind = element.attrs.get("encoding-type", "csr_matrix")
        if kind == "csr_matrix":
            return csr_blocks(path, place, shape)
        held = {name: stored(element, name) for name in ("data", "indices", "indptr")}
        n_values = len(held["data"])
        if n_values > _MAX_IN_MEMORY:
            raise SlideError(
                f"{path}: {place} is stored by columns ({kind}) with {n_values:,} values, which cannot be read cell by cell. "
                "Save it as CSR: adata.X = adata.X.tocsr(); adata.write_h5ad(...)."
            )
        with reading(str(path)):
            matrix = sp.csc_matrix((in_memory(held["data"][:]), held["indices"][:], held["indptr"][:]), shape)
            matrix.check_format(full_check=True)
        return counts_in_memory(matrix)


def _open_loom(path: Path) -> CellTable:
    """Open a loom file: a dense genes x cells `matrix`, `row_attrs` and `col_attrs`."""
    with open_h5(path) as file:
        if "matrix" not in file or "row_attrs/Gene" not in file:
            raise SlideError(
                f"{path}: not a loom file of genes; found {sorted(file)}. Expected `matrix` and `row_attrs/Gene`."
            )
        with reading(str(path)):
            n_cells = stored(file, "matrix", n_axes=2).shape[1]
            check_sizes(file, "col_attrs")
            columns = {name: column[:] for name, column in file["col_attrs"].items() if column.shape == (n_cells,)}
            genes = as_text(stored(file, "row_attrs/Gene")[:])
            accession = as_text(stored(file, "row_attrs/Accession")[:]) if "row_attrs/Accession" in file else None
    ids = columns.pop("CellID", np.arange(n_cells))
    obs = pd.DataFrame({name: as_text(v) if v.dtype.kind in "SO" else v for name, v in columns.items()})
    obs.index = pd.Index(ids_as_text(ids, path).to_pylist(), dtype=str)
    matrix = CountMatrix(dense_blocks(path, "matrix", transposed=True), obs.index, genes, accession)
    return CellTable(matrix, obs, positions_in(obs, path))


def _open_text(path: Path) -> CellTable:
    """Open text with one row per cell: an id first (or `cell_id`), a pair of position columns, the rest genes."""
    separator = "," if path.name.removesuffix(".gz").endswith(".csv") else "\t"
    try:
        refuse_repeated_columns(path, separator)
        head = pd.read_csv(path, sep=separator, nrows=5)
        if not isinstance(head.index, pd.RangeIndex):
            raise ValueError(f"{len(head.columns)} names for {len(head.columns) + 1} columns")
        id_column = "cell_id" if "cell_id" in head else head.columns[0]
        position = next((pair for pair in POSITION_COLUMNS if set(pair) <= set(head.columns)), ())
        genes = [str(name) for name in head.columns if name not in (id_column, *position)]
        ids: list[str] = []
        blocks, xy = [], []
        with pd.read_csv(path, sep=separator, chunksize=8_192, dtype={id_column: str}) as parts:
            for part in parts:
                ids.extend(part[id_column])
                xy.append(part[list(position)].to_numpy(np.float64))
                blocks.append(sp.csr_matrix(part[genes].to_numpy()))
    except (ValueError, OSError, EOFError, TypeError, IndexError) as error:
        raise SlideError(
            f"{path}: not a table of numbers with one row per cell ({error}). Expected a column of cell ids, x and y in µm, "
            "and one column per gene; transpose the table if it has one row per gene."
        ) from error
    if not genes or not ids:
        raise SlideError(
            f"{path}: {len(ids)} cells and {len(genes)} genes; expected one row per cell, one column per gene."
        )
    index = pd.Index(ids, dtype=str)
    matrix = CountMatrix(counts_in_memory(sp.vstack(blocks, format="csr")), index, genes)
    positions = {f"columns {position[0]}, {position[1]}": np.concatenate(xy)} if position else {}
    return CellTable(matrix, pd.DataFrame(index=index), positions)


def _element(element: h5py.Group | h5py.Dataset) -> Any:
    with warnings.catch_warnings():
        # files of anndata < 0.7 are read correctly; that they are old is not the user's concern
        warnings.simplefilter("ignore", ad.OldFormatWarning)
        return ad.io.read_elem(element)


def _var_column(var: pd.DataFrame, names: tuple[str, ...]) -> list[str] | None:
    name = next((name for name in names if name in var), None)
    return None if name is None else [str(value) for value in var[name]]


def _reads_as(cell: Any, value: str) -> bool:
    if str(cell) == value:
        return True
    try:
        return float(cell) == float(value)
    except (TypeError, ValueError):
        return False
