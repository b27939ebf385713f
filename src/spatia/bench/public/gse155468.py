"""GSE155468: cells of the human ascending aorta, dissociated. Clustering without labels, and types of a donor held out.

The cells have neither a place nor an image, so methods that need one take no part: this asks what counts alone tell.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score

from spatia.bench.methods.method import Method
from spatia.bench.protocols.labels import RESOLUTION
from spatia.bench.protocols.trial import Score
from spatia.bench.public.gene_methods import GeneTable, Rows, chosen_gene_methods
from spatia.bench.public.protocol import PublicFolder, PublicOptions, PublicProtocol, Recorder
from spatia.bench.readout import INVERSE_PENALTIES
from spatia.errors import SpatiaError
from spatia.metrics.classification import macro_f1
from spatia.metrics.clustering import adjusted_rand, normalised_mutual_information
from spatia.readout.predictors import fit_logistic
from spatia.tasks.cells import read_cells
from spatia.tasks.leiden import leiden, neighbour_graph

DOWNLOAD = (
    "GEO accession GSE155468 (Li et al. 2020; 8 aneurysms, 3 controls, 48,082 cells): the tables GSM47049xx_<sample>.txt.gz, and "
    "the cell types, which GEO does not hold; or one h5ad of somebody who has put both together."
)
LAYOUT = (
    "either *.h5ad with raw counts (X, layers['counts'] or raw), obs 'celltype' (or cell_type, annotation) and obs 'batch' (or "
    "sample, orig.ident, donor); or GSM*_<sample>.txt.gz (genes x cells) beside labels.csv (cell_id, sample, celltype)."
)
TYPE_COLUMNS = ("celltype", "cell_type", "annotation")
DONOR_COLUMNS = ("batch", "sample", "orig.ident", "donor", "patient")
SUBSAMPLE = 2_000
LEAST_CELLS = 5  # of a type in training, as in the tasks on corpora
ORACLE_RESOLUTIONS = tuple(round(0.1 * step, 1) for step in range(1, 15))
GENES_AT_ONCE = 2_000


def read_table(path: Path) -> GeneTable:
    """Read counts, types and donors of all cells that have a type.

    Raises
    ------
    SettingsError
        If nothing is found, counts are not raw, or types or donors are not told.
    """
    folder = PublicFolder(path, DOWNLOAD, LAYOUT)
    files = sorted(path.glob("*.h5ad"))
    if len(files) > 1:
        raise folder.refusal(path, f"{len(files)} h5ad files ({', '.join(one.name for one in files)})", "one")
    table = _from_h5ad(folder, files[0]) if files else _from_deposit(folder)
    if len(set(table.cell_type)) < 2 or len(set(table.donor)) < 2:
        found = f"{len(set(table.cell_type))} types, {len(set(table.donor))} donors"
        raise folder.refusal(files[0] if files else path, found, "at least two of each")
    return table


def _from_h5ad(folder: PublicFolder, file: Path) -> GeneTable:
    table = read_cells(file, written_by="the authors")
    kinds = folder.column(list(table.obs.columns), TYPE_COLUMNS, file, "a column of types")
    donors = folder.column(list(table.obs.columns), DONOR_COLUMNS, file, "a column of donors")
    known = np.flatnonzero(table.obs[kinds].notna().to_numpy())
    counts, var = _raw_counts(folder, table, file)
    ids = next((name for name in ("gene_id", "gene_ids", "ensembl_id") if name in var), None)
    return GeneTable(
        counts=sp.csr_matrix(counts[known]),
        genes=tuple(map(str, var.index)),
        gene_ids=None if ids is None else tuple(map(str, var[ids])),
        cell_type=table.obs[kinds].to_numpy()[known].astype(str),
        donor=table.obs[donors].to_numpy()[known].astype(str),
    )


def _raw_counts(folder: PublicFolder, table: ad.AnnData, file: Path) -> tuple[sp.csr_matrix, pd.DataFrame]:
    places = [(table.layers["counts"], table.var)] if "counts" in table.layers else []
    places += [(table.X, table.var)] + ([(table.raw.X, table.raw.var)] if table.raw is not None else [])
    for values, var in places:
        matrix = sp.csr_matrix(values)
        if np.isfinite(matrix.data).all() and (matrix.data >= 0).all() and (matrix.data == np.round(matrix.data)).all():
            return matrix, var
    raise folder.refusal(
        file, "values that are no raw counts in X, layers['counts'] and raw", "whole numbers in one of them"
    )


def _from_deposit(folder: PublicFolder) -> GeneTable:
    tables = sorted(folder.path.glob("GSM*.txt.gz"))
    if not tables:
        names = ", ".join(sorted(one.name for one in folder.path.iterdir())[:8]) or "nothing"
        raise folder.refusal(folder.path, f"{names} in it", "an h5ad file, or the tables of GEO")
    file = folder.require(folder.path / "labels.csv", "the type of each cell, which GEO does not hold")
    labels = pd.read_csv(file, dtype=str)
    kinds = folder.column(list(labels.columns), TYPE_COLUMNS, file, "a column of types")
    for name in ("cell_id", "sample"):
        folder.column(list(labels.columns), (name,), file, "a column")
    told = labels.dropna(subset=[kinds]).drop_duplicates(["sample", "cell_id"]).set_index(["sample", "cell_id"])[kinds]
    counts, kept, donor, shared = [], [], [], None
    for one in tables:
        sample = one.name.removesuffix(".txt.gz").split("_", 1)[1]
        matrix, genes, cells = read_deposit(one)
        rows = np.array([number for number, cell in enumerate(cells) if (sample, cell) in told.index], np.int64)
        if not len(rows):
            raise folder.refusal(
                file, f"no cell of sample {sample!r} (its first: {cells[0]!r})", "cell ids as in the tables"
            )
        shared = list(genes) if shared is None else [gene for gene in shared if gene in set(genes)]
        counts.append((matrix[rows], {gene: column for column, gene in enumerate(genes)}))
        kept += told.loc[[(sample, cells[row]) for row in rows]].tolist()
        donor += [sample] * len(rows)
    assert shared is not None
    blocks = [matrix[:, [column[gene] for gene in shared]] for matrix, column in counts]
    joined = sp.csr_matrix(sp.vstack(blocks, format="csr"))
    return GeneTable(joined, tuple(shared), None, np.asarray(kept, str), np.asarray(donor, str))


def read_deposit(file: Path) -> tuple[sp.csr_matrix, list[str], list[str]]:
    """Read one table of GEO, genes x cells, some genes at a time; its header may or may not name the column of genes.

    Returns
    -------
    (cells, genes) counts, names of the genes, ids of the cells.
    """
    blocks, genes, cells = [], [], []
    with pd.read_csv(file, sep=r"\s+", index_col=0, chunksize=GENES_AT_ONCE, engine="c") as parts:
        for part in parts:
            blocks.append(sp.csr_matrix(part.to_numpy(np.float32)))
            genes += part.index.astype(str).tolist()
            cells = part.columns.astype(str).tolist()
    return sp.csr_matrix(sp.vstack(blocks).T), genes, cells


def stratified(labels: NDArray[np.str_], n: int, seed: int) -> Rows:
    """Return ``n`` rows (all, if there are fewer), each label in proportion, at least one of each.

    Examples
    --------
    >>> rows = stratified(np.array(["a"] * 90 + ["b"] * 10), 20, seed=0)
    >>> int((rows >= 90).sum()), len(rows)
    (2, 20)
    """
    if len(labels) <= n:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    names, codes, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    share = sizes * n / len(labels)
    wanted = np.maximum(np.floor(share), 1).astype(np.int64)
    for one in np.argsort(wanted - share, kind="stable")[: max(0, n - wanted.sum())]:  # what rounding took
        wanted[one] += 1
    place = np.empty(len(labels), np.int64)  # how many of its label come before a row
    for code in range(len(names)):
        of_label = codes == code
        place[of_label] = np.arange(of_label.sum())
    return np.sort(order[place < wanted[codes]])


def embed_cells(table: GeneTable, method: Method, rows: Rows, train: Rows, seed: int) -> NDArray[np.floating]:
    """Return the embedding (len(rows), width) of some cells, fitted on ``rows[train]`` where anything is.

    Raises
    ------
    SpatiaError
        If it has a row too few, or a value that is not a number.
    """
    if method.embed is None:
        raise SpatiaError(f"{method.name} has no embedding.")
    values = np.asarray(method.embed(table.problem(rows, train, seed)))
    if values.ndim != 2 or len(values) != len(rows) or not np.isfinite(values).all():
        raise SpatiaError(
            f"The embedding has shape {values.shape} for {len(rows):,} cells, or values that are not numbers."
        )
    return values


def score_clustering(table: GeneTable, method: Method, seed: int) -> list[Score]:
    """Cluster a stratified subsample of 2,000 cells at a fixed resolution and compare with the types.

    The two scores named "oracle" choose the resolution by the labels, as published numbers on these data do; they are no measure
    of a method that has no labels, and stand here so that published numbers have something to stand beside.
    """
    rows = stratified(table.cell_type, SUBSAMPLE, seed)
    truth = table.cell_type[rows]
    graph = neighbour_graph(embed_cells(table, method, rows, np.arange(len(rows)), seed), seed=seed)
    found = leiden(graph, [RESOLUTION, *ORACLE_RESOLUTIONS], seed=seed)
    rand = [adjusted_rand(truth, one) for one in found]
    mutual = [normalised_mutual_information(truth, one) for one in found]
    values = {"ARI": rand[0], "NMI": mutual[0], "ARI oracle": max(rand), "NMI oracle": max(mutual)}
    return [Score(name, value, len(rows), 0) for name, value in values.items()]


def donors_held_out(table: GeneTable) -> Iterator[tuple[int, Rows, Rows]]:
    """Give the number of each donor in the order of their names, the rows of all others, and its own."""
    for number, donor in enumerate(sorted(set(table.donor))):
        own = table.donor == donor
        yield number, np.flatnonzero(~own), np.flatnonzero(own)


def score_annotation(table: GeneTable, method: Method, seed: int, train: Rows, test: Rows) -> list[Score]:
    """Fit on 2,000 cells of other donors, stratified by type, and tell the types of up to 2,000 cells of one."""
    names, sizes = np.unique(table.cell_type[train], return_counts=True)
    learnable = names[sizes >= LEAST_CELLS]
    train, test = (rows[np.isin(table.cell_type[rows], learnable)] for rows in (train, test))
    train = train[stratified(table.cell_type[train], SUBSAMPLE, seed)]
    test = np.sort(np.random.default_rng(seed).permutation(test)[:SUBSAMPLE])
    n = len(train)
    z = embed_cells(table, method, np.concatenate([train, test]), np.arange(n), seed)
    model = fit_logistic(z[:n], table.cell_type[train], inverse_penalties=INVERSE_PENALTIES, seed=seed)
    truth, told = table.cell_type[test], model.predict(z[n:])
    return [
        Score("macro-F1", macro_f1(truth, told), len(test), n),
        Score("accuracy", float(accuracy_score(truth, told)), len(test), n),
    ]


def run(folder: Path, out: Path, options: PublicOptions) -> pd.DataFrame:
    """Run clustering for each seed, and annotation for each donor (the seed of its rows is the donor's number).

    Raises
    ------
    SettingsError
        If the folder does not hold the data, or a method is unknown.
    """
    methods = chosen_gene_methods(options)
    table, recorder = read_table(folder), Recorder(out, options.command)
    for method in methods:
        for seed in range(options.seeds):
            recorder.measure(
                "clustering", "GSE155468", method.name, seed,
                partial(score_clustering, table, method, seed),
            )  # fmt: skip
        for number, train, test in donors_held_out(table):
            recorder.measure(
                "annotation, donor held out", "GSE155468", method.name, number,
                partial(score_annotation, table, method, number, train, test),
            )  # fmt: skip
    return recorder.frame()


GSE155468 = PublicProtocol(
    "gse155468",
    "types of dissociated cells from counts alone: clusters of 2,000 cells, and labels of a donor held out",
    DOWNLOAD,
    LAYOUT,
    "Li et al., Circulation 142 (2020) 1374; subsamples and number of cells as the method's authors report them; names of the "
    "files and columns as in public repositories that use them",
    run=run,
)
