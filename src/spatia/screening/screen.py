"""Change genes in chosen cells, draw the cells again, and say what moved: the whole screen.

What a generator predicts is association that it has learned, not proof of cause (``docs/screen.md``).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from spatia.config import make_settings
from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.inference.conditions import SEEN, CellConditions, everywhere
from spatia.inference.generator import AT_ONCE, Asked, Drawing, Generator, replace_evaluations
from spatia.inference.session import Session, embedded
from spatia.log import duration, logger, progress
from spatia.models.levels import check_levels
from spatia.nn.hashing import row_keys
from spatia.pairing.cells import ROW, SAMPLE
from spatia.screening.cells import ChosenCells, Table, choose_cells, level_share
from spatia.screening.drawing import CellEncoder, Drawer, MomentDrawer, PathDrawer, without_surroundings
from spatia.screening.effects import EffectSum
from spatia.screening.genes import GeneSet, choose_gene_sets, permuted
from spatia.screening.perturbation import Change, Counts, input_change
from spatia.screening.readings import IMAGE_SHIFT, Readings, make_readings
from spatia.screening.result import FORMAT, Screen, Strip, check_out, effects_table, ranking_table, write_screen
from spatia.screening.settings import ScreenSettings
from spatia.screening.surroundings import NicheFollower
from spatia.version import __version__

N_STRIPS: Final = 6
CELLS_A_STRIP: Final = 4
CAVEAT: Final = "Predicted by a model from associations in its training cells; not evidence of cause."


def screen(
    corpus: Corpus | str | Path,
    generator: Generator | str | Path,
    out: str | Path | None = None,
    *,
    genes: Sequence[str] | None = None,
    sets: Mapping[str, Sequence[str]] | None = None,
    cells: Table | None = None,
    device: str = "auto",
    draw: Callable[[Screen, Path], None] | None = None,
    **settings: Any,
) -> Screen:
    """Predict what changing genes does to the image of cells, and rank the genes.

    Parameters
    ----------
    corpus, generator
        Folders, or opened; the generator draws cells from expression.
    out
        Folder to write: ``effects.parquet``, ``ranking.csv``, ``screen.json`` (and figures). None: nothing is written.
    genes, sets
        Ids or symbols to change one by one, and named sets to change together; neither: every gene that the model knows.
    cells
        Table with more columns for the cells, as :func:`spatia.pair` takes it.
    draw
        Draws figures into the folder.
    settings
        Fields of :class:`spatia.screening.settings.ScreenSettings`.

    Returns
    -------
    The tables, and images of the changes that move most.

    Raises
    ------
    SettingsError, CorpusError, ModelError
        If something is not there, or does not go together.
    """
    chosen_settings = make_settings(ScreenSettings, settings, where="screen")
    if out is not None:
        check_out(Path(out))
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    maker = generator if isinstance(generator, Generator) else Generator.load(generator, device=device)
    check_generator(maker)
    check_levels(opened.levels, maker.model.config, corpus=opened.path)
    chosen = choose_cells(opened, maker.space.channels, chosen_settings, cells)
    known = maker.model.vocabulary.genes
    named = choose_gene_sets(opened, known, chosen.samples, genes, sets)
    changed_sets = named
    if chosen_settings.permute_genes:
        possible = [one.gene_ids[0] for one in choose_gene_sets(opened, known, chosen.samples)]
        changed_sets = permuted(named, possible, chosen_settings.seed)
    readings = make_readings(chosen, maker.space.channels, maker.space.um_per_px, chosen_settings.score)
    began = time.perf_counter()
    with embedded(opened, maker.model, use=SEEN, sections=chosen.samples, device=str(maker.network.device)) as session:
        run = _Run.prepare(session, maker, chosen, readings, chosen_settings)
        found = run.effects(changed_sets)
        strips = run.strips(named, changed_sets, found.ranking)
    facts = _facts(opened, maker, chosen, readings, chosen_settings, len(named), time.perf_counter() - began)
    result = Screen(found.effects, found.ranking, strips, facts)
    if out is not None:
        write_screen(result, Path(out), draw)
    return result


def check_generator(maker: Generator) -> None:
    """Refuse a generator that is not told of the genes of a cell."""
    if maker.config.task != "expression-to-image" or maker.config.level != "cell":
        what = "changes of state" if maker.config.task == "transition" else f"images of {maker.config.level}s"
        raise SettingsError(
            f"{maker.folder}: this generator draws {what}; it is not told the expression of a cell, so no gene can be changed in it. Give "
            "one that was trained without --pairs, at level=cell."
        )
    if "genes" not in maker.config.told:
        raise SettingsError(
            f"{maker.folder}: this generator is told {', '.join(maker.config.told) or 'nothing'}, but not genes, so changing a gene would "
            "change nothing. Train one whose conditions hold genes."
        )


@dataclass(frozen=True)
class _Found:
    effects: Any
    ranking: Any


@dataclass(frozen=True)
class _Run:
    """The chosen cells as they are, and what changes them."""

    chosen: ChosenCells
    settings: ScreenSettings
    readings: Readings
    encoder: CellEncoder
    drawer: Drawer
    counts: Counts
    columns: dict[str, int]
    change: Change
    before: NDArray[np.uint8]
    read_before: NDArray[np.float64]
    seconds_an_image: float

    @classmethod
    def prepare(
        cls, session: Session, maker: Generator, chosen: ChosenCells, readings: Readings, settings: ScreenSettings
    ) -> "_Run":
        model, corpus = maker.model, chosen.corpus
        names = chosen.samples
        reader = RowReader([corpus], "cell", vocabulary=model.vocabulary, sections=names, read=("counts",))

        def counts_of(rows: NDArray[np.int64]) -> Counts:
            by_section = chosen.rows_by_section(rows)
            parts = [reader(names.index(name), mine).counts.numpy() for name, mine in by_section.items()]
            return np.concatenate([np.zeros((0, len(model.vocabulary.genes)), np.float32), *parts])

        counts = counts_of(chosen.changed)
        sample = chosen.obs[SAMPLE].to_numpy(object)[chosen.changed]
        section = np.array([names.index(str(name)) for name in sample], np.int64)
        row = chosen.obs[ROW].to_numpy(np.int64)[chosen.changed]
        panel = reader(0, np.array([0])).panel_measured.numpy()
        base = _as_they_are(chosen, session, maker, section, row)
        follower = None
        if settings.surroundings == "drop":
            base = without_surroundings(base)
        elif settings.surroundings == "follow" and "niche" in base.conditions:
            follower = NicheFollower(corpus, model, session.sections, section, row)
        encoder = CellEncoder(maker, base, panel[section], follower)
        every = np.arange(len(counts))
        asked = encoder(every, counts)
        drawer = _make_drawer(maker, asked, settings)
        began = time.perf_counter()
        before = drawer(every, asked)
        read_before = readings.of(before)
        spent = (time.perf_counter() - began) / (len(every) * settings.draws)
        share = None
        if settings.level_of is not None:
            share = level_share(chosen, settings.level_of, model.vocabulary.genes, counts_of)
        columns = {gene: column for column, gene in enumerate(model.vocabulary.genes)}
        change = Change(settings.factor, share)
        return cls(chosen, settings, readings, encoder, drawer, counts, columns, change, before, read_before, spent)

    def effects(self, sets: Sequence[GeneSet]) -> _Found:
        """Make every change in every cell."""
        total = EffectSum(len(self.counts), self.settings.resamples, self.settings.seed)
        n_pairs = sum(int(self._moved(one).sum()) for one in sets)
        n_images = n_pairs * self.settings.draws
        logger.info(
            "%d changes in %d cells alter %d cells, %d draws each: %d images, about %s",
            len(sets), len(self.counts), n_pairs, self.settings.draws, n_images, duration(n_images * self.seconds_an_image),
        )  # fmt: skip
        moved_input = []
        with progress("screening", n_pairs, "changed cells") as advance:
            for block in self._blocks(sets):
                difference = self._difference(
                    np.concatenate([cells for cells, _ in block]), np.concatenate([counts for _, counts in block])
                )
                start = 0
                for cells, counts in block:
                    total.add(cells, difference[start : start + len(cells)])
                    moved_input.append(input_change(self.counts[cells], counts).sum() / len(self.counts))
                    start += len(cells)
                advance(start)
        effects = total.finish(len(self.readings.names) - 1)
        ranking = ranking_table(sets, self.readings, effects, np.array(moved_input))
        return _Found(effects_table(sets, self.readings, effects), ranking)

    def strips(self, named: Sequence[GeneSet], changed: Sequence[GeneSet], ranking: Any) -> tuple[Strip, ...]:
        """Draw the cells that the first changes move most."""
        by_name = {one.name: other for one, other in zip(named, changed, strict=True)}
        ids = self.chosen.obs.index.astype(str).to_numpy(object)[self.chosen.changed]
        found = []
        for name in ranking.loc[ranking["n_changed"] > 0, "name"].head(N_STRIPS):
            cells, counts = self._changed(by_name[name])
            images = self.drawer(cells, self.encoder(cells, counts))[:, 0]
            before = self.before[cells, 0]
            moved = ((images.astype(np.float32) - before) ** 2).mean(axis=(1, 2, 3))
            most = np.argsort(-moved, kind="stable")[:CELLS_A_STRIP]
            found.append(Strip(str(name), tuple(map(str, ids[cells[most]])), before[most], images[most]))
        return tuple(found)

    def _columns(self, one: GeneSet) -> NDArray[np.int64]:
        return np.array([self.columns[gene] for gene in one.gene_ids], np.int64)

    def _moved(self, one: GeneSet) -> NDArray[np.bool_]:
        """Return the cells that a change alters: the others keep their image to the bit, so they are not drawn."""
        columns = self._columns(one)
        after = self.change.apply(self.counts, columns)
        moved: NDArray[np.bool_] = (after[:, columns] != self.counts[:, columns]).any(axis=1)
        return moved

    def _changed(self, one: GeneSet) -> tuple[NDArray[np.int64], Counts]:
        cells = np.flatnonzero(self._moved(one))
        return cells, self.change.apply(self.counts[cells], self._columns(one))

    def _blocks(self, sets: Sequence[GeneSet]) -> Iterator[list[tuple[NDArray[np.int64], Counts]]]:
        """Yield changes together until they fill a batch."""
        block: list[tuple[NDArray[np.int64], Counts]] = []
        for one in sets:
            block.append(self._changed(one))
            if sum(len(cells) for cells, _ in block) >= AT_ONCE:
                yield block
                block = []
        if block:
            yield block

    def _difference(self, cells: NDArray[np.int64], counts: Counts) -> NDArray[np.float64]:
        if not len(cells):
            return np.zeros((0, len(self.readings.names)))
        images = self.drawer(cells, self.encoder(cells, counts))
        return self.readings.difference(images, self.before[cells], self.read_before[cells])


def _as_they_are(
    chosen: ChosenCells, session: Session, maker: Generator, section: NDArray[np.int64], row: NDArray[np.int64]
) -> Asked:
    """Return what the generator is told of the cells; their noise is a function of their place in the corpus."""
    place = {name: number for number, name in enumerate(chosen.corpus.sections)}
    in_corpus = torch.tensor([place[chosen.samples[number]] for number in section.tolist()], dtype=torch.int64)
    rows = torch.from_numpy(row)
    found = CellConditions(session.sections).read(torch.from_numpy(section), rows)
    told = {name: value for name, value in found.items() if name in maker.config.told}
    return Asked(row_keys(in_corpus, rows), told, everywhere(told, len(rows)))


def _make_drawer(maker: Generator, asked: Asked, settings: ScreenSettings) -> Drawer:
    solver = maker.config.solver
    if settings.evaluations is not None:
        solver = replace_evaluations(solver, settings.evaluations)
    how = Drawing(settings.draws, settings.seed, solver, settings.guidance)
    if settings.fast is None:
        return PathDrawer(maker, how)
    return MomentDrawer(maker, how, asked, settings.fast)


def _facts(
    corpus: Corpus,
    maker: Generator,
    chosen: ChosenCells,
    readings: Readings,
    settings: ScreenSettings,
    n_changes: int,
    seconds: float,
) -> dict[str, Any]:
    ids = chosen.obs.index.astype(str).to_numpy(object)
    return {
        "format": FORMAT,
        "format_version": 1,
        "caveat": CAVEAT,
        "synthetic": True,
        "spatia_version": __version__,
        "corpus_id": corpus.corpus_id,
        "generator": maker.generator_id,
        "model": maker.model_id,
        "settings": settings.model_dump(mode="json"),
        "device": str(maker.network.device),
        "n_changes": n_changes,
        "n_reference": len(chosen.reference),
        "readings": [n for n in readings.names if n != IMAGE_SHIFT],
        "score": None if readings.score is None else {"name": readings.score.name, **readings.score.quality},
        "cells": [
            {"sample": str(sample), "cell_id": str(name)}
            for sample, name in zip(chosen.obs[SAMPLE].iloc[chosen.changed], ids[chosen.changed], strict=True)
        ],
        "channels": list(maker.space.channels),
        "seconds": seconds,
        "torch_threads": torch.get_num_threads(),
    }
