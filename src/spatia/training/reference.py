"""Measure what the training cells' embeddings look like, at the end of training."""

from typing import Final

import torch

from spatia.data.loader import Loader
from spatia.models.reference import VIEWS
from spatia.models.spatia import Spatia

MOST_CELLS: Final = 10_000


@torch.no_grad()
def measure_reference(model: Spatia, loader: Loader) -> None:
    """Fit the model's reference to the first cells of a (shuffled) loader of training cells.

    Views in which no cell has anything to see keep a blank reference.
    """
    model.eval()
    found: dict[tuple[str, ...], list[torch.Tensor]] = {view: [] for view in VIEWS}
    n_cells = 0
    loader.set_epoch(0)
    for batch in loader:
        for view, parts in found.items():
            encoding = model.encode_cells(batch.to(model.device), use=view)
            seen = encoding.image_used | encoding.genes_used
            parts.append(encoding.cell[seen].float().cpu())
        n_cells += len(batch)
        if n_cells >= MOST_CELLS:
            break
    for view, parts in found.items():
        cells = torch.cat(parts)
        if len(cells) > 1:
            model.reference.fit(view, cells)
