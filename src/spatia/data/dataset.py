"""Read pools: the rows of many batches at once, in as few contiguous reads as possible. No torch, no shuffling."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.table import Table
from spatia.data.samplers import Draw
from spatia.data.sources import Source
from spatia.errors import CorpusError

READABLE = frozenset({"images", "masks", "counts", "morphology"})
_SECTION_SHIFT = 40  # a row of a section as one integer: section << 40 | row
_GAP_ROWS = 64  # rows skipped inside one read rather than starting another: they share a chunk anyway


@dataclass(frozen=True)
class Rows:
    """Rows of a pool of one level: each once, ascending by (section, row).

    Attributes
    ----------
    key
        (n,) section and row as one ascending integer.
    position_um
        (n, 2) float32.
    images
        (n, channels, y, x) uint8 over the vocabulary's channels, or None.
    channels_present
        (n, channels).
    """

    key: NDArray[np.int64]
    position_um: NDArray[np.float32]
    images: NDArray[np.uint8] | None
    channels_present: NDArray[np.bool_]

    @property
    def draw(self) -> Draw:
        """All rows in order."""
        return from_keys(self.key)

    def find(self, draw: Draw) -> NDArray[np.int64]:
        """Return where the drawn rows stand in this pool."""
        return np.searchsorted(self.key, to_keys(draw))


@dataclass(frozen=True)
class CellRows(Rows):
    """Cells of a pool; fields as in :class:`spatia.data.batch.CellBatch`, counts as CSR over the vocabulary."""

    image_share: NDArray[np.float32]
    masks: NDArray[np.uint8] | None
    mask_present: NDArray[np.bool_]
    counts: sp.csr_matrix | None
    morphology: NDArray[np.float32] | None
    morphology_measured: NDArray[np.bool_] | None


@dataclass(frozen=True)
class NicheRows(Rows):
    """Niches of a pool with their cells; members of niche i are ``member[offsets[i]:offsets[i + 1]]`` (cell keys)."""

    offsets: NDArray[np.int64]
    member: NDArray[np.int64]
    centre: NDArray[np.int64]
    cells: CellRows


@dataclass(frozen=True)
class TissueRows(Rows):
    """Tissue windows of a pool; niches of window i are ``niche[offsets[i]:offsets[i + 1]]`` (niche keys)."""

    offsets: NDArray[np.int64]
    niche: NDArray[np.int64]
    niches: NicheRows


def to_keys(draw: Draw) -> NDArray[np.int64]:
    """Write (section, row) as one integer that sorts the same way."""
    return draw.section << _SECTION_SHIFT | draw.row


def from_keys(key: NDArray[np.int64]) -> Draw:
    """Undo :func:`to_keys`."""
    return Draw(key >> _SECTION_SHIFT, key & ((1 << _SECTION_SHIFT) - 1))


class PoolReader:
    """Reads the rows of a pool at one level. Holds paths only, so it travels to worker processes.

    Parameters
    ----------
    sources
        The sections.
    level
        ``"cell" | "niche" | "tissue"``.
    px
        Pixels of a crop, per level.
    n_channels, n_genes, n_features
        Size of the vocabulary.
    read
        Which of ``"images", "masks", "counts", "morphology"`` of the cells to read; images of niches and windows are always read.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        level: str,
        *,
        px: dict[str, int],
        n_channels: int,
        n_genes: int,
        n_features: int,
        read: frozenset[str],
    ) -> None:
        self.sources, self.level, self.px = sources, level, px
        self.n_channels, self.n_genes, self.n_features, self.read = n_channels, n_genes, n_features, read

    def __call__(self, batches: Sequence[Draw]) -> CellRows | NicheRows | TissueRows:
        """Read every row that the batches draw, once."""
        key = np.unique(np.concatenate([np.empty(0, np.int64), *(to_keys(draw) for draw in batches)]))
        readers: dict[str, Callable[[NDArray[np.int64]], Any]] = {
            "cell": self.cells,
            "niche": self.niches,
            "tissue": self.tissues,
        }
        return readers[self.level](key)

    def cells(self, key: NDArray[np.int64]) -> CellRows:
        """Read cells: crops, masks and counts, each in a thread (zarr decodes outside the interpreter's lock)."""
        with ThreadPoolExecutor(3) as executor:
            masks = executor.submit(self._masks, key)
            counts = executor.submit(self._joint_counts, key)
            rows = self._rows("cell", key, "images" in self.read)
        share = np.zeros(len(key), np.float32)
        for source, at, row in self._by_section(key):
            if source.section.cells.has(f"obsm/{keys.CELL_IMAGES}"):
                share[at] = _take(source.section.cells, "obs/image_share", row)
        share[~rows.channels_present.any(axis=1)] = 0
        base = {field.name: getattr(rows, field.name) for field in fields(Rows)}
        present, pixels = masks.result()
        morphology, measured = self._morphology(key)
        return CellRows(
            **base,
            image_share=share,
            masks=pixels,
            mask_present=present,
            counts=counts.result(),
            morphology=morphology,
            morphology_measured=measured,
        )

    def _morphology(self, key: NDArray[np.int64]) -> tuple[NDArray[np.float32] | None, NDArray[np.bool_] | None]:
        """Read measured features by name; a section may lack some of them, and a cell may lack any (NaN on disk)."""
        if "morphology" not in self.read:
            return None, None
        values = np.full((len(key), self.n_features), np.nan, np.float32)
        for source, at, row in self._by_section(key):
            for name, column in source.features:
                values[at, column] = _take(source.section.cells, f"obsm/{keys.MORPHOLOGY}/{name}", row)
        measured = np.isfinite(values)
        return np.where(measured, values, np.float32(0)), measured

    def _masks(self, key: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.uint8] | None]:
        px, present = self.px["cell"], np.zeros(len(key), bool)
        masks = np.zeros((len(key), px, px), np.uint8) if "masks" in self.read else None
        for source, at, row in self._by_section(key):
            table = source.section.cells
            if table.has(f"obsm/{keys.CELL_MASKS}"):
                present[at] = _take(table, "obs/has_outline", row)
                if masks is not None:
                    _check_crops(table, f"obsm/{keys.CELL_MASKS}", (px, px))
                    _fill(masks[at], table, f"obsm/{keys.CELL_MASKS}", row)
        return present, masks

    def niches(self, key: NDArray[np.int64]) -> NicheRows:
        """Read niches and every cell of them."""
        rows = self._rows("niche", key, images=True)
        members, centre = [], np.full(len(key), -1, np.int64)
        for source, at, row in self._by_section(key):
            home = key[at] - row  # the section's share of a cell key is that of a niche key
            members += [cells + h for cells, h in zip(_members(source, row), home, strict=True)]
            if not source.partitioned:
                centre[at] = key[at]  # niche i is the niche of cell i
        offsets = np.cumsum([0, *(len(cells) for cells in members)])
        member = np.concatenate([np.empty(0, np.int64), *members])
        base = {field.name: getattr(rows, field.name) for field in fields(Rows)}
        cells = self.cells(np.unique(member))
        return NicheRows(**base, offsets=offsets, member=member, centre=centre, cells=cells)

    def tissues(self, key: NDArray[np.int64]) -> TissueRows:
        """Read windows, every niche of them and every cell of these."""
        rows = self._rows("tissue", key, images=True)
        niches = []
        for source, at, row in self._by_section(key):
            start, stop = (
                _take(source.section.tissues, f"obs/{name}", row).astype(np.int64) for name in source.window_niches
            )
            home = key[at] - row
            for first, end, shift in zip(start, stop, home, strict=True):
                inside = np.arange(first, end)
                # a niche around a cell is selected with that cell
                inside = inside if source.partitioned else inside[source.shown(inside)]
                niches.append(inside + shift)
        offsets = np.cumsum([0, *(len(rows_of_window) for rows_of_window in niches)])
        niche = np.concatenate([np.empty(0, np.int64), *niches])
        base = {field.name: getattr(rows, field.name) for field in fields(Rows)}
        return TissueRows(**base, offsets=offsets, niche=niche, niches=self.niches(np.unique(niche)))

    def _rows(self, level: str, key: NDArray[np.int64], images: bool) -> Rows:
        """Read what all levels have: positions and images."""
        n, px = len(key), self.px[level]
        position_um = np.zeros((n, 2), np.float32)
        pixels = np.zeros((n, self.n_channels, px, px), np.uint8) if images else None
        present = np.zeros((n, self.n_channels), bool)
        array = f"obsm/{keys.CELL_IMAGES if level == 'cell' else keys.IMAGES}"
        for source, at, row in self._by_section(key):
            table = source.section.table(level)
            position_um[at] = _take(table, f"obsm/{keys.SPATIAL}", row)
            if not table.has(array):
                continue
            wanted = source.channel_index >= 0
            channel = source.channel_index[wanted]
            # corpora of before do not say it of niches and windows
            shown = level == "cell" or table.has("obs/has_image")
            has_image = _take(table, "obs/has_image", row).astype(bool) if shown else np.ones(len(row), bool)
            present[at.start : at.stop, channel] = has_image[:, None]
            if pixels is not None:
                _check_crops(table, array, (len(source.channel_index), px, px))
                whole = wanted.all() and np.array_equal(channel, np.arange(self.n_channels))
                _fill(pixels[at], table, array, row, None if whole else (wanted, channel))
        return Rows(key, position_um, pixels, present)

    def _joint_counts(self, key: NDArray[np.int64]) -> sp.csr_matrix | None:
        if "counts" not in self.read:
            return None
        counts = [self._counts(source, row) for source, _, row in self._by_section(key)]
        return sp.vstack([sp.csr_matrix((0, self.n_genes), dtype=np.float32), *counts], "csr")

    def _counts(self, source: Source, row: NDArray[np.int64]) -> sp.csr_matrix:
        """Counts of cells over the vocabulary; genes outside it are left out."""
        parts = [source.section.cells.read_csr("X", int(r[0]), int(r[-1]) + 1)[r - r[0]] for r in _runs(row)]
        panel = sp.vstack(parts, "csr")
        if len(source.gene_columns) != panel.shape[1]:
            raise CorpusError(
                f"{source.section.cells.path}: X has {panel.shape[1]} columns, but var names "
                f"{len(source.gene_columns)} genes. Run `spatia verify`."
            )
        column = source.gene_columns.astype(np.int32)[panel.indices]
        kept = column >= 0
        before = np.concatenate([[0], np.cumsum(kept)])  # entries kept before each entry
        entries = (panel.data[kept].astype(np.float32), column[kept], before[panel.indptr])
        return sp.csr_matrix(entries, shape=(len(row), self.n_genes))

    def _by_section(self, key: NDArray[np.int64]) -> list[tuple[Source, slice, NDArray[np.int64]]]:
        """Cut sorted keys by section: the source, where its rows stand, and the rows."""
        draw = from_keys(key)
        sections = np.unique(draw.section)
        start = np.searchsorted(draw.section, sections)
        stop = np.searchsorted(draw.section, sections, side="right")
        pieces = zip(sections, start, stop, strict=True)
        return [(self.sources[s], slice(int(a), int(b)), draw.row[a:b]) for s, a, b in pieces]


def _members(source: Source, niches: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Selected cells of each niche, ascending."""
    if source.partitioned:
        spans = [source.cell_spans("niche", int(run[0]), int(run[-1]) + 1) for run in _runs(niches)]
        inside = [run - run[0] for run in _runs(niches)]
        start, stop = (
            np.concatenate([span[side][i] for span, i in zip(spans, inside, strict=True)]) for side in (0, 1)
        )
        return [np.arange(a, b) for a, b in zip(start, stop, strict=True)]
    members = []
    for run in _runs(niches):
        matrix = source.section.niches.read_csr(f"obsm/{keys.MEMBERS}", int(run[0]), int(run[-1]) + 1)
        for niche in run - run[0]:
            cells = np.sort(matrix.indices[matrix.indptr[niche] : matrix.indptr[niche + 1]]).astype(np.int64)
            members.append(cells[source.shown(cells)])
    return members


def _runs(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut ascending rows where more than ``_GAP_ROWS`` are skipped: each run is one contiguous read."""
    return np.split(rows, np.flatnonzero(np.diff(rows) > _GAP_ROWS) + 1)


def _take(table: Table, key: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Read ascending rows of a small array."""
    return np.concatenate([table.read(key, int(r[0]), int(r[-1]) + 1)[r - r[0]] for r in _runs(rows)])


def _fill(
    out: NDArray[np.uint8],
    table: Table,
    key: str,
    rows: NDArray[np.int64],
    channels: tuple[NDArray[np.bool_], NDArray[np.int64]] | None = None,
) -> None:
    """Read ascending rows of a large array into ``out``, run by run; ``channels``: which to take, where to put them."""
    done = 0
    for run in _runs(rows):
        here, start, stop = out[done : done + len(run)], int(run[0]), int(run[-1]) + 1
        done += len(run)
        if channels is None and stop - start == len(run):
            table.read(key, start, stop, out=here)
            continue
        values = table.read(key, start, stop)[run - start]
        if channels is None:
            here[:] = values
        else:
            here[:, channels[1]] = values[:, channels[0]]


def _check_crops(table: Table, key: str, expected: tuple[int, ...]) -> None:
    shape = table.array(key).shape[1:]
    if shape != expected:
        raise CorpusError(
            f"{table.path / key}: crops of {shape}, but the section's channels and level say {expected}. "
            "Run `spatia verify`."
        )
