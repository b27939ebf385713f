"""What surrounds a changed cell: its own niche, embedded again with the changed cell in it.

The embedding of a niche holds the cell itself. Left as it was it would tell the generator what the cell expressed before. Its tissue
window holds hundreds of cells, of which one hardly shows, so that stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.inference.blocks import SectionEmbedder
from spatia.models.niche import NicheInput
from spatia.models.spatia import Spatia


@dataclass(frozen=True)
class _Home:
    """The niche of one cell.

    Attributes
    ----------
    cell
        (members, width) embeddings.
    offset_um
        (members, 2) positions from the centre of the niche.
    own
        Which member is the cell.
    centred
        Whether the niche is centred on it.
    """

    cell: Tensor
    offset_um: Tensor
    own: int
    centred: bool


class NicheFollower:
    """Embeds the niches of chosen cells again, with these cells changed.

    Parameters
    ----------
    corpus, model
        As the embedders had them.
    sections
        Embedders of the sections in which the cells are, first pass done.
    section, row
        (cells,) index into ``sections`` and row there.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: Spatia,
        sections: Sequence[SectionEmbedder],
        section: NDArray[np.int64],
        row: NDArray[np.int64],
    ) -> None:
        self._model = model
        names = [one.sample for one in sections]
        niches = RowReader([corpus], "niche", vocabulary=model.vocabulary, sections=names, read=())
        partitioned = niches.sources[0].partitioned
        niche = row.copy()  # niche i is that of cell i, where niches do not part the cells between them
        for number in np.unique(section).tolist() if partitioned else ():
            at = section == number
            niche[at] = corpus.section(names[number]).cells.column(keys.NICHE).to_numpy(np.int64)[row[at]]
        self._homes = [
            self._home(niches, sections[s], s, r, n)
            for s, r, n in zip(section.tolist(), row.tolist(), niche.tolist(), strict=True)
        ]

    def _home(self, niches: RowReader, embedder: SectionEmbedder, section: int, row: int, niche: int) -> _Home:
        batch = niches(section, np.array([niche]))
        rows = batch.cells.row[batch.member_cell]
        values = embedder.cells.read(rows.numpy())[:, : self._model.config.cell_width]
        own = int((rows == row).nonzero()[0, 0])
        offset = batch.cells.position_um[batch.member_cell] - batch.position_um
        return _Home(torch.from_numpy(values), offset, own, bool(batch.centre_cell[0] >= 0))

    @torch.inference_mode()
    def __call__(self, cells: NDArray[np.int64], embedding: Tensor) -> Tensor:
        """Return what surrounds cells whose own embedding has become another, (rows, niche width).

        Parameters
        ----------
        cells
            (rows,) which of the chosen cells; one may stand there again and again.
        embedding
            (rows, cell width) of each.
        """
        homes = [self._homes[at] for at in cells.tolist()]
        size = torch.tensor([len(home.cell) for home in homes])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), size.cumsum(0)])
        own = offsets[:-1] + torch.tensor([home.own for home in homes])
        members = torch.cat([home.cell for home in homes])
        members[own] = embedding.to(members.dtype).cpu()
        centred = torch.tensor([home.centred for home in homes])
        device = self._model.device
        encoded = self._model.niche_transformer(
            NicheInput(
                cell=members.to(device),
                cell_shown=torch.ones(len(members), dtype=torch.bool, device=device),
                cell_position_um=torch.cat([home.offset_um for home in homes]).to(device),
                niche_position_um=torch.zeros(len(homes), 2, device=device),
                offsets=offsets.to(device),
                member_cell=torch.arange(len(members), device=device),
                centre_cell=torch.where(centred, own, -1).to(device),
            )
        )
        centred = centred.to(device)
        around: Tensor = torch.where(centred[:, None], encoded.niche, encoded.member[own.to(device)])
        return around.cpu()
