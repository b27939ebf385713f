"""What our model says of a cell from its surroundings alone: the cell is hidden from its own niche and window."""

import numpy as np
import torch
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus
from spatia.data.loader import tissue_loader
from spatia.models.spatia import Spatia

PASSES = 8  # an eighth of the cells is hidden at a time, so that a hidden cell keeps most of its neighbours
MOST_CELLS = 4096  # of a batch of windows


@torch.inference_mode()
def surroundings(model: Spatia, corpus: Corpus, cell: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    """Embed what surrounds each cell, itself hidden; from genes alone, as the picture of a niche shows the hidden cell too.

    Parameters
    ----------
    model
        On any device: `embed` moves it to a GPU where there is one.
    cell
        (n, width) embeddings of the cells from their genes, in the order of the sections.

    Returns
    -------
    ``around`` (n, niche + tissue), both as seen from the hidden cell, and ``fused`` (n, fused), the same with nothing in the place
    of the cell, which the gene head takes.
    """
    sizes = [section.entry.n_cells for section in corpus.sections.values()]
    starts = dict(zip(corpus.sections, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    loader = tissue_loader([corpus], max_cells=MOST_CELLS, shuffle=False, vocabulary=model.vocabulary, read=("counts",))
    first = torch.tensor([starts[source.section.sample] for source in loader.sources])
    found: dict[str, NDArray[np.float32]] = {}
    for batch in loader:
        rows = batch.cells.row + first[batch.cells.section]
        known = torch.from_numpy(np.asarray(cell[rows.numpy()], np.float32)).to(model.device)
        batch, rows = batch.to(model.device), rows.to(model.device)
        for turn in range(PASSES):
            hidden = rows % PASSES == turn
            niches = model.encode_niches(batch.niches, known, cell_shown=~hidden, use=("genes",))
            tissues = model.encode_tissues(batch, niches.niche)
            context = model.context_of_cells(batch, niches, tissues)
            at = hidden[context.cell]
            niche, tissue = context.niche[at], context.tissue[at]
            to = rows[context.cell[at]].cpu().numpy()
            fused = model.fuse(niche.new_zeros(len(to), cell.shape[1]), niche, tissue)
            for name, values in (("around", torch.cat([niche, tissue], dim=1)), ("fused", fused)):
                if name not in found:
                    found[name] = np.zeros((len(cell), values.shape[1]), np.float32)
                found[name][to] = values.cpu().numpy()
    return found
