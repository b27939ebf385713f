"""Which cells or niches of a corpus are to be drawn, and of which of them the conditions are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.inference.generator import Generator
from spatia.log import logger
from spatia.pairing.pairs import Pairs


@dataclass(frozen=True)
class Wanted:
    """Rows to draw: for each its section's name and number, its row there, its id, and of a transition the target.

    Attributes
    ----------
    columns
        Further columns of ``obs``.
    """

    sample: NDArray[np.object_]
    section: NDArray[np.int64]
    row: NDArray[np.int64]
    cell_id: NDArray[np.object_]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: NDArray[np.int64] | slice) -> "Wanted":
        """Return some rows."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Wanted(self.sample[rows], self.section[rows], self.row[rows], self.cell_id[rows], columns)

    def with_columns(self, **columns: NDArray[Any]) -> "Wanted":
        """Return the rows with further columns."""
        return replace(self, columns={**self.columns, **columns})

    @property
    def sections(self) -> list[str]:
        """Names of the sections that rows are in, in the order of ``section``."""
        _, first = np.unique(self.section, return_index=True)
        return [str(self.sample[place]) for place in first]

    def counted_in(self, names: Sequence[str]) -> "Wanted":
        """Return the rows with sections counted in the order of some names."""
        number = {name: place for place, name in enumerate(names)}
        return replace(self, section=np.array([number[str(name)] for name in self.sample], np.int64))

    def only(self, cells: Sequence[str]) -> "Wanted":
        """Return the rows of these ids, in the order of the corpus, each once; one that is not there is refused."""
        chosen = np.isin(self.cell_id.astype(str), np.asarray(list(cells), str))
        if absent := sorted(set(map(str, cells)) - set(map(str, self.cell_id[chosen]))):
            raise SettingsError(
                f"{len(absent)} of the cells are not among those that can be drawn, first {absent[0]!r}."
            )
        return self.take(np.flatnonzero(chosen))

    def one_each(self, cells: Sequence[str]) -> "Wanted":
        """Return one row for each of these ids, in their order, repeats too.

        Raises
        ------
        SettingsError
            If there are none, or one is a text, not there, or in several sections.
        """
        if isinstance(cells, str) or not len(cells):
            raise SettingsError(f"cells is {cells!r}; expected a list of one or more cell ids, as ['cell-17'].")
        found = self.only(cells)
        names, first, times = np.unique(found.cell_id.astype(str), return_index=True, return_counts=True)
        if (times > 1).any():
            name = str(names[times > 1][0])
            there = found.sample[found.cell_id.astype(str) == name].astype(str).tolist()
            raise SettingsError(
                f"cell {name!r} is in {len(there)} sections: {', '.join(there)}. Say which is meant, as sections=[{there[0]!r}]."
            )
        return found.take(first[np.searchsorted(names, np.asarray(list(cells), str))])

    def shuffled(self, seed: int) -> "Wanted":
        """Return the rows in another order, no row at its own place; within its transition, where there are any.

        Raises
        ------
        SettingsError
            If there is nothing to exchange a row with.
        """
        rng, order = np.random.default_rng(seed), np.arange(len(self))
        group = self.columns.get("transition", np.zeros(len(self), np.int64))
        for value in dict.fromkeys(group.tolist()):
            place = rng.permutation(np.flatnonzero(group == value))
            if len(place) == 1:
                of_which = f" of transition {value!r}" if "transition" in self.columns else ""
                raise SettingsError(
                    f"shuffle: cell {self.cell_id[place[0]]!r} is the only one{of_which} to be drawn, so there is no other to tell it of. Draw at "
                    "least 2 (more --cells, a larger --limit, another --part), or leave the transition out."
                )
            order[place] = np.roll(place, 1)
        return self.take(order)

    def at_most(self, limit: int | None) -> "Wanted":
        """Return at most so many rows, spread evenly."""
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise SettingsError(f"limit={limit}: expected at least 1.")
        return self.take(np.linspace(0, len(self) - 1, limit).round().astype(np.int64))


def that_have_images(corpus: Corpus, wanted: Wanted) -> Wanted:
    """Return the rows whose cells have an image; how many have none is said."""
    there = has_image(corpus, wanted)
    if not there.any():
        raise SettingsError(
            f"{corpus.path}: none of the {len(wanted):,} source cells has an image, so there is nothing to begin at."
        )
    if missing := int((~there).sum()):
        logger.warning("%d of %d source cells have no image to begin at; they are left out", missing, len(wanted))
    return wanted.take(np.flatnonzero(there))


def has_image(corpus: Corpus, wanted: Wanted, *, whole: bool = False) -> NDArray[np.bool_]:
    """Say which rows' cells have an image, (rows,); ``whole``: one that the edge of the slide does not cut."""
    there = np.zeros(len(wanted), bool)
    for name in wanted.sections:
        at = np.flatnonzero(wanted.sample == name)
        obs = corpus.section(name).cells.obs()
        good = obs[keys.HAS_IMAGE].to_numpy(bool)
        if whole and "image_share" in obs:
            good = good & (obs["image_share"].to_numpy(np.float64) >= 1)
        there[at] = good[wanted.row[at]]
    return there


def with_transition(wanted: Wanted, maker: Generator, transition: str | None) -> Wanted:
    """Note the transition that every row makes; a generator that makes none is told none."""
    if maker.config.task == "expression-to-image":
        if transition is not None:
            raise SettingsError(
                f"transition={transition!r}: {maker.folder} draws cells from expression, it makes no transitions."
            )
        return wanted
    names = maker.transitions
    if transition not in names:
        raise SettingsError(
            f"transition={transition!r}: {maker.folder} knows {', '.join(names)}. Name one, or give pairs."
        )
    return wanted.with_columns(transition=np.full(len(wanted), transition, object))


def rows_of_pairs(maker: Generator, names: Sequence[str], pairs: Pairs, transition: str | None, part: str) -> Wanted:
    """Return the source cells of pairs, each with its transition and its likeliest partner."""
    if maker.config.task != "transition":
        raise SettingsError(f"pairs: {maker.folder} draws cells from expression, it makes no transitions.")
    chosen = pairs.transitions if transition is None else (transition,)
    if unknown := [name for name in chosen if name not in maker.transitions]:
        raise SettingsError(f"transition {unknown[0]!r}: {maker.folder} knows {', '.join(maker.transitions)}.")
    found = [pairs.of(name, part) for name in chosen]
    number = {name: n for n, name in enumerate(names)}
    sample = np.concatenate([one.source_sample for one in found]).astype(object)
    columns = {
        "transition": np.concatenate([np.full(len(one), one.transition, object) for one in found]),
        "target_cell_id": np.concatenate([one.target[:, 0] for one in found]).astype(object),
    }
    kept = np.array([name in number for name in sample], bool)
    if not kept.any():
        raise SettingsError(
            f"{pairs.path}: no pair in part {part!r} of {', '.join(chosen)}. Parts: train, validation, test."
        )
    return Wanted(
        sample[kept],
        np.array([number[name] for name in sample[kept]], np.int64),
        np.concatenate([one.source_row for one in found])[kept],
        np.concatenate([one.source for one in found]).astype(object)[kept],
        {name: values[kept] for name, values in columns.items()},
    )


def choose_rows(
    corpus: Corpus,
    maker: Generator,
    names: Sequence[str],
    *,
    split: str | None = None,
    part: str | None = None,
    cells: Sequence[str] | None = None,
) -> Wanted:
    """Return the cells or niches to draw, section by section, in the order of the corpus."""
    from spatia.data.sources import open_sources

    level = maker.config.level
    sources = open_sources([corpus], maker.model.vocabulary, split=split, part=part, sections=names)
    by_name = {source.section.sample: source for source in sources}
    sample, section, row, cell_id = [], [], [], []
    for number, name in enumerate(names):
        rows = np.concatenate([np.empty(0, np.int64), *(np.arange(a, b) for a, b in by_name[name].rows(level))])
        ids = corpus.section(name).table(level).obs().index.astype(str).to_numpy(object)
        sample.append(np.full(len(rows), name, object))
        section.append(np.full(len(rows), number, np.int64))
        row.append(rows)
        cell_id.append(ids[rows])
    wanted = Wanted(np.concatenate(sample), np.concatenate(section), np.concatenate(row), np.concatenate(cell_id), {})
    if not len(wanted):
        raise SettingsError(
            f"{corpus.path}: no {level} is selected (split {split!r}, part {part!r}, sections {list(names)})."
        )
    return wanted if cells is None else wanted.only(cells)
