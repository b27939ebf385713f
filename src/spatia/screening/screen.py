"""Change genes in chosen cells, draw the cells again, and say what moved: the whole screen.

What a generator predicts is association that it has learned, not proof of cause (``docs/screen.md``).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from spatia import keys
from spatia.config import make_settings
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.inference.asked import Asked
from spatia.inference.conditions import CellConditions, cell_conditions, everywhere
from spatia.inference.drawing import Drawing
from spatia.inference.generator import AT_ONCE, Generator, replace_evaluations
from spatia.log import duration, logger, progress
from spatia.models.levels import check_levels
from spatia.nn.hashing import row_keys
from spatia.pairing.cells import ROW
from spatia.readout.alignment import Shift
from spatia.screening.cells import ChosenCells, Table, choose_cells, level_share
from spatia.screening.counts import CountReader
from spatia.screening.drawing import CellEncoder, Drawer, MomentDrawer, PathDrawer, without_surroundings
from spatia.screening.effects import Effects, EffectSum
from spatia.screening.genes import GeneSet, choose_gene_sets, permuted
from spatia.screening.perturbation import Change, Counts, input_change
from spatia.screening.readers import EmbeddingReader, ImageReader, Reader, pixels_moved
from spatia.screening.readings import IMAGE_SHIFT, Readings, make_readings
from spatia.screening.result import FORMAT, Screen, Strip, check_out, effects_table, ranking_table, write_screen
from spatia.screening.settings import ScreenSettings
from spatia.screening.surroundings import NicheFollower
from spatia.version import __version__

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
    how = make_settings(ScreenSettings, settings, where="screen")
    if out is not None:
        check_out(Path(out))
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    maker = generator if isinstance(generator, Generator) else Generator.load(generator, device=device)
    check_generator(maker)
    check_levels(opened.levels, maker.model.config, corpus=opened.path)
    chosen = choose_cells(opened, maker.channels, how, cells)
    known = maker.model.vocabulary.genes
    named = choose_gene_sets(opened, known, chosen.samples, genes, sets)
    changed_sets = named
    if how.permute_genes:
        possible = [one.gene_ids[0] for one in choose_gene_sets(opened, known, chosen.samples)]
        changed_sets = permuted(named, possible, how.seed)
    result = _screen(maker, chosen, named, changed_sets, how)
    if out is not None:
        write_screen(result, Path(out), draw)
    return result


def _screen(
    maker: Generator, chosen: ChosenCells, named: Sequence[GeneSet], sets: Sequence[GeneSet], how: ScreenSettings
) -> Screen:
    """Make the changes ``sets``, and report them under the names of ``named``."""
    began = time.perf_counter()
    readings = make_readings(chosen, maker.channels, maker.space.um_per_px, how.score)
    if how.shuffle_images:
        readings = readings.exchanged(how.seed)
    counts = CountReader(chosen, maker.model)
    change = Change(how.factor, None if how.level_of is None else level_share(chosen, how.level_of, counts))
    columns = {gene: column for column, gene in enumerate(maker.model.vocabulary.genes)}
    run = _Run(how, readings, counts(chosen.changed), columns, change)
    readout = EmbeddingReader(maker.model, chosen, counts, readings) if how.read == "embedding" else None
    drawn, moved = None, dict[str, Shift]()
    if readout is None or how.n_drawn:
        drawn, moved = _image_reader(maker, chosen, counts, readings, how)
    reader = readout or drawn
    assert reader is not None
    effects, moved_input = run.effects(sets, reader)
    ranking = ranking_table(named, readings, effects, moved_input, by=how.rank_by)
    strips: tuple[Strip, ...] = ()
    if drawn is not None:
        ids = chosen.obs.index.astype(str).to_numpy(object)[chosen.changed]
        strips = _draw_first(run, drawn, dict(zip([one.name for one in named], sets, strict=True)), ranking, ids)
    facts = _facts(maker, chosen, readings, how, len(named), time.perf_counter() - began)
    facts["readout"] = None if readout is None else readout.quality
    facts["aligned"] = {name: shift.to_json() for name, shift in moved.items()}
    return Screen(effects_table(named, readings, effects), ranking, strips, facts)


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
class _Run:
    """The chosen cells as they are, and what changes them.

    Attributes
    ----------
    counts
        (cells, genes) of the chosen cells, over the genes of the model.
    columns
        Of the genes.
    """

    settings: ScreenSettings
    readings: Readings
    counts: Counts
    columns: dict[str, int]
    change: Change

    def effects(self, sets: Sequence[GeneSet], reader: Reader) -> tuple[Effects, NDArray[np.float64]]:
        """Make every change in every cell; beside the effects, how much the input changes."""
        total = EffectSum(len(self.counts), self.settings.resamples, self.settings.seed)
        n_pairs = sum(len(self.changed(one)[0]) for one in sets)
        self._estimate(sets, reader, n_pairs)
        moved_input = []
        with progress("screening", n_pairs, "changed cells") as advance:
            for block in self._blocks(sets):
                cells, counts = (np.concatenate(part) for part in zip(*block, strict=True))
                found = reader(cells, counts) if len(cells) else np.zeros((0, len(self.readings.names)))
                start = 0
                for some, after in block:
                    total.add(some, found[start : start + len(some)])
                    moved_input.append(input_change(self.counts[some], after).sum() / len(self.counts))
                    start += len(some)
                advance(start)
        return total.finish(len(self.readings.names) - 1), np.array(moved_input)

    def changed(self, one: GeneSet) -> tuple[NDArray[np.int64], Counts]:
        """Return the cells that a change alters, and their counts after it: the others keep their image to the bit."""
        columns = np.array([self.columns[gene] for gene in one.gene_ids], np.int64)
        after = self.change.apply(self.counts, columns)
        cells = np.flatnonzero((after[:, columns] != self.counts[:, columns]).any(axis=1))
        return cells, after[cells]

    def _blocks(self, sets: Sequence[GeneSet]) -> Iterator[list[tuple[NDArray[np.int64], Counts]]]:
        """Yield changes together until they fill a batch."""
        block: list[tuple[NDArray[np.int64], Counts]] = []
        for one in sets:
            block.append(self.changed(one))
            if sum(len(cells) for cells, _ in block) >= AT_ONCE:
                yield block
                block = []
        if block:
            yield block

    def _estimate(self, sets: Sequence[GeneSet], reader: Reader, n_pairs: int) -> None:
        """Time one small batch, and say how long it all will take."""
        some = np.arange(min(len(self.counts), 16))
        reader(some, self.counts[some])  # allocates and chooses kernels
        began = time.perf_counter()
        reader(some, self.counts[some])
        seconds = (time.perf_counter() - began) / len(some) * n_pairs
        logger.info(
            "%d changes alter %d times one of %d cells; images drawn: %d; about %s",
            len(sets), n_pairs, len(self.counts), n_pairs * reader.images_a_cell, duration(seconds),
        )  # fmt: skip


def _draw_first(
    run: _Run, drawn: ImageReader, sets: Mapping[str, GeneSet], ranking: pd.DataFrame, ids: NDArray[np.object_]
) -> tuple[Strip, ...]:
    """Draw the first changes of the ranking, and note in it how far their images move; show the cells that move most."""
    found = []
    for at in ranking.index[ranking["n_changed"] > 0][: run.settings.n_drawn]:
        name = str(ranking.loc[at, "name"])
        cells, counts = run.changed(sets[name])
        images, before = drawn.draw(cells, counts), drawn.before[cells]
        moved = pixels_moved(images, before)
        ranking.loc[at, IMAGE_SHIFT] = moved.sum() / len(run.counts)
        most = np.argsort(-moved, kind="stable")[:CELLS_A_STRIP]
        found.append(Strip(name, tuple(map(str, ids[cells[most]])), before[most, 0], images[most, 0]))
    return tuple(found)


def _image_reader(
    maker: Generator, chosen: ChosenCells, counts: CountReader, readings: Readings, how: ScreenSettings
) -> tuple[ImageReader, dict[str, Shift]]:
    """Return what reads drawn images, and how sections that the generator did not learn from were moved."""
    sample = chosen.obs[keys.SAMPLE].to_numpy(object)[chosen.changed]
    section = np.array([chosen.samples.index(str(name)) for name in sample], np.int64)
    row = chosen.obs[ROW].to_numpy(np.int64)[chosen.changed]
    rows = chosen.rows_by_section(chosen.changed)
    device, follower = str(maker.network.device), None
    references = maker.references if how.align else ()
    with cell_conditions(
        chosen.corpus, maker.model, sections=chosen.samples, rows=rows, device=device, references=references
    ) as told:
        base, shifts = _as_they_are(chosen, told, maker, section, row), told.shift_of(torch.from_numpy(section))
        if how.surroundings == "drop":
            base = without_surroundings(base)
        elif how.surroundings == "follow" and "niche" in base.conditions:
            follower = NicheFollower(chosen.corpus, maker.model, told.sections, section, row)
        moved = told.shifts
    encoder = CellEncoder(maker, base, counts.visible(chosen.changed), follower, shifts)
    own = counts(chosen.changed)
    drawer = _make_drawer(maker, encoder(np.arange(len(own)), own), how)
    return ImageReader(encoder, drawer, readings, own), moved


def _as_they_are(
    chosen: ChosenCells, told: CellConditions, maker: Generator, section: NDArray[np.int64], row: NDArray[np.int64]
) -> Asked:
    """Return what the generator is told of the cells; their noise is a function of their place in the corpus."""
    place = {name: number for number, name in enumerate(chosen.corpus.sections)}
    in_corpus = torch.tensor([place[chosen.samples[number]] for number in section.tolist()], dtype=torch.int64)
    rows = torch.from_numpy(row)
    found = told.read(torch.from_numpy(section), rows)
    conditions = {name: value for name, value in found.items() if name in maker.config.told}
    return Asked(row_keys(in_corpus, rows), conditions, everywhere(conditions, len(rows)))


def _make_drawer(maker: Generator, asked: Asked, settings: ScreenSettings) -> Drawer:
    solver = maker.config.solver
    if settings.evaluations is not None:
        solver = replace_evaluations(solver, settings.evaluations)
    how = Drawing(settings.draws, settings.seed, solver, settings.guidance)
    if settings.fast is None:
        return PathDrawer(maker, how)
    return MomentDrawer(maker, how, asked, settings.fast)


def _facts(
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
        "corpus_id": chosen.corpus.corpus_id,
        "generator": maker.generator_id,
        "model": maker.model_id,
        "settings": settings.model_dump(mode="json"),
        "device": str(maker.network.device),
        "n_changes": n_changes,
        "n_reference": len(chosen.reference),
        "readings": [n for n in readings.names if n != IMAGE_SHIFT],
        "score": None if readings.score is None else {"name": readings.score.name, **readings.score.quality},
        "cells": [
            {keys.SAMPLE: str(sample), "cell_id": str(name)}
            for sample, name in zip(chosen.obs[keys.SAMPLE].iloc[chosen.changed], ids[chosen.changed], strict=True)
        ],
        "channels": list(maker.channels),
        "seconds": seconds,
        "torch_threads": torch.get_num_threads(),
    }
