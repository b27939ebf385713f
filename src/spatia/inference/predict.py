"""What the model itself predicts from embeddings: expression of genes with an interval, and pictures of cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import nbinom

from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.inference.blocks import BLOCK_CELLS
from spatia.inference.session import Session, embedded
from spatia.models.spatia import MODALITIES, Spatia

INTERVAL = 0.9


@dataclass(frozen=True)
class ExpressionPrediction:
    """Predicted expression of cells.

    Attributes
    ----------
    cell_ids, samples
        (n,) names of the cells, and of their sections.
    genes
        (g,) gene ids.
    mean, lower, upper
        (n, g) log1p of counts scaled to ``depth``: of the expected count, and of the ends of the central 90 % interval of a count
        of a cell with that depth (the model's negative binomial).
    depth
        Counts of a cell that the values are scaled to: the median of the model's training cells.
    """

    cell_ids: NDArray[np.str_]
    samples: NDArray[np.str_]
    genes: tuple[str, ...]
    mean: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    depth: float


def predict_expression(
    corpus: Corpus | str | Path,
    model: Spatia | str | Path,
    genes: Sequence[str],
    *,
    use: Sequence[str] = ("image",),
    hide_genes: Sequence[str] = (),
    sections: Sequence[str] | None = None,
    device: str = "auto",
    min_coverage: float = 0.5,
    every_section: bool = True,
) -> ExpressionPrediction:
    """Predict genes of every cell from what the model may see of it and of its surroundings.

    Parameters
    ----------
    genes
        Gene ids to predict; the model must know them. A section need not measure them.
    use, hide_genes, sections, device, min_coverage, every_section
        As for `spatia.inference.embed.embed`. To judge imputation, hide the genes that are predicted.

    Raises
    ------
    SettingsError
        For a gene that the model does not know.
    """
    with embedded(
        corpus,
        model,
        use=use,
        hide_genes=hide_genes,
        sections=sections,
        device=device,
        min_coverage=min_coverage,
        every_section=every_section,
    ) as session:
        columns = torch.tensor(gene_columns(session.model, genes), device=session.model.device)
        depth = float(session.model.gene_encoder.depth_scale)
        theta = session.model.dispersion(columns).detach().cpu().numpy()
        parts = [_predict(session, index, columns, depth, theta) for index in range(len(session.sections))]
        mean, lower, upper = np.concatenate(parts, axis=1)
        names = [session.corpus.section(one.sample).cells.obs().index.astype(str) for one in session.sections]
        samples = [np.full(one.n_cells, one.sample) for one in session.sections]
        return ExpressionPrediction(
            np.concatenate(names).astype(str), np.concatenate(samples), tuple(genes), mean, lower, upper, depth
        )


def gene_columns(model: Spatia, genes: Sequence[str]) -> list[int]:
    """Return the place of each gene in the model's vocabulary.

    Raises
    ------
    SettingsError
        For a gene that the model does not know, or none at all.
    """
    column = {gene: index for index, gene in enumerate(model.vocabulary.genes)}
    if unknown := [gene for gene in genes if gene not in column]:
        raise SettingsError(
            f"{len(unknown)} genes are not known to the model, first {unknown[0]!r}. Genes go by gene_id, for example "
            f"{model.vocabulary.genes[0]!r}."
        )
    if not len(genes):
        raise SettingsError("No gene to predict.")
    return [column[gene] for gene in genes]


@torch.inference_mode()
def _predict(
    session: Session, index: int, columns: torch.Tensor, depth: float, theta: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return mean, lower and upper of one section, (3, cells, genes)."""
    embedder, model = session.sections[index], session.model
    parts = []
    for start in range(0, embedder.n_cells, BLOCK_CELLS):
        fused = embedder.read(np.arange(start, min(start + BLOCK_CELLS, embedder.n_cells)))["fused"]
        rates = model.log_rates(torch.from_numpy(fused).to(model.device), columns).float().cpu().numpy()
        mean = depth * np.exp(rates.astype(np.float64))
        share = theta / (theta + mean)  # scipy's p
        ends = [nbinom.ppf(q, theta, share) for q in ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2)]
        parts.append(np.log1p(np.stack([mean, *ends])).astype(np.float32))
    values: NDArray[np.float32] = np.concatenate(parts, axis=1)
    return values


@dataclass(frozen=True)
class Reconstruction:
    """Crops of cells, measured and drawn by the model.

    Attributes
    ----------
    rows
        (n,) rows of the section's cells.
    channels
        Names; those that the section does not have are left out.
    measured, drawn
        (n, channels, y, x) uint8, intensities as in the corpus.
    use
        What the model saw of each cell.
    """

    rows: NDArray[np.int64]
    channels: tuple[str, ...]
    measured: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    use: tuple[str, ...]


@torch.inference_mode()
def reconstruct(
    corpus: Corpus, model: Spatia, sample: str, rows: Sequence[int], *, use: Sequence[str] = MODALITIES
) -> Reconstruction:
    """Draw the crops of some cells from what the model sees of them: ``("genes",)`` for the picture that the genes suggest.

    Raises
    ------
    SettingsError
        If the section has no channel that the model knows.
    """
    section = corpus.section(sample)
    at = [i for i, channel in enumerate(model.vocabulary.channels) if channel in section.entry.channels]
    if not at:
        raise SettingsError(f"{section.path}: no image channel that the model knows; there is nothing to draw.")
    reader = RowReader([corpus], "cell", vocabulary=model.vocabulary, sections=[sample])
    batch = reader(0, np.asarray(rows)).to(model.device)
    drawn = model.draw(model.encode_cells(batch, use=use))[:, at].round().to(torch.uint8).cpu().numpy()
    return Reconstruction(
        rows=np.asarray(rows, np.int64),
        channels=tuple(model.vocabulary.channels[i] for i in at),
        measured=batch.images[:, at].cpu().numpy(),
        drawn=drawn,
        use=tuple(use),
    )
