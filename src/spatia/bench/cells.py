"""The cells of one data set as a benchmark needs them: in memory, in the order of the corpus, labels joined by cell id.

A benchmark compares methods that want whole arrays, so its data sets must fit in memory; images are read on first use.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.dataset import DataSet
from spatia.corpus.corpus import Corpus, Section
from spatia.errors import CorpusError, SettingsError
from spatia.metrics.spatial import nearest_in_sections

_MORPHOLOGY = f"obsm/{keys.MORPHOLOGY}"
NEIGHBOURS = 15  # of the smoothed baselines and of the composition that is predicted; fixed in advance for all data


@dataclass(frozen=True, eq=False)
class BenchCells:
    """All cells of a data set, sections one after the other.

    Attributes
    ----------
    sample
        (n,) name of each cell's section.
    position_um
        (n, 2) centre (x, y) in µm.
    counts
        (n, genes) CSR over the union of the panels.
    measured
        (n_sections, genes): which genes each section's panel has; sections in the order of ``corpus.sections``.
    morphology
        (n, features) measured shape and stain, NaN where not measured; None without image or outlines.
    labels
        One row per cell, the columns that the data set names.
    usable
        (n,) cells with enough molecules (and an image, where the data set has images); the others take part in nothing.
    """

    data: DataSet
    corpus: Corpus
    cell_ids: NDArray[np.object_]
    sample: NDArray[np.object_]
    position_um: NDArray[np.float64]
    counts: sp.csr_matrix
    measured: NDArray[np.bool_]
    genes: tuple[str, ...]
    morphology: pd.DataFrame | None
    labels: pd.DataFrame
    usable: NDArray[np.bool_]
    _read_images: Callable[[], NDArray[np.uint8]] | None = field(default=None, repr=False)
    _whole: "BenchCells | None" = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def has_images(self) -> bool:
        """Whether every section has crops."""
        return self._read_images is not None

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """(n, channels, y, x) crops at the fixed scale of the corpus."""
        if self._read_images is None:
            raise SettingsError(f"{self.corpus.path}: a section has no image, but a method asks for crops.")
        return self._read_images()

    @cached_property
    def donors(self) -> NDArray[np.object_]:
        """(n,) donor of each cell's section; a section without one is a donor of its own."""
        of = {sample: section.entry.donor or sample for sample, section in self.corpus.sections.items()}
        return np.array([of[str(sample)] for sample in self.sample], object)

    @cached_property
    def is_count(self) -> bool:
        """Whether values are molecule counts; False: declared intensities, which have no depth."""
        return all(section.details.get("measure", "counts") == "counts" for section in self.corpus.sections.values())

    @cached_property
    def shared_genes(self) -> NDArray[np.int64]:
        """Indices of the genes that every section measures; baselines without a mask use these alone."""
        return np.flatnonzero(self.measured.all(axis=0))

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """(n, 15) the nearest cells of the same section, nearest first, the cell itself left out."""
        if self._whole is not None:
            return self._whole.neighbours
        near = np.empty((len(self), NEIGHBOURS), np.int64)
        for name, n_cells in pd.Series(self.sample).value_counts(sort=False).items():
            if n_cells <= NEIGHBOURS:
                raise CorpusError(f"{self.corpus.path}: section {name!r} has {n_cells} cells, too few for a benchmark.")
        for rows, others in nearest_in_sections(self.position_um, self.sample, NEIGHBOURS):
            near[rows] = rows[others]
        return near

    def without(
        self, *, labels_of: NDArray[np.int64], genes: NDArray[np.int64], except_in: NDArray[np.int64]
    ) -> "BenchCells":
        """Return the same cells without what a method must not know: it cannot cheat with what is not there.

        Parameters
        ----------
        labels_of
            Cells whose labels are missing.
        genes, except_in
            Genes that are 0 in every cell but these.
        """
        labels = self.labels.copy()
        for place, name in enumerate(labels.columns):
            labels[name] = self.labels.iloc[:, place].mask(np.isin(np.arange(len(self)), labels_of))
        counts = self.counts
        if len(genes):
            hidden, kept = np.isin(np.arange(counts.shape[1]), genes), np.zeros(len(self), bool)
            kept[except_in] = True
            counts = counts.copy()
            row = np.repeat(np.arange(len(self)), np.diff(counts.indptr))
            counts.data[hidden[counts.indices] & ~kept[row]] = 0
            counts.eliminate_zeros()
        images = None if self._read_images is None else lambda: self.images
        return replace(self, labels=labels, counts=counts, _read_images=images, _whole=self)

    def expression(self, genes: NDArray[np.int64], *, depth_of: NDArray[np.int64] | None = None) -> sp.csr_matrix:
        """Return log1p of counts scaled to the median depth, (n, len(genes)); log1p alone for intensities.

        Parameters
        ----------
        depth_of
            Genes that make a cell's depth; None: ``genes`` themselves, so that held-out genes do not enter.
        """
        chosen = sp.csr_matrix(self.counts[:, genes], dtype=np.float64)
        if not self.is_count:
            return chosen.log1p()
        depth = np.asarray(self.counts[:, genes if depth_of is None else depth_of].sum(axis=1), np.float64).ravel()
        target = float(np.median(depth[depth > 0]))
        scale = np.divide(target, depth, out=np.zeros_like(depth), where=depth > 0)
        return sp.csr_matrix(sp.diags(scale) @ chosen).log1p()


def load_cells(data: DataSet) -> BenchCells:
    """Read a data set.

    Raises
    ------
    SettingsError
        If a label column is absent, or label rows name no cell of the corpus.
    """
    corpus = Corpus.open(data.corpus)
    sections = list(corpus.sections.values())
    tables = [_read_table(section) for section in sections]
    genes = tuple(dict.fromkeys(str(gene) for table in tables for gene in table.var_names))
    column = {gene: index for index, gene in enumerate(genes)}
    parts, measured = [], np.zeros((len(sections), len(genes)), bool)
    for number, table in enumerate(tables):
        own = np.array([column[str(gene)] for gene in table.var_names])
        measured[number, own] = True
        x = sp.csr_matrix(table.X).tocoo()
        parts.append(sp.csr_matrix((x.data, (x.row, own[x.col])), (table.n_obs, len(genes))))
    counts = sp.csr_matrix(sp.vstack(parts, format="csr"))
    with_images = all(section.cells.has(f"obsm/{keys.CELL_IMAGES}") for section in sections)
    obs = pd.concat([table.obs.assign(sample=section.sample) for table, section in zip(tables, sections, strict=True)])
    molecules = np.asarray(counts.sum(axis=1)).ravel()
    is_count = all(section.details.get("measure", "counts") == "counts" for section in sections)
    usable = molecules >= data.least_counts if is_count else molecules > 0
    if with_images:
        usable &= obs[keys.HAS_IMAGE].to_numpy(bool)
    return BenchCells(
        data=data,
        corpus=corpus,
        cell_ids=obs.index.to_numpy(object),
        sample=obs[keys.SAMPLE].to_numpy(object),
        position_um=np.concatenate([np.asarray(table.obsm[keys.SPATIAL]) for table in tables]),
        counts=counts,
        measured=measured,
        genes=genes,
        morphology=_morphology(tables) if with_images else None,
        labels=data.join_labels(obs),
        usable=usable,
        _read_images=(lambda: _images(sections, corpus.channels)) if with_images else None,
    )


def _read_table(section: Section) -> ad.AnnData:
    table = ad.AnnData(
        section.cells.read_csr("X", 0, section.entry.n_cells), obs=section.cells.obs(), var=section.cells.var()
    )
    table.obsm[keys.SPATIAL] = section.cells.read(f"obsm/{keys.SPATIAL}", 0, section.entry.n_cells)
    if section.features:
        values = {name: section.cells.read(f"{_MORPHOLOGY}/{name}", 0, table.n_obs) for name in section.features}
        table.obsm[keys.MORPHOLOGY] = pd.DataFrame(values, index=table.obs_names)
    return table


def _morphology(tables: list[ad.AnnData]) -> pd.DataFrame | None:
    if not all(keys.MORPHOLOGY in table.obsm for table in tables):
        return None
    return pd.concat([table.obsm[keys.MORPHOLOGY] for table in tables], ignore_index=True).astype(np.float32)


def _images(sections: list[Section], channels: tuple[str, ...]) -> NDArray[np.uint8]:
    for section in sections:
        if section.entry.channels != channels:
            raise SettingsError(
                f"Section {section.sample!r} has the channels {', '.join(section.entry.channels)}, another has "
                f"{', '.join(channels)}. Methods that read pixels need the same channels in every section."
            )
    return np.concatenate(
        [section.cells.read(f"obsm/{keys.CELL_IMAGES}", 0, section.entry.n_cells) for section in sections]
    )
