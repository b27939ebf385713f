"""What a generator is told of cells, from the representation model: computed without any image."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.data.batch import CellBatch, NicheBatch
from spatia.data.loader import RowReader
from spatia.generation.batch import GenerationBatch
from spatia.generation.displacement import Place
from spatia.generation.settings import AIM, LABEL
from spatia.inference.blocks import SectionEmbedder
from spatia.inference.cell_labels import CellLabels
from spatia.inference.session import embedded
from spatia.models.spatia import Spatia
from spatia.nn.hashing import row_keys
from spatia.readout.alignment import SectionReference, Shift, alignment, looked_at

# generator's name of a condition -> model's name of the embedding
EMBEDDINGS: Final = {"genes": "cell", "niche": "niche", "tissue": "tissue"}
SEEN: Final = ("genes",)  # the target's image, and those of its neighbours, are never shown to the model


def pictures_of(batch: CellBatch) -> GenerationBatch:
    """Return cells as their images and what is measured of them, with nothing that is told of them."""
    assert batch.images is not None
    return GenerationBatch(
        section=batch.section,
        row=batch.row,
        key=row_keys(batch.section, batch.row),
        target=batch.images,
        channels_present=batch.channels_present,
        conditions={},
        known={},
        morphology=batch.morphology,
        morphology_measured=batch.morphology_measured,
        inside=None if batch.masks is None else (batch.masks & keys.MASK_CELL) > 0,
        nucleus=None if batch.masks is None else (batch.masks & keys.MASK_NUCLEUS) > 0,
    )


class CellConditions:
    """Embeddings of every cell of a corpus as block files: of its genes, its niche, its tissue.

    Use :func:`cell_conditions`. The model sees genes only, so no image of a target can reach the generator, not even by way of the
    niche. A label is what the user gives, for cells that have one.

    Attributes
    ----------
    sections
        Embedders of the sections, in the order in which they are counted.
    shifts
        By name of a section: what is taken away from the embeddings of its cells.
    """

    def __init__(
        self,
        sections: Sequence[SectionEmbedder],
        labels: CellLabels | None = None,
        shifts: Mapping[str, Shift] | None = None,
    ) -> None:
        self.sections, self._labels, self.shifts = sections, labels, dict(shifts or {})

    @property
    def labels_digest(self) -> str:
        """Of the labels that are told, empty where there are none."""
        return "" if self._labels is None else self._labels.digest

    def read(self, section: Tensor, row: Tensor) -> dict[str, Tensor]:
        """Return the embeddings of cells, by condition, each (rows, width)."""
        out: dict[str, NDArray[np.float32]] = {}
        rows, sections = row.cpu().numpy(), section.cpu().numpy()
        for number in np.unique(sections).tolist():
            at = np.flatnonzero(sections == number)
            shift = self.shifts.get(self.sections[number].sample)
            for name, values in _embeddings(self.sections[number], rows[at]).items():
                if name not in out:
                    out[name] = np.empty((len(rows), values.shape[1]), np.float32)
                out[name][at] = values if shift is None else values - shift.of[name]
        return {name: torch.from_numpy(values) for name, values in out.items()}

    def shift_of(self, section: Tensor) -> dict[str, Tensor]:
        """Return what is taken away from the embeddings of cells, by condition, each (rows, width)."""
        out: dict[str, Tensor] = {}
        for number in section.unique().tolist():
            one = self.sections[number]
            shift = self.shifts.get(one.sample)
            for name, level in EMBEDDINGS.items():
                moved = np.zeros(one.width_of(level), np.float32) if shift is None else shift.of[name]
                out.setdefault(name, torch.zeros(len(section), len(moved)))[section == number] = torch.from_numpy(moved)
        return out

    def of_rows(self, section: Tensor, row: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return what is known of cells, by condition (rows, width), and of which of them (rows,)."""
        conditions = self.read(section, row)
        known = everywhere(conditions, len(row))
        if self._labels is not None:
            names = [one.sample for one in self.sections]
            conditions[LABEL], known[LABEL] = self._labels.read(names, section, row)
        return conditions, known

    def of_cells(self, batch: CellBatch) -> GenerationBatch:
        """Turn cells with their images into what a generator learns from."""
        conditions, known = self.of_rows(batch.section, batch.row)
        if batch.morphology is not None and batch.morphology_measured is not None:
            conditions[AIM], known[AIM] = aim_of(batch.morphology, batch.morphology_measured)
        return replace(pictures_of(batch), conditions=conditions, known=known)

    def of_niches(self, batch: NicheBatch) -> GenerationBatch:
        """Turn niches into what a generator learns from.

        The expression of a niche is the mean of its cells' embeddings, and its composition their spread and number: sums of
        counts would look like one cell of great depth to a model of cells.
        """
        assert batch.images is not None
        of_member = {
            name: values[batch.member_cell] for name, values in self.read(batch.cells.section, batch.cells.row).items()
        }
        conditions = pool_niches(of_member, batch.member_niche, batch.n_members)
        return GenerationBatch(
            section=batch.section,
            row=batch.row,
            key=row_keys(batch.section, batch.row),
            target=batch.images,
            channels_present=batch.channels_present,
            conditions=conditions,
            known=dict.fromkeys(conditions, batch.n_members > 0),
        )


def _embeddings(section: SectionEmbedder, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings of cells of one section, by condition."""
    values = section.levels(rows)
    return {name: values[level] for name, level in EMBEDDINGS.items()}


@dataclass(frozen=True)
class Sources:
    """Source cells as a generator is told of them.

    Attributes
    ----------
    images
        Intensities 0…255 over the model's channels.
    control
        Embedding of each by the model, from its own image and genes.
    has_image
        Which of them have one.
    present
        (cells, channels) in which channels.
    morphology
        What was measured of each, NaN where it was not.
    place
        Where the nucleus of each lies.
    """

    images: Tensor
    control: Tensor
    has_image: Tensor
    present: Tensor
    morphology: Tensor
    place: Place


class SourceReader:
    """Reads source cells with their images: a source may be seen, its target may not.

    Parameters
    ----------
    corpus, model
        Where the cells are, and what embeds them.
    sections
        Names of sections; counted in this order.
    """

    def __init__(self, corpus: Corpus, model: Spatia, sections: Sequence[str] | None = None) -> None:
        self._model = model
        self._cells = RowReader([corpus], "cell", vocabulary=model.vocabulary, sections=sections)
        self.sources = self._cells.sources

    @torch.inference_mode()
    def __call__(self, section: int, rows: NDArray[np.int64]) -> Sources:
        """Return cells of one section, in the order given."""
        batch: CellBatch = self._cells(section, rows)
        assert batch.images is not None
        control = self._model.encode_cells(batch.to(self._model.device)).cell.cpu()
        assert batch.morphology is not None
        assert batch.morphology_measured is not None
        morphology, _ = aim_of(batch.morphology, batch.morphology_measured)
        assert batch.masks is not None
        place = Place.of((batch.masks & keys.MASK_NUCLEUS) > 0)
        return Sources(batch.images, control, batch.image_present, batch.channels_present, morphology, place)


def aim_of(morphology: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
    """Return what an image is to measure, (rows, features) with NaN where it is not known, and which rows know anything.

    Examples
    --------
    >>> aim, known = aim_of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[True, False], [False, False]]))
    >>> aim[0].tolist(), known.tolist()
    ([1.0, nan], [True, False])
    """
    return torch.where(measured, morphology, torch.nan), measured.any(dim=1)


def transition_conditions(
    names: Sequence[str], number: Tensor, deltas: Mapping[str, NDArray[np.float32]]
) -> dict[str, Tensor]:
    """Return which transition each row makes, as one of several, and what changes with it.

    Parameters
    ----------
    names
        Of all transitions that the generator knows.
    number
        (rows,) index of each row's.
    deltas
        ``delta_genes`` and ``delta_morphology``: (transitions, width).

    Examples
    --------
    >>> deltas = {"delta_genes": np.float32([[1, 2], [3, 4]])}
    >>> found = transition_conditions(["a", "b"], torch.tensor([1]), deltas)
    >>> found["transition"].tolist(), found["delta_genes"].tolist()
    ([[0.0, 1.0]], [[3.0, 4.0]])
    """
    rows = {name: torch.from_numpy(np.asarray(values, np.float32))[number] for name, values in deltas.items()}
    return {"transition": torch.eye(len(names))[number], **rows}


def pool_niches(of_member: dict[str, Tensor], niche: Tensor, n_members: Tensor) -> dict[str, Tensor]:
    """Return conditions of niches from the embeddings of their members.

    Parameters
    ----------
    of_member
        (members, width) by condition.
    niche
        Niche of each member.
    n_members
        Members of each niche.

    Examples
    --------
    >>> pooled = pool_niches({"genes": torch.tensor([[1.0], [3.0]])}, torch.tensor([0, 0]), torch.tensor([2]))
    >>> pooled["genes"].tolist(), [round(value, 2) for value in pooled["composition"][0].tolist()]
    ([[2.0]], [1.0, 1.1])
    """
    n = n_members.clamp(min=1).float()[:, None]

    def mean(values: Tensor) -> Tensor:
        return values.new_zeros(len(n_members), values.shape[1]).index_add(0, niche, values) / n

    pooled = {name: mean(values) for name, values in of_member.items()}
    spread = (mean(of_member["genes"].square()) - pooled["genes"].square()).clamp(min=0).sqrt()
    return {**pooled, "composition": torch.cat([spread, n_members.float().log1p()[:, None]], dim=1)}


def everywhere(conditions: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """Say that every row has every condition."""
    return {name: torch.ones(rows, dtype=torch.bool) for name in conditions}


@contextmanager
def cell_conditions(
    corpus: Corpus,
    model: Spatia | Path,
    *,
    sections: Sequence[str] | None = None,
    rows: Mapping[str, NDArray[np.int64]] | None = None,
    scratch: Path | None = None,
    device: str = "auto",
    min_coverage: float = 0.5,
    labels: CellLabels | None = None,
    references: Sequence[SectionReference] = (),
) -> Iterator[CellConditions]:
    """Embed every cell of a corpus from genes alone, and hand over what reads the embeddings.

    Parameters
    ----------
    corpus, model
        Of the same levels.
    sections
        Names of sections; all by default. They are counted in this order.
    rows
        By section: cells that will be asked for. Only their blocks and windows are embedded; None: all.
    scratch
        Folder for the embeddings, continued after a kill; None: a temporary one.
    labels
        Types or states of the cells, for a generator that is told them.
    references
        The sections that a generator learnt from: others are moved to where the one most like them lay. None: every cell as it is.
    """
    names = list(corpus.sections) if sections is None else list(sections)
    known = {one.cells_sha256 for one in references}
    strange = [name for name in names if known and corpus.section(name).cells_sha256 not in known]
    seen = {name: looked_at(corpus.section(name).entry.n_cells) for name in strange}
    if rows is not None:
        rows = {**rows, **{name: np.union1d(rows[name], seen[name]) for name in strange if name in rows}}
    with embedded(
        corpus, model, use=SEEN, sections=names, rows=rows, scratch=scratch, device=device, min_coverage=min_coverage
    ) as session:
        shifts = {
            one.sample: alignment(one.sample, _embeddings(one, seen[one.sample]), references)
            for one in session.sections
            if one.sample in seen
        }
        yield CellConditions(
            session.sections, labels, {name: shift for name, shift in shifts.items() if shift is not None}
        )


def references_of(
    conditions: CellConditions,
    corpus: Corpus,
    sections: Collection[str],
    *,
    split: str | None,
    part: str,
    most: int = 4096,
) -> list[SectionReference]:
    """Describe the sections that are learnt from, so that others can be aligned to them.

    Parameters
    ----------
    sections
        Names of those that something is learnt from.
    split, part
        Whose cells are learnt from; of a section that has none there, nothing is kept.
    most
        Cells of each section, evenly taken.
    """
    found = []
    for one in conditions.sections:
        if one.sample not in sections:
            continue
        ranges = [(0, one.n_cells)] if split is None else corpus.split(split).ranges(part, one.sample)
        rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(start, stop) for start, stop in ranges)])
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]
        if len(rows):
            found.append(
                SectionReference.of(
                    one.sample, corpus.section(one.sample).cells_sha256, _embeddings(one, rows), "genes"
                )
            )
    return found
