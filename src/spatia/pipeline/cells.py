"""What later steps read of ``cells.h5ad``, and the columns they add to it at the end."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem, write_elem
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.expression import normalised
from spatia.corpus.files import whole_file
from spatia.pipeline.slide import SPLIT
from spatia.pipeline.steps import Job
from spatia.report.contents import CELLS_FILE, UMAP
from spatia.tasks.cells import EMBEDDINGS, UNS, is_count, measured_everywhere

ADDED = (
    keys.CLUSTER,
    keys.DOMAIN,
    keys.PREDICTED_LABEL,
    f"{keys.PREDICTED_LABEL}_probability",
    f"{keys.PREDICTED_LABEL}_status",
)
COLUMNS = "cells"  # results/cells/<step>.parquet: what a step says of every cell


@dataclass(frozen=True)
class EmbeddedCells:
    """The cells of a run, read from the file piece by piece.

    Attributes
    ----------
    path
        ``cells.h5ad``.
    """

    path: Path

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Columns of the cells."""
        return self._read("obs")

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Index ``gene_id``, column ``symbol`` where known."""
        return self._read("var")

    @property
    def symbols(self) -> NDArray[np.object_]:
        """Names of the genes for reading."""
        named = self.genes[keys.SYMBOL] if keys.SYMBOL in self.genes else self.genes.index.to_series()
        return named.astype(str).to_numpy(object)

    @cached_property
    def counts(self) -> sp.csr_matrix:
        """(cells, genes) raw counts, or declared intensities."""
        return sp.csr_matrix(self._read("X"))

    @cached_property
    def measured_everywhere(self) -> NDArray[np.bool_]:
        """(genes,) which every section measures."""
        return measured_everywhere(self.facts, list(self.genes.index), self.sample)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``uns["spatia"]``: what made the table."""
        return dict(self._read("uns").get(UNS, {}))

    @cached_property
    def sample(self) -> NDArray[np.object_]:
        """(cells,) section."""
        return self.obs[keys.SAMPLE].astype(str).to_numpy(object)

    @cached_property
    def position_um(self) -> NDArray[np.float64]:
        """(cells, 2)."""
        return np.asarray(self._read(f"obsm/{keys.SPATIAL}"), np.float64)[:, :2]

    def embedding(self, name: str = "X_spatia") -> NDArray[np.float32]:
        """Return one of the embeddings, (cells, width)."""
        return np.asarray(self._read(f"obsm/{name}"), np.float32)

    def embeddings(self) -> dict[str, NDArray[np.float32]]:
        """Return the embeddings that every cell has, by key."""
        with h5py.File(self.path, "r") as file:
            there = [key for key in EMBEDDINGS if f"obsm/{key}" in file]
        found = {key: self.embedding(key) for key in there}
        return {key: values for key, values in found.items() if np.isfinite(values).all()}

    def log_expression(
        self, genes: NDArray[np.int64], to_depth: float | None = None, *, depth_of: NDArray[np.int64] | None = None
    ) -> sp.csr_matrix:
        """Return log1p of counts scaled to a depth, (cells, some genes); sparse, as it is as long as the slide.

        Parameters
        ----------
        to_depth
            None: the median one, and intensities as they are.
        depth_of
            Genes whose counts are a cell's depth; None: all.
        """
        chosen = sp.csr_matrix(self.counts[:, genes])
        if to_depth is None and not is_count(self.facts):
            return sp.csr_matrix(chosen.log1p())
        counted = self.counts if depth_of is None else self.counts[:, depth_of]
        total = np.asarray(counted.sum(axis=1), np.float64).ravel()
        return normalised(chosen, to_depth or float(np.median(total[total > 0])), total)

    def part(self, corpus: Path, part: str) -> NDArray[np.int64]:
        """Return the rows of one part of the split; cells stand in the order of the corpus, section by section."""
        opened = Corpus.open(corpus)
        split, rows, start = opened.split(SPLIT), [np.zeros(0, np.int64)], 0
        for sample, section in opened.sections.items():
            rows += [np.arange(a, b) + start for a, b in split.ranges(part, sample)]
            start += section.entry.n_cells
        return np.concatenate(rows)

    def _read(self, key: str) -> Any:
        with h5py.File(self.path, "r") as file:
            return read_elem(file[key])


def cell_ids(corpus: Path) -> NDArray[np.str_]:
    """Return the vendor's ids of the cells of all sections; they are unique within a section only."""
    sections = Corpus.open(corpus).sections.values()
    return np.concatenate([section.cells.obs().index.to_numpy().astype(str) for section in sections])


def embedded_cells(job: Job) -> EmbeddedCells:
    """Return the cells of a run."""
    return EmbeddedCells(job.out / CELLS_FILE)


def keep_columns(job: Job, step: str, columns: dict[str, Any]) -> None:
    """Keep what a step says of every cell until all steps are done."""
    path = job.results / COLUMNS / f"{step}.parquet"
    with whole_file(path) as aside:
        pd.DataFrame(columns).to_parquet(aside)


def groups_column(group: NDArray[np.int64]) -> pd.Categorical:
    """Return group numbers as the text categories that scanpy expects."""
    names = [str(number) for number in range(int(group.max(initial=-1)) + 1)]
    return pd.Categorical.from_codes(group.tolist(), pd.Index(names))


def collect(job: Job) -> str:
    """Put the columns of all steps beside the embeddings, in a copy that replaces the file when it is whole."""
    path = job.out / CELLS_FILE
    tables = {file.stem: pd.read_parquet(file) for file in sorted((job.results / COLUMNS).glob("*.parquet"))}
    with whole_file(path) as aside:
        shutil.copyfile(path, aside)
        with h5py.File(aside, "r+") as file:
            obs = read_elem(file["obs"]).drop(columns=list(ADDED), errors="ignore")  # of an earlier run
            if f"obsm/{UMAP}" in file:
                del file[f"obsm/{UMAP}"]
            added = []
            for step, table in tables.items():
                if step == "umap":
                    write_elem(file, f"obsm/{UMAP}", table.to_numpy(np.float32))
                    continue
                for name in table:
                    obs[name] = table[name].to_numpy() if table[name].dtype != "category" else table[name].array
                    added.append(str(name))
            del file["obs"]
            write_elem(file, "obs", obs)
    return f"added {', '.join(added)}" if added else "nothing to add"
