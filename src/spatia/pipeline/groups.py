"""The steps that group the cells without labels: clusters, their markers, spatial domains, and the UMAP to look at them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from spatia import keys
from spatia.extras import require
from spatia.pipeline.cells import EmbeddedCells, embedded_cells, groups_column, keep_columns
from spatia.pipeline.steps import Job
from spatia.plotting.grouping import plot_stability
from spatia.report.contents import write_result
from spatia.report.schema import GroupsResult, Resolution
from spatia.tasks.cells import is_count
from spatia.tasks.choose_groups import GROUPED_IN, cluster_by_expression, log_expression
from spatia.tasks.cluster import Clusters, ClusterSettings
from spatia.tasks.domains import Domains, domains
from spatia.tasks.leiden import find_neighbours
from spatia.tasks.recurrence import Recurrence
from spatia.tasks.stability import Stability

_EMBEDDINGS = dict(
    zip(GROUPED_IN, ("the fused embedding", "the embedding of the cell alone", "the cell's genes alone"), strict=True)
)
MARKER_CELLS = 30_000  # of larger slides a sample is ranked
MARKERS_KEPT = 25
MARKER_COLUMNS = ("cluster", "rank", "gene", "score", "log2_fold", "share_in", "share_out")
GENES_AT_ONCE = 256


def cluster_cells(job: Job) -> str:
    """Group the cells in the embedding whose groups tell expression best, and rank the genes of each cluster."""
    require("igraph", "analysis")
    cells = embedded_cells(job)
    own = {key: values for key, values in cells.embeddings().items() if key in GROUPED_IN}
    expression = log_expression(cells.counts, cells.measured_everywhere, counts=is_count(cells.facts))
    found = cluster_by_expression(own, expression, settings=ClusterSettings(seed=job.settings.seed))
    _draw_stability(job, found, "clusters")
    keep_columns(job, "cluster", {keys.CLUSTER: groups_column(found.group)})
    result = GroupsResult(
        method="Leiden communities of nearest neighbours",
        embedding=_EMBEDDINGS[found.choice.name if found.choice else next(iter(own))],
        n_groups=found.n_groups,
        resolution=found.resolution,
        tried=_tried(found.stability),
        note=" ".join(filter(None, (_told(found), _note(found.stability), _no_markers(cells)))),
    )
    write_result(job.results / "clusters.json", result)
    marker_table(cells, found.group, job.settings.seed).to_parquet(job.results / "markers.parquet")
    return f"{found.n_groups} clusters at resolution {found.resolution:g}"


def _told(found: Clusters) -> str:
    if found.choice is None:
        return ""
    share = found.choice.held_out[found.choice.name]
    return (
        f"Of {len(found.choice.held_out)} embeddings this one's groups tell most of the expression of cells that are left out: {share:.0%} of "
        "its variance."
    )


def _no_markers(cells: EmbeddedCells) -> str:
    return "" if cells.measured_everywhere.any() else "No gene is measured in every section, so no markers are ranked."


def _tried(stability: Stability | Recurrence | None) -> tuple[Resolution, ...]:
    if stability is None:
        return ()
    comes_back = stability.rand if isinstance(stability, Stability) else stability.told
    rows = zip(stability.parameter, stability.n_groups, comes_back, strict=True)
    return tuple(Resolution(resolution=r, n_clusters=round(n), stability=s) for r, n, s in rows)


def _note(stability: Stability | Recurrence | None) -> str:
    if stability is None or stability.structure:
        return ""
    if isinstance(stability, Recurrence):
        return "No domains of this tissue come back elsewhere in it, so it is taken for one."
    return "No grouping of these cells comes back in other cells: the groups may be arbitrary cuts."


def _draw_stability(job: Job, found: Clusters, name: str) -> None:
    path = job.figures / f"stability-{name}.png"
    path.unlink(missing_ok=True)
    if found.stability is not None:
        plot_stability(found.stability, path)


def _coherence(found: Domains) -> str:
    if found.coherence is None:
        return ""
    return (
        f"{found.coherence.observed:.0%} of a cell's neighbours lie in its own domain; by chance it would be "
        f"{found.coherence.by_chance:.0%}."
    )


def _aligned(found: Domains, sample: NDArray[np.object_]) -> str:
    n = len(np.unique(sample))
    if n == 1:
        return ""
    moved = len(found.aligned)
    alone = n - 1 - moved
    said = f"{moved} of {n} sections were moved to larger ones that they are like, since donors differ by more than domains do"
    return said + (f"; like none of them, and perhaps with domains of their own: {alone}." if alone else ".")


def find_domains(job: Job) -> str:
    """Group the cells by what surrounds them."""
    require("igraph", "analysis")
    cells = embedded_cells(job)
    found = domains(
        cells.embedding("X_spatia_niche"),
        cells.position_um,
        sections=cells.sample,
        settings=ClusterSettings(seed=job.settings.seed),
    )
    _draw_stability(job, found, "domains")
    keep_columns(job, "domains", {keys.DOMAIN: groups_column(found.group)})
    result = GroupsResult(
        method="Leiden communities of similar surroundings",
        embedding="the niche embedding",
        n_groups=found.n_groups,
        resolution=found.resolution,
        tried=_tried(found.stability),
        note=" ".join(filter(None, (_coherence(found), _aligned(found, cells.sample), _note(found.stability)))),
    )
    write_result(job.results / "domains.json", result)
    return f"{found.n_groups} domains"


def lay_out(job: Job) -> str:
    """Lay the embedding out in two dimensions; of larger slides a random part, the others stay without."""
    scanpy = require("scanpy", "analysis")
    import anndata as ad

    embedding = embedded_cells(job).embedding()
    rng = np.random.default_rng(job.settings.seed)
    n = min(len(embedding), job.settings.umap_cells)
    rows = np.sort(rng.choice(len(embedding), n, replace=False))
    drawn = ad.AnnData(obsm={"X": embedding[rows]})
    find_neighbours(drawn, "X", seed=job.settings.seed)
    scanpy.tl.umap(drawn, random_state=job.settings.seed)
    layout = np.full((len(embedding), 2), np.nan, np.float32)
    layout[rows] = drawn.obsm["X_umap"]
    keep_columns(job, "umap", {"umap_1": layout[:, 0], "umap_2": layout[:, 1]})
    return f"{n:,} cells"


def marker_table(cells: EmbeddedCells, group: NDArray[np.int64], seed: int) -> pd.DataFrame:
    """Rank the genes of every cluster against all other cells, those that every section measures: others would tell of sections.

    Returns
    -------
    Columns ``cluster, rank, gene, score, log2_fold, share_in, share_out``: z of the rank-sum test with ties, log2 of the
    ratio of mean expression (with a pseudo-count of 0.01), and the shares of cells with at least one molecule.
    """
    rows = np.arange(len(group))
    if len(rows) > MARKER_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MARKER_CELLS, replace=False))
    inside = np.eye(int(group.max()) + 1)[group[rows]]  # (cells, clusters)
    genes = np.flatnonzero(cells.measured_everywhere)
    if not len(genes):
        return pd.DataFrame(columns=MARKER_COLUMNS)
    expression = cells.log_expression(genes, depth_of=genes)[rows].tocsc()
    parts = [
        _rank_genes(expression[:, start : start + GENES_AT_ONCE].toarray(), inside)
        for start in range(0, max(1, len(genes)), GENES_AT_ONCE)
    ]
    score, fold, share_in, share_out = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    found = []
    for number in range(score.shape[0]):
        order = np.argsort(-score[number], kind="stable")[:MARKERS_KEPT]
        order = order[score[number, order] > 0]
        columns = {
            "cluster": str(number),
            "rank": np.arange(len(order)),
            "gene": cells.symbols[genes[order]],
            "score": score[number, order],
            "log2_fold": fold[number, order],
            "share_in": share_in[number, order],
            "share_out": share_out[number, order],
        }
        found.append(pd.DataFrame(columns))
    return pd.concat(found, ignore_index=True)


def _rank_genes(expression: NDArray[np.float64], inside: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return (clusters, genes) z scores, log2 fold changes and shares in and outside."""
    n, size = len(expression), inside.sum(axis=0)[:, None]
    ranks = rankdata(expression, axis=0)
    tied = np.array([(counts**3 - counts).sum() for counts in (np.unique(c, return_counts=True)[1] for c in ranks.T)])
    spread = np.sqrt(size * (n - size) / 12 * ((n + 1) - tied[None] / (n * (n - 1))))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.nan_to_num((inside.T @ ranks - size * (n + 1) / 2) / spread)
        raw, some = np.expm1(expression), (expression > 0).astype(np.float64)
        means = [(inside.T @ values, values.sum(axis=0)) for values in (raw, some)]
        (mean_in, mean_out), (share_in, share_out) = ((own / size, (whole - own) / (n - size)) for own, whole in means)
        fold = np.log2((mean_in + 0.01) / (mean_out + 0.01))
    return z, np.nan_to_num(fold), np.nan_to_num(share_in), np.nan_to_num(share_out)
