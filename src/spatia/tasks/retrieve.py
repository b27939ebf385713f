"""Find a cell's expression by its image, and its image by its expression, among many cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.metrics.retrieval import CrossModalRetrieval, cross_modal_retrieval
from spatia.models.checkpoint import load_model
from spatia.models.names import known_by_symbol
from spatia.models.spatia import Spatia
from spatia.tasks.seen import warn_of_seen

CELLS_AT_ONCE = 512


@dataclass(frozen=True)
class Modalities:
    """Each cell as its image says and as its genes say, in one space.

    Attributes
    ----------
    cell_ids, samples
        (n,) names of the cells and of their sections.
    image, genes
        (n, width) unit vectors.
    both
        (n,) cells that have an image and a count.
    """

    cell_ids: NDArray[np.str_]
    samples: NDArray[np.str_]
    image: NDArray[np.float32]
    genes: NDArray[np.float32]
    both: NDArray[np.bool_]


@dataclass(frozen=True)
class RetrievalResult:
    """Retrieval among cells of a corpus.

    Attributes
    ----------
    scores
        Both directions.
    cells
        A row a query: ``sample``, ``cell_id``, and the rank of the right candidate in both directions.
    n_without
        Cells without an image or counts, which cannot be asked for.
    """

    scores: CrossModalRetrieval
    cells: pd.DataFrame
    n_without: int

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return self.scores.to_json() | {"n_without_both": self.n_without}


@torch.inference_mode()
def encode_modalities(
    corpus: Corpus, model: Spatia, rows: dict[str, NDArray[np.int64]], *, hide_genes: Sequence[str] = ()
) -> Modalities:
    """Encode image and genes of cells apart, before they are fused, by the model's contrastive head.

    Parameters
    ----------
    rows
        Section -> rows of its cells.
    hide_genes
        Gene ids to treat as not measured.
    """
    hidden = set(hide_genes)
    visible = torch.tensor([gene not in hidden for gene in model.vocabulary.genes], device=model.device)
    reader = RowReader([corpus], "cell", vocabulary=model.vocabulary, sections=list(rows))
    image, genes, both, ids = [], [], [], []
    for number, source in enumerate(reader.sources):
        wanted = rows[source.section.sample]
        names = source.section.cells.obs().index.astype(str).to_numpy()
        ids.append(pd.DataFrame({keys.SAMPLE: source.section.sample, "cell_id": names[wanted]}))
        for start in range(0, len(wanted), CELLS_AT_ONCE):
            batch = reader(number, wanted[start : start + CELLS_AT_ONCE]).to(model.device)
            encoding = model.encode_cells(batch, visible_genes=visible)
            left, right = model.contrast_head(encoding.image, encoding.genes)
            image.append(left.float().cpu().numpy())
            genes.append(right.float().cpu().numpy())
            both.append((encoding.image_used & encoding.genes_used).cpu().numpy())
    table = pd.concat(ids)
    return Modalities(
        table["cell_id"].to_numpy(str), table[keys.SAMPLE].to_numpy(str),
        np.concatenate(image), np.concatenate(genes), np.concatenate(both),
    )  # fmt: skip


def retrieve(
    corpus: Corpus | str | Path,
    model: Spatia | str | Path,
    *,
    split: str | None = None,
    part: str = "test",
    n_candidates: int = 500,
    seed: int = 0,
) -> RetrievalResult:
    """Rank ``n_candidates`` cells by cosine similarity to each cell's other half, in both directions.

    Parameters
    ----------
    split, part
        Cells of this part of a split of the corpus; give one that the model was trained with. None: all cells.
    n_candidates
        In a pool; one pool of all cells, where there are fewer.

    Raises
    ------
    SettingsError
        If fewer than 20 cells have both an image and counts.
    """
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    network = model if isinstance(model, Spatia) else known_by_symbol(load_model(model), [opened])
    rows = {
        sample: np.arange(section.entry.n_cells)
        if split is None
        else np.concatenate([np.arange(*span) for span in opened.split(split).ranges(part, sample)] or [np.arange(0)])
        for sample, section in opened.sections.items()
    }
    wanted = {sample: some for sample, some in rows.items() if len(some)}
    if not wanted:
        raise SettingsError(f"{opened.path}: part {part!r} of split {split!r} holds no cell. Name another part.")
    warn_of_seen(model, opened, split, part)
    found = encode_modalities(opened, network, wanted)
    asked = np.flatnonzero(found.both)
    if len(asked) < 20:
        raise SettingsError(
            f"{opened.path}: {len(asked)} of {len(found.both):,} cells have both an image and counts; at least 20 are needed to "
            "retrieve among."
        )
    size = min(n_candidates, len(asked))
    scores = cross_modal_retrieval(found.image[asked], found.genes[asked], n_candidates=size, seed=seed)
    query = asked[scores.rows]
    cells = pd.DataFrame(
        {
            keys.SAMPLE: found.samples[query],
            "cell_id": found.cell_ids[query],
            "rank_image_to_genes": scores.image_to_genes.rank,
            "rank_genes_to_image": scores.genes_to_image.rank,
        }
    )
    return RetrievalResult(scores, cells, int((~found.both).sum()))
