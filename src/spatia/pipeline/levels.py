"""The step that writes niches and tissue windows as tables of their own, with the embeddings of their cells."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus, Section
from spatia.corpus.files import whole_file
from spatia.inference.embed import MEASURED_GENES
from spatia.pipeline.cells import EmbeddedCells, embedded_cells
from spatia.pipeline.steps import Job

FILES = {"niche": "niches.h5ad", "tissue": "tissues.h5ad"}
# facts of a section -> columns, as those of cells are called
OF_SECTION = {"donor": "donor", "tissue": "tissue_type", "disease": "disease", "organism": "organism"}


def write_levels(job: Job) -> str:
    """Write ``niches.h5ad`` and ``tissues.h5ad``: pooled counts, places, mean embedding of the cells, their clusters and domain."""
    corpus, cells = Corpus.open(job.corpus), embedded_cells(job)
    written = []
    for level, name in FILES.items():
        table = _table(corpus, cells, level)
        _write(table, job.out / name)
        written.append(f"{table.n_obs:,} rows in {name}")
    return ", ".join(written)


def _table(corpus: Corpus, cells: EmbeddedCells, level: str) -> ad.AnnData:
    parts = [_section_table(section, cells, rows, level) for section, rows in _sections(corpus)]
    table = ad.concat(parts, join="outer", merge="same", fill_value=0) if len(parts) > 1 else parts[0]
    if len(parts) > 1:  # of different panels nothing of `var` is the same
        table.var = (
            corpus.genes.fillna("").astype(str).set_index("gene_id").loc[table.var_names, ["symbol"]].rename_axis(None)
        )
    table.uns["spatia"] = {
        "level": level,
        "corpus_id": corpus.corpus_id,
        "position_units": "um",
        "sections": np.array(list(corpus.sections), dtype=object),
        "measured": np.array([table.var_names.isin(part.var_names) for part in parts]),
        MEASURED_GENES: table.var_names.to_numpy(object),
    }
    return table


def _sections(corpus: Corpus) -> Iterator[tuple[Section, NDArray[np.int64]]]:
    start = 0
    for section in corpus.sections.values():
        yield section, np.arange(start, start + section.entry.n_cells)
        start += section.entry.n_cells


def _section_table(section: Section, cells: EmbeddedCells, rows: NDArray[np.int64], level: str) -> ad.AnnData:
    stored, n = section.table(level), section.n_rows(level)
    members = _members(cells, rows, level, n)
    size = np.maximum(np.asarray(members.sum(axis=1)).ravel(), 1)[:, None]
    obs = stored.obs()
    obs.index = [_name(section, level, number) for number in range(n)]
    obs = obs.assign(sample=section.sample)
    for name, column in OF_SECTION.items():
        if (value := getattr(section.entry, name)) is not None:
            obs[column] = value
    if level == "niche" and keys.TISSUE in obs:
        obs["tissue_name"] = [_name(section, "tissue", number) for number in obs[keys.TISSUE]]
    obsm: dict[str, Any] = {keys.SPATIAL: np.asarray(stored.read(f"obsm/{keys.SPATIAL}", 0, n))}
    for name in ("X_spatia", f"X_spatia_{level}"):
        obsm[name] = (members @ cells.embedding(name)[rows] / size).astype(np.float32)
    for column in (keys.CLUSTER, keys.DOMAIN):
        if column in cells.obs:
            shares = pd.get_dummies(cells.obs[column].iloc[rows]).astype(np.float64)
            found = pd.DataFrame(
                members @ shares.to_numpy() / size, index=obs.index, columns=shares.columns.astype(str)
            )
            obsm[f"{column}_share"] = found
            obs[column] = pd.Categorical(found.columns[found.to_numpy().argmax(axis=1)], categories=found.columns)
    var = section.cells.var()
    return ad.AnnData(stored.read_csr("X", 0, n), obs=obs, var=var, obsm=obsm)


def _name(section: Section, level: str, number: int) -> str:
    return f"{section.sample}:{level}{number}"


def _members(cells: EmbeddedCells, rows: NDArray[np.int64], level: str, n: int) -> sp.csr_matrix:
    """Return which of the section's cells belong to which row, (n, cells)."""
    own = cells.obs.iloc[rows]
    if level == "niche" and keys.NICHE not in own:  # a niche around every cell: row i is that of cell i
        return sp.identity(n, format="csr")
    home = own[keys.NICHE if level == "niche" else keys.TISSUE].to_numpy(np.int64)
    return sp.csr_matrix((np.ones(len(rows)), (home, np.arange(len(rows)))), shape=(n, len(rows)))


def _write(table: ad.AnnData, path: Path) -> None:
    with whole_file(path) as aside:
        table.write_h5ad(aside, compression="gzip")
