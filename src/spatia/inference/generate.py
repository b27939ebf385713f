"""Images for the cells or niches of a corpus, as an AnnData zarr that says of itself that they were generated."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import write_json
from spatia.corpus.settings import StorageSettings
from spatia.corpus.store import array_in, create_rows, create_store, finish_store, subgroup, write_element, write_uns
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.inference.conditions import (
    CellConditions,
    SourceReader,
    cell_conditions,
    everywhere,
    transition_conditions,
)
from spatia.inference.generator import AT_ONCE, Asked, Drawing, Generator
from spatia.log import duration, logger, progress
from spatia.models.levels import check_levels
from spatia.nn.hashing import row_keys
from spatia.pairing.pairs import Pairs, read_pairs
from spatia.version import __version__

SHARD_BYTES: Final = 32 * 2**20  # of images that are in memory at once
PROGRESS_FILE: Final = "spatia_progress.json"


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

    def at_most(self, limit: int | None) -> "Wanted":
        """Return at most so many rows, spread evenly."""
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise SettingsError(f"limit={limit}: expected at least 1.")
        return self.take(np.linspace(0, len(self) - 1, limit).round().astype(np.int64))


def generate(
    corpus: Corpus | str | Path,
    generator: Generator | str | Path,
    out: str | Path,
    *,
    draws: int = 1,
    seed: int = 0,
    sections: Sequence[str] | None = None,
    split: str | None = None,
    part: str | None = None,
    limit: int | None = None,
    transition: str | None = None,
    pairs: str | Path | None = None,
    cells: Sequence[str] | None = None,
    device: str = "auto",
    **drawing: Any,
) -> Path:
    """Draw an image (or several) for cells of a corpus: from expression and surroundings, or after a transition.

    Parameters
    ----------
    corpus, generator
        Folders, or opened.
    out
        ``….zarr`` to write.
    draws, seed, drawing
        Fields of :class:`spatia.inference.generator.Drawing`.
    sections
        Names of sections; all by default.
    split, part
        Only the cells (or whole niches) of a part of a split.
    limit
        At most so many cells, spread evenly.
    transition
        Name of a transition that the generator knows; None with ``pairs``: all of these.
    pairs
        Folder of pairs: the sources of ``part`` (by default ``test``) are drawn, and their likeliest partner is noted.
    cells
        Ids of cells to draw.
    device
        ``"auto"``: a GPU where there is one.

    Returns
    -------
    The path of an AnnData zarr: a row an image; ``obs`` ``cell_id, sample, draw, synthetic``; ``obsm["single_cell_images"]``; and
    ``uns["spatia"]`` with ``synthetic: true`` and how they were made. A killed run continues with the next call.

    Raises
    ------
    SettingsError, CorpusError, ModelError
        If something does not go together.
    """
    path = Path(out)
    if path.suffix != ".zarr":
        raise SettingsError(f"{path}: expected a name that ends in .zarr.")
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    maker = generator if isinstance(generator, Generator) else Generator.load(generator, device=device)
    how = Drawing(draws, seed, **drawing)
    check_levels(opened.levels, maker.model.config, corpus=opened.path)
    names = list(opened.sections) if sections is None else [opened.section(name).sample for name in sections]
    if pairs is not None:
        wanted = rows_of_pairs(maker, names, read_pairs(pairs, opened), transition, part or "test")
    else:
        wanted = choose_rows(opened, maker, names, split=split, part=part, cells=cells)
        wanted = _with_transition(wanted, maker, transition)
    wanted = wanted.at_most(limit)
    with asking(opened, maker, names, device=device) as asker:
        return write_images(path, maker, wanted, how, asker, opened)


@contextmanager
def asking(corpus: Corpus, maker: Generator, names: Sequence[str], *, device: str = "auto") -> Iterator["Asker"]:
    """Yield what gives the conditions of rows; the cells of the sections are embedded for it."""
    with cell_conditions(corpus, maker.model, sections=names, device=device) as conditions:
        yield Asker(corpus, maker, conditions, names)


@contextmanager
def ask_for_cells(
    corpus: Corpus | str | Path, maker: Generator, cells: Sequence[str], transition: str | None
) -> Iterator[Asked]:
    """Yield what is known of named cells."""
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    check_levels(opened.levels, maker.model.config, corpus=opened.path)
    wanted = _with_transition(choose_rows(opened, maker, list(opened.sections), cells=cells), maker, transition)
    names = list(dict.fromkeys(wanted.sample.tolist()))  # only these sections are embedded
    numbers = np.array([names.index(name) for name in wanted.sample], np.int64)
    with asking(opened, maker, names, device=str(maker.network.device)) as asker:
        yield asker(replace(wanted, section=numbers))


def _with_transition(wanted: Wanted, maker: Generator, transition: str | None) -> Wanted:
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


class Asker:
    """Gives what is known of wanted rows; use :func:`asking`."""

    def __init__(self, corpus: Corpus, maker: Generator, conditions: CellConditions, names: Sequence[str]) -> None:
        self._maker, self._conditions = maker, conditions
        self._number = {sample: number for number, sample in enumerate(corpus.sections)}
        self._niches = self._sources = None
        if maker.config.level == "niche":
            self._niches = RowReader([corpus], "niche", vocabulary=maker.model.vocabulary, sections=names, read=())
        if maker.config.task == "transition":
            self._sources = SourceReader(corpus, maker.model, names)

    def __call__(self, wanted: Wanted) -> Asked:
        """Return the conditions of rows, in their order."""
        if self._sources is not None:
            return self._transitions(wanted, self._sources)
        if self._niches is not None:
            return self._of_niches(wanted, self._niches)
        sections, rows = torch.from_numpy(wanted.section), torch.from_numpy(wanted.row)
        conditions = self._conditions.read(sections, rows)
        return Asked(self._keys(wanted), conditions, everywhere(conditions, len(rows)))

    def _keys(self, wanted: Wanted) -> Tensor:
        """Return what the noise of each row is a function of: its place in the corpus, whatever else is drawn."""
        section = torch.tensor([self._number[str(name)] for name in wanted.sample], dtype=torch.int64)
        return row_keys(section, torch.from_numpy(wanted.row))

    def _of_niches(self, wanted: Wanted, niches: RowReader) -> Asked:
        parts = [
            self._conditions.of_niches(niches(number, wanted.row[wanted.section == number]))
            for number in dict.fromkeys(wanted.section.tolist())
        ]
        return Asked(
            self._keys(wanted),
            {name: torch.cat([part.conditions[name] for part in parts]) for name in parts[0].conditions},
            {name: torch.cat([part.known[name] for part in parts]) for name in parts[0].known},
        )

    def _transitions(self, wanted: Wanted, sources: SourceReader) -> Asked:
        section, row = torch.from_numpy(wanted.section), torch.from_numpy(wanted.row)
        names = self._maker.transitions
        number = torch.tensor([names.index(str(name)) for name in wanted.columns["transition"]])
        read = {n: sources(n, wanted.row[wanted.section == n]) for n in dict.fromkeys(wanted.section.tolist())}
        space, width = self._maker.space, self._maker.model.config.cell_width
        images = torch.zeros(len(wanted), len(space.channels), space.px, space.px, dtype=torch.uint8)
        control = torch.zeros(len(wanted), width)
        for n, found in read.items():
            images[section == n], control[section == n] = found.images, found.control
            if not bool(found.has_image.all()):
                missing = wanted.cell_id[wanted.section == n][~found.has_image.numpy()][0]
                raise SettingsError(
                    f"Source cell {missing!r} has no image, so there is nothing to begin at. Leave it out."
                )
        around = self._conditions.read(section, row)
        deltas = self._maker.deltas
        conditions = {
            "control": control,
            "niche": around["niche"],
            "tissue": around["tissue"],
            **transition_conditions(names, number, deltas),
        }
        key = self._keys(wanted) * len(names) + number
        return Asked(key, conditions, everywhere(conditions, len(wanted)), images)


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
    if cells is not None:
        chosen = np.isin(wanted.cell_id.astype(str), np.asarray(list(cells), str))
        if absent := sorted(set(map(str, cells)) - set(map(str, wanted.cell_id[chosen]))):
            raise SettingsError(f"{corpus.path}: {len(absent)} of the cells are not there, first {absent[0]!r}.")
        wanted = wanted.take(np.flatnonzero(chosen))
    return wanted


def write_images(
    path: Path, maker: Generator, wanted: Wanted, how: Drawing, asker: Asker, corpus: Corpus, **facts: Any
) -> Path:
    """Draw and write, shard by shard, so that a killed run goes on behind the last whole shard.

    Parameters
    ----------
    asker
        Gives what is known of rows: ``asker(wanted) -> Asked``.
    facts
        Further entries of ``uns["spatia"]``.
    """
    n, images = len(wanted) * how.draws, maker.space
    shape = (n, len(images.channels), images.px, images.px)
    shard = max(1, min(SHARD_BYTES // int(np.prod(shape[1:])), 2048)) // 64 * 64 or 64
    # whole cells to a block, and whole blocks to a shard
    cells_a_block = max(1, shard // how.draws)
    storage = StorageSettings(chunk_rows=64, shard_rows=shard) if cells_a_block * how.draws == shard else None
    storage = storage or StorageSettings(chunk_rows=cells_a_block * how.draws, shard_rows=cells_a_block * how.draws)
    request = _request(maker, wanted, how, corpus)
    aside = path.with_name(f".{path.name}.part")
    done = _begin(aside, request)
    if done is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        root = create_store(aside)
        create_rows(subgroup(root, "obsm"), keys.CELL_IMAGES, shape, np.uint8, storage)
        done = 0
        write_json(aside / PROGRESS_FILE, {"request": request, "done": done, "evaluations": 0})
    import zarr

    root = zarr.open_group(aside, mode="a")
    array = array_in(subgroup(root, "obsm"), keys.CELL_IMAGES)
    evaluations = int(json.loads((aside / PROGRESS_FILE).read_bytes())["evaluations"])
    _estimate(maker, asker, wanted, how, n - done)
    with progress("generating", n, "images", done=done) as advance:
        for start in range(done // how.draws, len(wanted), cells_a_block):
            stop = min(start + cells_a_block, len(wanted))
            drawn = maker.draw(asker(wanted.take(slice(start, stop))), how)
            first = start * how.draws
            array[first : first + (stop - start) * how.draws] = drawn.images.reshape(-1, *shape[1:])
            evaluations = max(evaluations, drawn.evaluations)
            record = {"request": request, "done": stop * how.draws, "evaluations": evaluations}
            write_json(aside / PROGRESS_FILE, record)
            advance((stop - start) * how.draws)
    write_element(root, "obs", _obs(wanted, how.draws))
    write_element(root, "var", pd.DataFrame(index=pd.Index([], dtype=object, name="gene_id")))
    write_uns(root, {"spatia": _facts(maker, how, evaluations, corpus) | facts})
    (aside / PROGRESS_FILE).unlink()
    finish_store(aside)
    if path.exists():
        shutil.rmtree(path)
    aside.replace(path)
    return path


def _begin(aside: Path, request: str) -> int | None:
    """Return the images that stand already; None where the store must be begun."""
    record = aside / PROGRESS_FILE
    if record.is_file():
        state = json.loads(record.read_bytes())
        if state["request"] == request:
            logger.info("%s: going on after %d images", aside, state["done"])
            return int(state["done"])
    if aside.exists():
        shutil.rmtree(aside)
    return None


def _request(maker: Generator, wanted: Wanted, how: Drawing, corpus: Corpus) -> str:
    digest = hashlib.sha256()
    solver = None if how.solver is None else how.solver.model_dump()
    network = maker.network.network
    merging = [block.merge for block in network.blocks] if hasattr(network, "blocks") else []  # type: ignore[union-attr]
    content = [maker.generator_id, corpus.corpus_id, asdict(how) | {"solver": solver}, merging]
    digest.update(json.dumps(content, sort_keys=True, default=str).encode())
    for values in (wanted.section, wanted.row):
        digest.update(np.ascontiguousarray(values).tobytes())
    for name in sorted(wanted.columns):
        digest.update(json.dumps([str(value) for value in wanted.columns[name]]).encode())
    return digest.hexdigest()


def _estimate(maker: Generator, asker: Asker, wanted: Wanted, how: Drawing, n_left: int) -> None:
    """Time one evaluation of the network, and say how long it all will take."""
    some = min(AT_ONCE, len(wanted))
    asked = asker(wanted.take(slice(0, some)))
    one = Drawing(1, how.seed, maker.config.solver.model_copy(update={"kind": "euler", "evaluations": 1}), how.guidance)
    maker.draw(asked, one)  # allocates and chooses kernels
    began = time.perf_counter()
    maker.draw(asked, one)
    solver = how.solver or maker.config.solver
    seconds = (time.perf_counter() - began) / some * solver.evaluations * n_left
    logger.info(
        "%d images of %d evaluations each (%s): about %s", n_left, solver.evaluations, solver.kind, duration(seconds)
    )


def _obs(wanted: Wanted, draws: int) -> pd.DataFrame:
    def each(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, draws)

    draw = np.tile(np.arange(draws), len(wanted))
    cell_id, sample = each(wanted.cell_id), each(wanted.sample)
    index = [f"{s}:{c}:{number}:{d}" for number, (s, c, d) in enumerate(zip(sample, cell_id, draw, strict=True))]
    frame = pd.DataFrame({keys.CELL_ID: cell_id, "sample": pd.Categorical(sample), "draw": draw}, index=index)
    for name, values in wanted.columns.items():
        frame[name] = each(values)
    frame["synthetic"] = True
    return frame


def _facts(maker: Generator, how: Drawing, evaluations: int, corpus: Corpus) -> dict[str, Any]:
    config, space = maker.config, maker.space
    solver = how.solver or config.solver
    told: Iterator[str] = (name for name in config.told if name not in how.drop)
    return {
        "synthetic": True,
        "task": config.task,
        "level": config.level,
        "generator": maker.generator_id,
        "model": maker.model_id,
        "version": __version__,
        "corpus": corpus.corpus_id,
        "seed": how.seed,
        "channels": np.array(space.channels, dtype=object),
        "um_per_px": space.um_per_px,
        "solver": solver.kind,
        "evaluations": evaluations,
        "guidance": config.guidance if how.guidance is None else how.guidance,
        "conditions": np.array(list(told), dtype=object),
    }
