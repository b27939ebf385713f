"""What the same cell would look like if one of its genes were expressed otherwise: the truth for a screen of genes.

Only a driver gene moves the picture (``truth/driver_genes.csv``); every other gene has an effect of exactly 0, whatever it is
correlated with. What changes is the latent expression, from which counts are only a sample: a cell with no count of a gene may
express it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatia.errors import SettingsError
from spatia.simulate.celltypes import CHANNELS
from spatia.simulate.counterfactual import change_cells, draw_crops
from spatia.simulate.tables import cell_ids
from spatia.simulate.truth import read_truth


@dataclass(frozen=True)
class GeneCounterfactual:
    """Cells before and after a change of genes.

    Attributes
    ----------
    cell_ids
        In the order asked for.
    channels
        Of the images.
    before, after
        (cells, channels, y, x) uint16.
    """

    cell_ids: tuple[str, ...]
    channels: tuple[str, ...]
    before: NDArray[np.uint16]
    after: NDArray[np.uint16]


def gene_counterfactual(
    bundle: Path,
    factors: Mapping[str, float],
    wanted: Sequence[str],
    *,
    size_um: float = 27.2,
    size_px: int = 64,
) -> GeneCounterfactual:
    """Draw cells of a simulated slide as they are, and with the latent expression of genes multiplied.

    Parameters
    ----------
    bundle
        Folder written by ``spatia simulate``.
    factors
        Symbol -> factor; 0 knocks the gene out.
    wanted
        Ids of the cells, each once.
    size_um, size_px
        As `spatia.simulate.counterfactual.counterfactual` has them.

    Raises
    ------
    SettingsError
        For an unknown gene or cell.
    """
    truth = read_truth(Path(bundle))
    cells, panel = truth.section.cells, truth.section.expression.panel
    if unknown := [symbol for symbol in factors if symbol not in panel.symbols]:
        raise SettingsError(
            f"gene {unknown[0]!r}: not in the panel of {bundle}; its genes: {', '.join(panel.symbols[:5])} …"
        )
    ids = cell_ids(truth.settings.seed, truth.section.number, len(cells))
    place = {str(name): row for row, name in enumerate(ids.tolist())}
    if absent := [name for name in wanted if name not in place]:
        raise SettingsError(f"cell {absent[0]!r}: not among the {len(ids):,} cells of {bundle}, e.g. {ids[0]!r}.")
    rows, back = np.unique([place[name] for name in wanted], return_inverse=True)
    changed = change_cells(truth, rows, cells.states[rows], factors)
    crops = draw_crops(truth, rows, changed, size_um, size_px)
    return GeneCounterfactual(tuple(wanted), CHANNELS, crops.factual[back], crops.changed[back])
