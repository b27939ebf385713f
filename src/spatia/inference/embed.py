"""Embeddings of a corpus as an AnnData: in memory, as .h5ad, or as .zarr written piece by piece."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus, Section
from spatia.corpus.files import put_in_place
from spatia.corpus.settings import StorageSettings
from spatia.corpus.store import CsrWriter, create_rows, create_store, finish_store, subgroup, write_element, write_uns
from spatia.errors import SettingsError
from spatia.inference.blocks import BLOCK_CELLS, GENES
from spatia.inference.session import Session, embedded
from spatia.io.memory import give_back, settled_heap
from spatia.models.spatia import MODALITIES, Spatia
from spatia.nn.distributed import world
from spatia.version import __version__

OBSM: Final = {"fused": "X_spatia", "cell": "X_spatia_cell", "niche": "X_spatia_niche", "tissue": "X_spatia_tissue"}
GENES_ALONE: Final = "X_spatia_genes"  # the cell from its genes alone, where its image is seen too
MEASURED_GENES: Final = "measured_genes"  # in uns["spatia"]: the genes that the columns of "measured" are of
_KEYS: Final = {**OBSM, GENES: GENES_ALONE}


def embed(
    corpus: Corpus | str | Path,
    model: Spatia | str | Path,
    out: str | Path | None = None,
    *,
    use: Sequence[str] = MODALITIES,
    hide_genes: Sequence[str] = (),
    sections: Sequence[str] | None = None,
    device: str = "auto",
    min_coverage: float = 0.5,
    every_section: bool = True,
) -> ad.AnnData | Path:
    """Embed every cell of a corpus.

    Parameters
    ----------
    corpus, model
        Folders, or opened.
    out
        ``….h5ad`` or ``….zarr`` to write; a zarr is written piece by piece, so memory does not grow with the number of cells. None:
        return the table.
    use
        Which of ``"image", "genes"`` the model may see.
    hide_genes
        Gene ids to treat as not measured.
    sections
        Names of sections; all by default.
    device
        ``"auto"``: a GPU where there is one.
    min_coverage
        Least share of a section's panel that the model must know.
    every_section
        Whether every section must have something that the model can use; False: at least one.

    Returns
    -------
    Cells of the sections, in the order that is asked for (of the corpus, where none is). ``X``: raw counts (or declared intensities:
    ``uns["spatia"]["measure"]``, by section) over the union of the panels; a gene that a section does not measure has no entries there
    (``uns["spatia"]["measured"]``, (sections, ``measured_genes``), says which). ``obs`` as in the corpus and ``spatia_ood`` (above 1:
    unlike 99 % of the training cells), by cell id (``sample:cell_id`` where ids repeat between sections, and ``obs["cell_id"]`` then).
    ``obsm``: ``spatial`` (µm), ``X_spatia`` and ``X_spatia_cell``, ``_niche``, ``_tissue``, and where images are seen too
    ``X_spatia_genes``, the cell as it is where genes alone are seen
    (float32), ``uns["spatia"]``. Or the path, where ``out`` is given.

    Raises
    ------
    ModelError, CorpusError, SettingsError
        If model and corpus do not go together, or an argument is out of range.
    """
    path = None if out is None else Path(out)
    if path is not None and path.suffix not in (".h5ad", ".zarr"):
        raise SettingsError(f"{path}: expected a name that ends in .h5ad or .zarr.")
    if path is not None and path.suffix == ".zarr" and path.exists() and not _is_ours(path):
        raise SettingsError(
            f"{path}: is there already, and is no table of embedded cells. Choose another name, or remove it."
        )
    scratch = None if path is None else path.with_name(f".{path.name}.parts")
    with embedded(
        corpus,
        model,
        use=use,
        hide_genes=hide_genes,
        sections=sections,
        device=device,
        min_coverage=min_coverage,
        every_section=every_section,
        scratch=scratch,
        genes_alone=True,
    ) as session:
        if path is None:
            return _in_memory(session)
        if world()[0] == 0:
            _write(session, path)
        return path


def _is_ours(path: Path) -> bool:
    """Say whether a folder is what `_write_zarr` writes: others, a SpatialData store among them, must not be removed."""
    return (path / "uns" / "spatia" / "model_id" / "zarr.json").is_file()


def _write(session: Session, path: Path) -> None:
    aside = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zarr":
        _write_zarr(session, aside)
    else:
        _in_memory(session).write_h5ad(aside, compression="gzip")
    put_in_place(aside, path)


def _in_memory(session: Session) -> ad.AnnData:
    genes = _panel(session)
    blocks = [_counts(section, genes) for section in _sections(session)]
    embeddings = [embedder.read(np.arange(embedder.n_cells)) for embedder in session.sections]
    obs = _obs(session, [values["ood"] for values in embeddings])
    table = ad.AnnData(sp.vstack(blocks, "csr"), obs=obs, var=genes)
    positions = [section.cells.read(f"obsm/{keys.SPATIAL}", 0, section.entry.n_cells) for section in _sections(session)]
    table.obsm[keys.SPATIAL] = np.concatenate(positions)
    for name in session.outputs:
        table.obsm[_KEYS[name]] = np.concatenate([values[name] for values in embeddings])
    table.uns["spatia"] = describe(session)
    return table


def _write_zarr(session: Session, path: Path) -> None:
    """Write the table block by block; what is held at once is a block, the obs table and the positions."""
    genes, storage = _panel(session), StorageSettings()
    n_cells = sum(embedder.n_cells for embedder in session.sections)
    root = create_store(path)
    obsm = subgroup(root, "obsm")
    config = session.model.config
    widths = {
        "fused": config.fused_width,
        "cell": config.cell_width,
        "niche": config.niche_width,
        "tissue": config.tissue_width,
        GENES: config.cell_width,
    }
    arrays = {
        name: create_rows(obsm, _KEYS[name], (n_cells, widths[name]), np.float32, storage) for name in session.outputs
    }
    spatial = create_rows(obsm, keys.SPATIAL, (n_cells, 2), np.float64, storage)
    scores, done = [], 0
    with settled_heap(), CsrWriter(root, "X", len(genes), np.dtype(np.float32), storage) as counts:
        for section, embedder in zip(_sections(session), session.sections, strict=True):
            score = np.empty(embedder.n_cells, np.float32)
            # blocks end where shards end, so that no shard is written twice
            for start, stop in _aligned(embedder.n_cells, done, storage.shard_rows):
                values, to = embedder.read(np.arange(start, stop)), slice(done + start, done + stop)
                for name in session.outputs:
                    arrays[name][to] = values[name]
                spatial[to] = section.cells.read(f"obsm/{keys.SPATIAL}", start, stop)
                score[start:stop] = values["ood"]
                counts.append(_counts(section, genes, start, stop))
                give_back()
            scores.append(score)
            done += embedder.n_cells
    write_element(root, "obs", _obs(session, scores))
    write_element(root, "var", genes)
    write_uns(root, {"spatia": describe(session)})
    finish_store(path)


def _aligned(n_cells: int, offset: int, shard_rows: int) -> list[tuple[int, int]]:
    step = max(shard_rows, BLOCK_CELLS // shard_rows * shard_rows)
    first = (-offset) % shard_rows
    edges = [0, *range(first, n_cells, step), n_cells] if first else [*range(0, n_cells, step), n_cells]
    edges = sorted(set(edges))
    return list(itertools.pairwise(edges))


def _sections(session: Session) -> list[Section]:
    return [session.corpus.section(embedder.sample) for embedder in session.sections]


def _panel(session: Session) -> pd.DataFrame:
    """Return the genes that the sections measure, in the order of the corpus's vocabulary."""
    measured = {str(gene) for section in _sections(session) for gene in section.cells.var().index}
    genes = session.corpus.genes
    # AnnData cannot store missing text beside text: an unknown organism is an empty one
    table = genes[genes["gene_id"].isin(measured)].fillna("").astype(object).set_index("gene_id")
    table.index = table.index.astype(str)
    table["known_to_model"] = table.index.isin(set(session.model.vocabulary.genes))
    return table


def _counts(section: Section, genes: pd.DataFrame, start: int = 0, stop: int | None = None) -> sp.csr_matrix:
    stop = section.entry.n_cells if stop is None else stop
    own = section.cells.read_csr("X", start, stop)
    column = genes.index.get_indexer(section.cells.var().index.astype(str)).astype(np.int32)
    moved = sp.csr_matrix(
        (own.data.astype(np.float32), column[own.indices], own.indptr), shape=(stop - start, len(genes))
    )
    moved.sort_indices()
    return moved


def _obs(session: Session, scores: Sequence[NDArray[np.float32]]) -> pd.DataFrame:
    parts = []
    for section, score in zip(_sections(session), scores, strict=True):
        part = section.cells.obs()
        parts.append(part.assign(**{keys.UNUSUAL: score}))
    obs = pd.concat(parts) if len(parts) > 1 else parts[0]
    obs.index = obs.index.astype(str)
    if not obs.index.is_unique:  # cell ids are unique in their section only
        obs[keys.CELL_ID] = obs.index
        obs.index = [f"{sample}:{cell}" for sample, cell in zip(obs[keys.SAMPLE].astype(str), obs.index, strict=True)]
    for name in obs.columns:  # joined categories of several sections become plain text
        if obs[name].dtype == object:
            obs[name] = obs[name].astype("string").astype("category")
    return obs


def describe(session: Session) -> dict[str, Any]:
    """Return ``uns["spatia"]``: what made the embedding, in types that AnnData can store."""
    genes = list(_panel(session).index)
    measured = np.array([np.isin(genes, section.cells.var().index.astype(str)) for section in _sections(session)])
    return {
        "version": __version__,
        "model_id": session.model_digest,
        "corpus_id": session.corpus.corpus_id,
        "preset": session.model.config.preset,
        "use": np.array(session.use, dtype=object),
        "hidden_genes": np.array(session.hide_genes, dtype=object),
        "sections": np.array([embedder.sample for embedder in session.sections], dtype=object),
        "measured": measured,
        MEASURED_GENES: np.array(genes, dtype=object),
        "measure": np.array([section.details.get("measure", "counts") for section in _sections(session)], dtype=object),
        "gene_coverage": np.array([coverage.share for coverage in session.coverage]),
        "channels": np.array(session.model.vocabulary.channels, dtype=object),
        "position_units": "um",
        "seed": session.seed,
        "deterministic": True,
    }
