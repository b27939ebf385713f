"""Stage 2: niches and tissue on the embeddings of cells, whose encoder stands still."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spatia.data.batch import CellBatch, TissueBatch
from spatia.models.losses import Term, masked_term
from spatia.models.reference import VIEWS
from spatia.models.spatia import Spatia
from spatia.nn.hashing import hash_uniform, row_keys
from spatia.nn.ragged import mean_of_used, pad
from spatia.training.gene_likelihood import gene_term
from spatia.training.masking import NICHES, hide_cells
from spatia.training.row_file import RowFile
from spatia.training.settings import TrainSettings

BLOCKS = 4  # a window has 4 × 4 blocks; whole blocks of niches are hidden, as neighbouring niches share cells
ENCODED_AT_ONCE = 512


class ContextObjective(nn.Module):
    """Losses of a batch of tissue windows.

    A hidden cell is predicted from its neighbours and its tissue, a cell that shows one modality also from that; a hidden
    block of niches is predicted from the rest of its window.

    Parameters
    ----------
    model
        Trained in place; its cell encoder is not.
    settings
        Shares that are hidden, weights, seed.
    n_cells
        Cells of each section, in the order of ``batch.section``.
    """

    def __init__(self, model: Spatia, settings: TrainSettings, n_cells: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        # what is known of the cells, in turn from epoch to epoch
        self.views = [view for view in VIEWS if "image" not in view or model.vocabulary.channels]
        self.block_head = nn.Linear(model.config.tissue_width, model.config.cell_width)
        self._embeddings = [RowFile(n, len(VIEWS) * model.config.cell_width) for n in n_cells]

    def embedding(self, batch: TissueBatch) -> Float[Tensor, "cells fused"]:
        """Return what is watched for collapse: the fused embedding of whole cells."""
        cell = self._cells(batch.cells)[:, 0]
        niches = self.model.encode_niches(batch.niches, cell)
        tissues = self.model.encode_tissues(batch, niches.niche)
        context = self.model.context_of_cells(batch, niches, tissues)
        return self.model.fuse(cell[context.cell], context.niche, context.tissue)

    def forward(self, batch: TissueBatch, epoch: int) -> dict[str, Term]:
        """Return the terms by name."""
        seed, masking = self.settings.seed, self.settings.masking
        view = self.views[epoch % len(self.views)]
        known = self._cells(batch.cells)
        cell = known[:, VIEWS.index(view)]
        shown = hide_cells(batch.cells, masking.cells, seed, epoch)
        niche_shown = self._hide_blocks(batch, epoch)
        terms: dict[str, Term] = {}
        niches = self.model.encode_niches(batch.niches, cell, cell_shown=shown, use=view)
        tissues = self.model.encode_tissues(batch, niches.niche, niche_shown=niche_shown)
        if self.settings.weights.niche and batch.cells.counts is not None:
            context = self.model.context_of_cells(batch, niches, tissues)
            own = cell * shown[:, None]
            fused = self.model.fuse(own[context.cell], context.niche, context.tissue)
            told = shown & torch.tensor("genes" in view, device=shown.device)
            terms["niche"] = self._genes(batch.cells, context.cell, fused, told, epoch)
        if self.settings.weights.tissue:
            terms["tissue"] = self._tissue(batch, known[:, 0], self.block_head(tissues.niche), ~niche_shown)
        return terms

    @torch.no_grad()
    def _cells(self, cells: CellBatch) -> Float[Tensor, "cells views cell"]:
        """Return the embedding of each cell from both modalities, the image alone and the genes alone."""
        section, row = cells.section.cpu().numpy(), cells.row.cpu().numpy()
        width = self.model.config.cell_width
        found = torch.empty(len(cells), len(VIEWS), width)
        for index in set(section.tolist()):
            at = (section == index).nonzero()[0]
            rows = self._embeddings[index]
            new = at[~rows.known(row[at])]
            for start in range(0, len(new), ENCODED_AT_ONCE):
                some = new[start : start + ENCODED_AT_ONCE]
                part = cells.take(torch.from_numpy(some).to(cells.device))
                views = [self.model.encode_cells(part, use=view).cell for view in VIEWS]
                rows.write(row[some], torch.cat(views, dim=1).float().cpu().numpy())
            values = torch.from_numpy(rows.read(row[at]))
            found[torch.from_numpy(at)] = values.view(len(at), len(VIEWS), width)
        return found.to(cells.device)

    def _hide_blocks(self, batch: TissueBatch, epoch: int) -> Bool[Tensor, "niches"]:
        """Return the niches that are shown; whole blocks of a window are hidden, whatever else is in the batch."""
        window = batch.niche_window
        offset_um = batch.niches.position_um - batch.position_um[window]  # from the centre of the window
        place = ((offset_um / self.model.config.tissue_um + 0.5) * BLOCKS).long().clamp(0, BLOCKS - 1)
        keys = row_keys(batch.section, batch.row)
        drawn = hash_uniform(keys, BLOCKS * BLOCKS, self.settings.seed, epoch, NICHES)
        return drawn[window, place[:, 1] * BLOCKS + place[:, 0]] >= self.settings.masking.niches

    def _genes(self, cells: CellBatch, at: Tensor, fused: Tensor, told: Tensor, epoch: int) -> Term:
        """Likelihood of counts; cells whose own genes were shown count little, as they only need to be copied."""
        assert cells.counts is not None
        counts, measured = cells.counts[at], cells.measured[at]
        weight = torch.where(told[at], self.settings.masking.seen_genes_weight, 1.0)[:, None].expand_as(counts)
        return gene_term(self.model, fused, counts, measured, weight, self.settings, (epoch, NICHES))

    def _tissue(self, batch: TissueBatch, cell: Tensor, told: Tensor, hidden: Tensor) -> Term:
        at = pad(batch.niches.offsets)
        members = batch.niches.member_cell[at.index] if len(batch.niches.member_cell) else at.index
        target = mean_of_used(cell[members], at.used).detach()
        return masked_term((told - target).square().mean(dim=1), hidden)
