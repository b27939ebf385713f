"""The tasks on the table of embedded cells: results go into its ``obs``, in place, and are returned whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.errors import SettingsError
from spatia.readout.alignment import Shift
from spatia.tasks.annotate import AnnotateSettings, Annotation, annotate
from spatia.tasks.cells import (
    UNS,
    column_of,
    embedding_of,
    embeddings_of,
    is_count,
    measured_everywhere,
    place_of,
    sections_of,
)
from spatia.tasks.choose_embedding import AUTO
from spatia.tasks.choose_groups import GROUPED_IN, cluster_by_expression, log_expression
from spatia.tasks.cluster import Clusters, ClusterSettings, cluster
from spatia.tasks.domains import Domains, domains


def annotate_cells(
    cells: ad.AnnData,
    labels: str,
    *,
    reference: ad.AnnData | None = None,
    unknown: Sequence[str] = (),
    embedding: str = AUTO,
    settings: AnnotateSettings | None = None,
) -> Annotation:
    """Label cells from those with a label, or from another table; writes ``obs["spatia_label"]`` and beside it
    ``_probability``, ``_status`` and ``_novelty``, and into ``uns["spatia_label"]`` what they were read from.

    Parameters
    ----------
    cells
        Embedded cells.
    labels
        Column of ``obs`` with the known labels; of ``reference`` where that is given.
    reference
        Cells of another corpus, embedded by the same model, whose labels are transferred.
    unknown
        Labels that mean "not known", for instance ``"Unlabelled"``; NaN always does.
    embedding
        Key of ``obsm``; "auto": of those of `spatia embed` the one from which held-out labelled cells are told best.

    Returns
    -------
    Of the cells, without those of the reference; ``held_out`` is of all cells with a label.

    Raises
    ------
    SettingsError
        If the column is not there (lists the columns), the embeddings do not go together, or as :func:`annotate`.
    """
    own = _known(cells if reference is None else reference, labels, unknown)
    X, place = _candidates(cells, embedding), {"sections": sections_of(cells), **place_of(cells)}
    if reference is not None:
        theirs = _candidates(reference, embedding)
        for key in X.keys() & theirs.keys():
            _check_same_model(cells, reference, X[key].shape[1], theirs[key].shape[1])
        X = {key: np.concatenate([one, theirs[key]]) for key, one in X.items() if key in theirs}
        own = [None] * cells.n_obs + own
        place = _joined_place(cells, reference)
    found = annotate(X if embedding == AUTO else X[embedding], own, settings=settings, **place)
    if reference is not None:
        found = _first(found, cells.n_obs)
    cells.obs[keys.PREDICTED_LABEL] = pd.Categorical(found.label, categories=list(found.classes))
    cells.obs[f"{keys.PREDICTED_LABEL}_probability"] = found.label_probability.astype(np.float32)
    cells.obs[f"{keys.PREDICTED_LABEL}_status"] = pd.Categorical(found.status)
    cells.obs[f"{keys.PREDICTED_LABEL}_novelty"] = found.novelty.astype(np.float32)
    cells.uns[keys.PREDICTED_LABEL] = _how(found, embedding)
    return found


def _how(found: Annotation, embedding: str) -> dict[str, Any]:
    """Return how labels came to be, as a file keeps it: the embedding, its scores, and a row for each section that was moved."""
    return {
        "embedding": embedding if found.choice is None else found.choice.name,
        "held_out": found.held_out.scores(),
        "temperature": found.temperature,
        "threshold": found.threshold.value,
        "aligned": _moved(found.aligned),
    }


def _moved(aligned: Mapping[str, Shift]) -> pd.DataFrame:
    """Return a row for each section that was moved."""
    rows = [
        {"section": name, "to": one.sample, "overlap": one.overlap, **{f"sd_{of}": sd for of, sd in one.sds.items()}}
        for name, one in aligned.items()
    ]
    return pd.DataFrame(rows, columns=None if rows else ["section", "to", "overlap", "sd_embedding"])


def cluster_cells(cells: ad.AnnData, *, embedding: str = AUTO, settings: ClusterSettings | None = None) -> Clusters:
    """Group cells without labels; writes ``obs["spatia_cluster"]``, "0" the largest.

    Parameters
    ----------
    embedding
        Key of ``obsm``; "auto": of the cell's own embeddings by `spatia embed` the one whose groups tell most of the expression in ``X`` of
        cells that are left out (:func:`spatia.tasks.choose_groups.cluster_by_expression`); without ``X`` the fused one.

    Raises
    ------
    SettingsError
        If the embedding is not there (lists what is), or as :func:`spatia.tasks.cluster.cluster`.
    """
    own = {key: X for key, X in _candidates(cells, embedding).items() if embedding != AUTO or key in GROUPED_IN}
    if len(own) == 1 or cells.X is None:
        found = cluster(next(iter(own.values())), settings=settings)
    else:
        everywhere = measured_everywhere(cells.uns.get(UNS, {}), list(cells.var_names), sections_of(cells))
        expression = log_expression(sp.csr_matrix(cells.X), everywhere, counts=is_count(cells.uns.get(UNS, {})))
        found = cluster_by_expression(own, expression, settings=settings)
    cells.obs[keys.CLUSTER] = named(found)
    return found


def find_domains(
    cells: ad.AnnData,
    *,
    embedding: str = "X_spatia_niche",
    neighbours: int = 15,
    align: bool = True,
    settings: ClusterSettings | None = None,
) -> Domains:
    """Group cells by their surroundings; writes ``obs["spatia_domain"]``, "0" the largest, and into ``uns["spatia_domain"]`` which sections
    were moved (:func:`spatia.tasks.domains.domains`)."""
    X, place = embedding_of(cells, embedding), {"sections": sections_of(cells), **place_of(cells)}
    found = domains(X, neighbours=neighbours, align=align, settings=settings, **place)
    cells.obs[keys.DOMAIN] = named(found)
    cells.uns[keys.DOMAIN] = {"embedding": embedding, "aligned": _moved(found.aligned)}
    return found


def named(found: Clusters) -> pd.Categorical:
    """Return the groups as a categorical of "0", "1", … in that order."""
    return pd.Categorical(found.group.astype(str), categories=[str(i) for i in range(found.n_groups)])


def _candidates(table: ad.AnnData, embedding: str) -> dict[str, NDArray[np.floating]]:
    """Return embeddings by key: the one that is named, or those that may be chosen from."""
    first = embedding_of(table, "X_spatia" if embedding == AUTO else embedding)
    return embeddings_of(table) if embedding == AUTO else {embedding: first}


def _known(table: ad.AnnData, labels: str, unknown: Sequence[str]) -> list[Any]:
    values = column_of(table, labels).to_numpy(object)
    return [None if pd.isna(value) or str(value) in unknown else value for value in values]


def _check_same_model(cells: ad.AnnData, reference: ad.AnnData, width: int, other_width: int) -> None:
    ids = [str(table.uns.get("spatia", {}).get("model_id", "")) for table in (cells, reference)]
    if width != other_width or (all(ids) and ids[0] != ids[1]):
        raise SettingsError(
            f"The reference is embedded by another model (width {other_width}, model {ids[1][:12] or '?'}…) than the cells (width "
            f"{width}, model {ids[0][:12] or '?'}…). Embed both corpora with the same model."
        )


def _joined_place(cells: ad.AnnData, reference: ad.AnnData) -> dict[str, Any]:
    sections = [[f"cells {s}" for s in sections_of(cells)], [f"reference {s}" for s in sections_of(reference)]]
    joined: dict[str, Any] = {"sections": np.concatenate(sections)}
    both = [place_of(cells), place_of(reference)]
    if all(both):
        joined["positions_um"] = np.concatenate([one["positions_um"] for one in both])
    return joined


def _first(found: Annotation, n: int) -> Annotation:
    """Return the annotation of the first ``n`` cells."""
    rows = {
        name: getattr(found, name)[:n] for name in ("label", "status", "probability", "label_probability", "novelty")
    }
    return Annotation(**{**{name: getattr(found, name) for name in found.__dataclass_fields__}, **rows})
