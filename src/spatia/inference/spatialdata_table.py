"""Write embeddings into the table of a SpatialData store, cell by cell id."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.store import quiet_about_sharding
from spatia.errors import SlideError
from spatia.extras import require
from spatia.inference.embed import GENES_ALONE, OBSM

SPARE: Final = "with_spatia"


def write_into_spatialdata(cells: str | Path, store: str | Path, *, table: str | None = None) -> str:
    """Add ``X_spatia…`` and ``spatia_ood`` to a table of a SpatialData zarr; rows are matched by cell id.

    Parameters
    ----------
    cells
        What `spatia embed` wrote.
    store
        The SpatialData zarr; its table element is replaced.
    table
        Name of the table; None where there is only one.

    Returns
    -------
    Name of the table.

    Raises
    ------
    SlideError
        If there is no such table, or its cells are not those that were embedded.
    """
    spatialdata = require("spatialdata", "io")
    path = Path(cells)
    embedded = ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)
    data = spatialdata.read_zarr(store)
    name = _table_name(list(data.tables), store, table)
    target = data.tables[name]
    ids = [target.obs_names.astype(str)]
    if "cell_id" in target.obs:
        ids.append(target.obs["cell_id"].astype(str))
    known = embedded.obs_names.astype(str)
    rows = max((found for one in ids for found in _rows(embedded, one)), key=lambda found: int((found >= 0).sum()))
    if not (rows >= 0).any():
        raise SlideError(
            f"{store}: none of the {target.n_obs:,} cells of table {name!r} is among the {embedded.n_obs:,} embedded ones; first ids "
            f"{ids[0][0]!r} and {known[0]!r}. Give the store that the corpus was built from."
        )
    there = rows >= 0
    keys_there = [*OBSM.values(), *([GENES_ALONE] if GENES_ALONE in embedded.obsm else [])]
    for key in keys_there:
        values = np.full((target.n_obs, embedded.obsm[key].shape[1]), np.nan, np.float32)
        values[there] = np.asarray(embedded.obsm[key])[rows[there]]
        target.obsm[key] = values
    score = np.full(target.n_obs, np.nan, np.float32)
    score[there] = embedded.obs[keys.UNUSUAL].to_numpy()[rows[there]]
    target.obs[keys.UNUSUAL] = score
    _replace(data, name)
    return name


def _rows(embedded: ad.AnnData, wanted: pd.Index) -> Iterator[NDArray[np.int64]]:
    """Yield where the cells stand, -1 where they do not: by name, and by their ids in each section where ids repeat between sections."""
    yield embedded.obs_names.astype(str).get_indexer(wanted)
    if keys.CELL_ID in embedded.obs:
        for at in embedded.obs.groupby(keys.SAMPLE, observed=True).indices.values():
            found = pd.Index(embedded.obs[keys.CELL_ID].iloc[at].astype(str)).get_indexer(wanted)
            yield np.where(found >= 0, at[found], -1)


def _replace(data: Any, name: str) -> None:
    """Write a table over its old self: SpatialData refuses that in place, so a copy stands under another name meanwhile."""
    spare = f"{name}_{SPARE}"
    data.tables[spare] = data.tables[name]
    with quiet_about_sharding():
        data.write_element(spare)
        data.delete_element_from_disk(name)
        data.write_element(name)
        data.delete_element_from_disk(spare)
    data.write_consolidated_metadata()


def _table_name(names: list[str], store: str | Path, wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise SlideError(f"{store}: tables are {', '.join(names) or 'none'}; name the one to write to with `table`.")
    return wanted
