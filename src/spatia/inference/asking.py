"""What a generator is told of wanted rows: their sections are embedded, and nothing else of the corpus."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.generation.displacement import Place
from spatia.generation.settings import AIM, LABEL
from spatia.inference.asked import Asked, Spread
from spatia.inference.cell_labels import CellLabels
from spatia.inference.conditions import (
    CellConditions,
    SourceReader,
    Sources,
    cell_conditions,
    everywhere,
    transition_conditions,
)
from spatia.inference.drawing import Drawing
from spatia.inference.generator import Generator
from spatia.inference.real_cells import RealCells
from spatia.inference.wanted import Wanted, choose_rows, with_transition
from spatia.log import logger
from spatia.models.levels import check_levels
from spatia.nn.hashing import row_keys


@contextmanager
def asking(
    corpus: Corpus,
    maker: Generator,
    wanted: Wanted,
    *,
    device: str = "auto",
    labels: pd.DataFrame | None = None,
    real: RealCells | None = None,
    how: Drawing | None = None,
) -> Iterator["Asker"]:
    """Yield what gives the conditions of the wanted rows; their surroundings are embedded for it, and not the whole corpus.

    Parameters
    ----------
    labels
        Type or state of the cells, for a generator that is told it.
    real, how
        Real cells that drawings begin at, None: at noise; how many draws, what is withheld, and whether sections are aligned, says ``how``.
    """
    how = how or Drawing()
    if real is not None:
        real.check_fit(maker)
        if real.align != how.align:
            raise SettingsError(
                f"align={how.align} for the cells asked for, and {real.align} for the real ones to begin at: what is told of both is compared, "
                "so both are aligned or neither. Choose the real cells anew with the same align."
            )
    names = wanted.sections
    at_cells = maker.config.level == "cell"
    rows = {name: np.unique(wanted.row[wanted.sample == name]) for name in names} if at_cells else None
    told = _labels_of(corpus, maker, labels)
    references = maker.references if how.align else ()
    with cell_conditions(
        corpus, maker.model, sections=names, rows=rows, device=device, labels=told, references=references
    ) as conditions:
        yield Asker(corpus, maker, conditions, names, real, how)


def _labels_of(corpus: Corpus, maker: Generator, labels: pd.DataFrame | None) -> CellLabels | None:
    if LABEL not in maker.config.told:
        if labels is not None:
            raise SettingsError(f"{maker.folder}: this generator is told {', '.join(maker.config.told)}, and no label.")
        return None
    if labels is None:
        raise SettingsError(
            f"{maker.folder}: this generator is told a label, which only its user knows. Give a table of labels; the cells that "
            "are not in it are drawn without one."
        )
    return CellLabels.of(corpus, labels, maker.facts["labels"])


@contextmanager
def ask_for_cells(
    corpus: Corpus | str | Path,
    maker: Generator,
    cells: Sequence[str],
    transition: str | None,
    how: Drawing,
    sections: Sequence[str] | None = None,
) -> Iterator[tuple[Wanted, Asked]]:
    """Yield named cells, in the order of their names, and what is known of them; ``sections``: where they are looked for."""
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    check_levels(opened.levels, maker.model.config, corpus=opened.path)
    names = list(opened.sections) if sections is None else [opened.section(name).sample for name in sections]
    wanted = with_transition(choose_rows(opened, maker, names).one_each(cells), maker, transition)
    with asking(opened, maker, wanted, device=str(maker.network.device), how=how) as asker:
        yield wanted, asker(wanted)


class Asker:
    """Gives what is known of wanted rows; use :func:`asking`.

    Attributes
    ----------
    digest
        Of the labels that are told, and of the real cells that are begun at: a killed run goes on with the same ones only.
    real
        Real cells that drawings begin at; None: they begin at noise, or at cells of their own.
    shifts
        By section that training did not see: how what is told of its cells was moved.
    """

    def __init__(
        self,
        corpus: Corpus,
        maker: Generator,
        conditions: CellConditions,
        names: Sequence[str],
        real: RealCells | None = None,
        how: Drawing | None = None,
    ) -> None:
        self._maker, self._conditions, self._names = maker, conditions, list(names)
        self.real, self._how, self._corpus_id = real, how or Drawing(), corpus.corpus_id
        self.shifts = conditions.shifts
        self.digest = conditions.labels_digest + ("" if real is None else real.digest)
        self._number = {sample: number for number, sample in enumerate(corpus.sections)}
        self._niches = self._sources = None
        if maker.config.level == "niche":
            self._niches = RowReader([corpus], "niche", vocabulary=maker.model.vocabulary, sections=names, read=())
        if maker.config.task == "transition":
            self._sources = SourceReader(corpus, maker.model, names)

    def __call__(self, wanted: Wanted, told: Wanted | None = None) -> Asked:
        """Return what is known of rows, in their order.

        Parameters
        ----------
        told
            Rows whose conditions are told in the place of their own, one for each; noise and source cell stay theirs.
        """
        told = wanted if told is None else told
        if self._sources is not None:
            return self._transitions(wanted, told, self._sources)
        if self._niches is not None:
            return Asked(self._keys(wanted), *self._of_niches(told, self._niches))
        conditions, known = self._conditions.of_rows(self._sections_of(told), torch.from_numpy(told.row))
        start = None if self.real is None else self.real.start(self._alike(self.real, conditions, wanted))
        return Asked(self._keys(wanted), conditions, known, real=start)

    def begun_at(self, wanted: Wanted, told: Wanted) -> dict[str, NDArray[np.object_]]:
        """Return sample and id of the real cell that each draw of each row begins at; nothing where there are none."""
        if self.real is None:
            return {}
        conditions = self._conditions.read(self._sections_of(told), torch.from_numpy(told.row))
        return self.real.named(self._alike(self.real, conditions, wanted))

    def _alike(self, real: RealCells, conditions: Mapping[str, Tensor], wanted: Wanted) -> NDArray[np.int64]:
        left = {name: values for name, values in conditions.items() if name not in self._how.drop}
        return real.alike(left, self._how.draws, real.places(wanted, self._corpus_id))

    def _sections_of(self, wanted: Wanted) -> Tensor:
        """Return the section of each row, counted as they were embedded."""
        return torch.from_numpy(wanted.counted_in(self._names).section)

    def _keys(self, wanted: Wanted) -> Tensor:
        """Return what the noise of each row is a function of: its place in the corpus, whatever else is drawn."""
        section = torch.tensor([self._number[str(name)] for name in wanted.sample], dtype=torch.int64)
        return row_keys(section, torch.from_numpy(wanted.row))

    def _of_niches(self, wanted: Wanted, niches: RowReader) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        conditions: dict[str, Tensor] = {}
        known: dict[str, Tensor] = {}
        for number, at in _by_section(self._sections_of(wanted)):
            part = self._conditions.of_niches(niches(number, wanted.row[at]))
            for out, found in ((conditions, part.conditions), (known, part.known)):
                for name, values in found.items():
                    out.setdefault(name, values.new_zeros(len(wanted), *values.shape[1:]))[at] = values
        return conditions, known

    def _transitions(self, wanted: Wanted, told: Wanted, sources: SourceReader) -> Asked:
        names = self._maker.transitions
        number = torch.tensor([names.index(str(name)) for name in told.columns["transition"]])
        own = self._read_sources(wanted, sources)
        other = own if told is wanted else self._read_sources(told, sources)
        around = self._conditions.read(self._sections_of(told), torch.from_numpy(told.row))
        conditions = {
            "control": other.control,
            "niche": around["niche"],
            "tissue": around["tissue"],
            **transition_conditions(names, number, self._maker.deltas),
        }
        known = everywhere(conditions, len(wanted))
        before = None
        if AIM in self._maker.config.told:
            conditions[AIM] = self._filled(other.morphology) + torch.from_numpy(self._changes())[number]
            known[AIM] = torch.ones(len(wanted), dtype=torch.bool)
        if self._maker.config.is_edit:
            before = {**conditions, AIM: self._filled(own.morphology)}
        key = self._keys(wanted) * len(names) + number
        return Asked(key, conditions, known, own.images, before, own.place, self._spread(number), present=own.present)

    def _spread(self, number: Tensor) -> Spread | None:
        """Return how draws differ; those of a path that begins at noise differ by that."""
        resampled = self._maker.resampled
        if resampled is None or self._maker.config.begins_at_noise:
            return None
        return Spread(torch.from_numpy(resampled - self._changes()[:, None]), number)

    def _changes(self) -> NDArray[np.float32]:
        """Return the change that each transition asks for; a model without features is asked for none."""
        changes = self._maker.changes
        return np.zeros((len(self._maker.transitions), 0), np.float32) if changes is None else changes

    def _filled(self, morphology: Tensor) -> Tensor:
        """Return measurements with the mean in the place of what was not measured, so that it changes by Δm, too."""
        if missing := int((~morphology.isfinite()).all(dim=1).sum()):
            logger.warning(
                "%d of %d source cells have no measured morphology: they are changed as a cell of mean morphology is",
                missing,
                len(morphology),
            )
        return torch.where(morphology.isfinite(), morphology, self._maker.network.condition.typical(AIM).cpu())

    def _read_sources(self, wanted: Wanted, sources: SourceReader) -> Sources:
        space, width = self._maker.space, self._maker.model.config.cell_width
        images = torch.zeros(len(wanted), len(space.channels), space.px, space.px, dtype=torch.uint8)
        control = torch.zeros(len(wanted), width)
        present = torch.zeros(len(wanted), len(space.channels), dtype=torch.bool)
        morphology = torch.zeros(len(wanted), len(self._maker.model.vocabulary.features))
        place = Place(
            torch.zeros(len(wanted), 2), torch.zeros(len(wanted), 2), torch.zeros(len(wanted), dtype=torch.bool)
        )
        for number, at in _by_section(self._sections_of(wanted)):
            found = sources(number, wanted.row[at])
            images[at], present[at] = found.images, found.present
            control[at], morphology[at] = found.control, found.morphology
            place.middle[at], place.axis[at], place.there[at] = found.place.middle, found.place.axis, found.place.there
            if not bool(found.has_image.all()):
                missing = wanted.cell_id[at][~found.has_image.numpy()][0]
                raise SettingsError(
                    f"Source cell {missing!r} has no image, so there is nothing to begin at. Leave it out."
                )
        return Sources(images, control, torch.ones(len(wanted), dtype=torch.bool), present, morphology, place)


def _by_section(section: Tensor) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each section's number and the places of its rows."""
    numbers = section.numpy()
    for number in np.unique(numbers).tolist():
        yield number, np.flatnonzero(numbers == number)
