"""Open a corpus on disk: its metadata at once, its arrays lazily (``docs/corpus-format.md``).

Nothing here holds more than what is asked for: a section of a million cells is opened by reading three small JSON files.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from spatia.corpus import files
from spatia.corpus.sketch import sketch_cells, smallest
from spatia.corpus.table import Table
from spatia.errors import CorpusError
from spatia.io.synthetic import is_synthetic, refusal
from spatia.keys import LEVELS, MORPHOLOGY, SPATIAL, STORES
from spatia.log import logger

FORMAT: Final = "spatia-corpus"
FORMAT_VERSION: Final = 1
CORPUS_FILE: Final = "corpus.json"
SECTION_FILE: Final = "section.json"
MANIFEST_FILE: Final = "manifest.json"
GENES_FILE: Final = "genes.parquet"
GENES_COLUMNS: Final = ("gene_id", "symbol", "organism")

_CONFIG = ConfigDict(extra="ignore")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Level:
    """The window of one level: ``size_um`` µm on ``px`` pixels."""

    size_um: float
    px: int

    @property
    def um_per_px(self) -> float:
        """Pixel size of the crops of this level in µm."""
        return self.size_um / self.px


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SectionEntry:
    """What ``corpus.json`` says of one section."""

    n_cells: int
    n_niches: int
    n_tissues: int
    n_genes: int
    channels: tuple[str, ...]
    donor: str | None = None
    tissue: str | None = None
    disease: str | None = None
    organism: str | None = None
    platform: str | None = None
    manifest_sha256: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class CorpusEntry:
    """The contents of ``corpus.json``."""

    format: str
    format_version: int
    spatia_version: str
    levels: dict[str, Level]
    niches: dict[str, Any]
    channels: tuple[str, ...]
    n_genes: int
    genes_sha256: str
    sections: dict[str, SectionEntry]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Split:
    """One file of ``splits/``: which rows of which section belong to which part.

    ``parts[part][sample]`` are half-open ranges of rows of ``cells.zarr``, ascending and disjoint. ``cells[sample]`` says
    which cells these rows were (`Section.cells_sha256`); splits of before do not say it.
    """

    name: str
    by: str
    seed: int
    parts: dict[str, dict[str, tuple[tuple[int, int], ...]]]
    settings: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of which rows are in which part: another split of the same name has another one."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    def made_anew(self, recorded: Mapping[str, Any]) -> bool:
        """Tell whether the parts held other cells when ``recorded`` was written: a corpus in ``run.json``."""
        return recorded.get("split_sha256") not in (None, self.digest)  # runs of before did not record it

    def ranges(self, part: str, sample: str) -> tuple[tuple[int, int], ...]:
        """Return the row ranges of one section in one part; empty where the section has none."""
        if part not in self.parts:
            raise CorpusError(f"Split {self.name!r} has no part {part!r}. Its parts: {', '.join(self.parts)}.")
        return self.parts[part].get(sample, ())

    def part_of_rows(self, sample: str, n_cells: int) -> NDArray[np.object_]:
        """Return the name of the part that each row of a section is in, (n_cells,); empty text where it is in none."""
        found = np.full(n_cells, "", object)
        for part, of in self.parts.items():
            for start, stop in of.get(sample, ()):
                found[start:stop] = part
        return found


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class FileRecord:
    """Size and digest of one file in ``manifest.json``."""

    bytes: int
    sha256: str


class Section:
    """One tissue section of a corpus; opens nothing until asked.

    Parameters
    ----------
    path
        Folder ``sections/<sample>``.
    sample
        Name of the section.
    entry
        What ``corpus.json`` says of it.
    """

    def __init__(self, path: Path, sample: str, entry: SectionEntry) -> None:
        self.path = path
        self.sample = sample
        self.entry = entry
        self.cells = Table(path / STORES["cell"])
        self.niches = Table(path / STORES["niche"])
        self.tissues = Table(path / STORES["tissue"])

    def table(self, level: str) -> Table:
        """Return the table of a level, ``"cell" | "niche" | "tissue"``."""
        return {"cell": self.cells, "niche": self.niches, "tissue": self.tissues}[level]

    def n_rows(self, level: str) -> int:
        """Return the number of cells, niches or tissue windows."""
        return {"cell": self.entry.n_cells, "niche": self.entry.n_niches, "tissue": self.entry.n_tissues}[level]

    def positions_um(self) -> NDArray[np.float64]:
        """Return the centres of the cells in µm, (cells, 2)."""
        stored = self.cells.read(f"obsm/{SPATIAL}", 0, self.entry.n_cells)
        return np.asarray(stored, np.float64)[:, :2]

    @cached_property
    def cells_sha256(self) -> str:
        """SHA-256 of where the cells lie, in their order: rows mean the same cells as long as it stays the same."""
        return hashlib.sha256(np.ascontiguousarray(self.positions_um()).tobytes()).hexdigest()

    @cached_property
    def sketch(self) -> list[str]:
        """The section's sketch, by which its cells are known again (`spatia.corpus.sketch`); reads the counts of 128 cells."""
        ids = self.cells.obs().index.astype(str).to_numpy(object)
        chosen = smallest(ids)
        rows = [self.cells.read_csr("X", int(row), int(row) + 1) for row in chosen]
        genes = self.cells.var().index.astype(str).to_numpy(object)
        return sketch_cells(ids[chosen], sp.csr_matrix(sp.vstack(rows)), genes) if rows else []

    @cached_property
    def details(self) -> dict[str, Any]:
        """The contents of ``section.json``: source, pixel size, intensity maps, findings, versions."""
        return read_json(self.path / SECTION_FILE)

    @cached_property
    def manifest(self) -> dict[str, FileRecord]:
        """Every file of the section (path relative to the section, ``/``-separated) with its size and digest."""
        return read_manifest(self.path)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the measured morphology features of the cells; empty without outlines."""
        return self.cells.columns(f"obsm/{MORPHOLOGY}")

    def check_files(self) -> None:
        """Refuse a section with a file that is missing or has another size than the manifest says.

        zarr reads an absent shard as zeros, so this must run before training; it reads no contents
        (``spatia verify`` compares the digests).

        Raises
        ------
        CorpusError
            Naming the first such file.
        """
        check_files(self.path, self.manifest)


class Corpus:
    """A corpus folder; use :meth:`open`.

    Examples
    --------
    >>> Corpus.open("nowhere")
    Traceback (most recent call last):
    ...
    spatia.errors.CorpusError: nowhere/corpus.json: no such file. Expected a corpus as `spatia build` writes it.
    """

    def __init__(self, path: Path, entry: CorpusEntry, corpus_id: str) -> None:
        self.path = path
        self.entry = entry
        self.corpus_id = corpus_id
        self._warned_of: set[str] = set()  # splits whose missing sections were named once
        self.sections: Mapping[str, Section] = {
            sample: Section(path / "sections" / sample, sample, facts) for sample, facts in entry.sections.items()
        }

    @classmethod
    def open(cls, path: str | Path) -> "Corpus":
        """Read and validate ``corpus.json``.

        Raises
        ------
        CorpusError
            If the file is missing, damaged, of another format or version, or names impossible sections.
        """
        file = Path(path) / CORPUS_FILE
        if is_synthetic(Path(path)):
            raise CorpusError(refusal(Path(path)))
        content = read_json(file)
        found = (content.get("format"), content.get("format_version"))
        if found != (FORMAT, FORMAT_VERSION):
            raise CorpusError(
                f"{file}: format {found[0]!r}, version {found[1]!r}; expected {FORMAT!r}, version {FORMAT_VERSION}. "
                "Rebuild the corpus with this version of spatia, or install the version that wrote it."
            )
        entry = _validated(CorpusEntry, content, file)
        if missing := set(LEVELS) - set(entry.levels):
            raise CorpusError(f"{file}: no level {', '.join(sorted(missing))}; expected {', '.join(LEVELS)}.")
        for sample in entry.sections:
            if sample in {"", ".", ".."} or "/" in sample or "\\" in sample:
                raise CorpusError(f"{file}: the section name {sample!r} is not a plain folder name.")
        return cls(Path(path), entry, hashlib.sha256(file.read_bytes()).hexdigest())

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r}, {self.n_cells:,} cells in {len(self.sections)} sections)"

    @property
    def n_cells(self) -> int:
        """Cells of all sections."""
        return sum(section.entry.n_cells for section in self.sections.values())

    @property
    def channels(self) -> tuple[str, ...]:
        """Union of the channels over sections, in order of first appearance."""
        return self.entry.channels

    @property
    def levels(self) -> dict[str, Level]:
        """The window of each level."""
        return self.entry.levels

    @property
    def niche_definition(self) -> str:
        """``grid | adaptive | radius | knn``."""
        return str(self.entry.niches.get("definition"))

    @cached_property
    def genes(self) -> pd.DataFrame:
        """The vocabulary: ``gene_id, symbol, organism``, one row per gene."""
        path = self.path / GENES_FILE
        if not path.is_file():
            raise CorpusError(f"{path}: no such file. {_REBUILD}")
        try:
            genes = pd.read_parquet(path)
        except Exception as error:  # pyarrow has no common base for what a damaged file raises
            raise CorpusError(f"{path}: cannot be read ({error}). {_REBUILD}") from error
        if missing := set(GENES_COLUMNS) - set(genes.columns):
            raise CorpusError(f"{path}: no column {', '.join(sorted(missing))}. {_REBUILD}")
        if len(genes) != self.entry.n_genes:
            raise CorpusError(
                f"{path}: {len(genes):,} genes, but {CORPUS_FILE} says {self.entry.n_genes:,}. {_REBUILD}"
            )
        return genes

    def section(self, sample: str) -> Section:
        """Return one section by name; an unknown name lists the names."""
        if sample not in self.sections:
            raise CorpusError(f"{self.path}: no section {sample!r}. Its sections: {', '.join(self.sections)}.")
        return self.sections[sample]

    def split_names(self) -> list[str]:
        """Names of the splits on disk."""
        return sorted(path.stem for path in (self.path / "splits").glob("*.json"))

    def split(self, name: str) -> Split:
        """Read a split and check that its rows are those of the cells it was made of.

        Warns, once for each split, of sections that were added to the corpus later: they are in none of its parts.

        Raises
        ------
        CorpusError
            If there is none of that name, a section was built anew since, or ranges are not ascending, disjoint within a part
            and inside their sections.
        """
        if name not in self.split_names():
            have = ", ".join(self.split_names()) or "none"
            raise CorpusError(f"{self.path}: no split {name!r} (there: {have}). Make one with `spatia split`.")
        path = self.path / "splits" / f"{name}.json"
        content = files.read_json(path, CorpusError, remedy="Delete it, and make the split again with `spatia split`.")
        split = _validated(Split, content, path)
        for sample, digest in split.cells.items():
            if self.section(sample).cells_sha256 != digest:
                raise CorpusError(
                    f"{path}: section {sample!r} has other cells than when the split was made; expected the same, in the same order. "
                    "It was built anew: make a split of another name with `spatia split`, or delete this file if nothing was made on it."
                )
        for part, by_sample in split.parts.items():
            for sample, ranges in by_sample.items():
                n_cells, last = self.section(sample).entry.n_cells, 0
                for start, stop in ranges:
                    if not last <= start < stop <= n_cells:
                        raise CorpusError(
                            f"{path}: part {part!r}, section {sample!r}: range [{start}, {stop}) is empty, overlaps the "
                            f"one before or ends after row {n_cells}. Make the split again with `spatia split`."
                        )
                    last = stop
        self._warn_of_later_sections(split, path)
        return split

    def outside(self, parts: Mapping[str, Iterable[str]]) -> list[str]:
        """Return the sections that no part of a split names, the margin included."""
        inside = {sample for of in parts.values() for sample in of}
        return [sample for sample in self.sections if sample not in inside]

    def _warn_of_later_sections(self, split: Split, path: Path) -> None:
        """`spatia split` records its settings and puts every section somewhere; a split written by hand may leave some out on purpose."""
        later = self.outside(split.parts)
        if not later or not split.settings or split.name in self._warned_of:
            return
        self._warned_of.add(split.name)
        n_cells = sum(self.sections[sample].entry.n_cells for sample in later)
        logger.warning(
            "%s: the split does not know %s (%s cells), added to the corpus after it was made: these cells are neither trained on nor judged. "
            "To use them, make a split of another name (`spatia split ... --by %s --name NAME`) and train on it; if nothing was made on "
            "this one, delete the file and make it again.",
            path, named_sections(later), f"{n_cells:,}", split.by,
        )  # fmt: skip


def named_sections(samples: list[str]) -> str:
    """Return sections in words, the first five by name.

    Examples
    --------
    >>> named_sections(["p3", "p4"])
    "sections 'p3', 'p4'"
    """
    more = f" and {len(samples) - 5} more" if len(samples) > 5 else ""
    return f"section{'' if len(samples) == 1 else 's'} {', '.join(map(repr, samples[:5]))}{more}"


def read_manifest(section: Path) -> dict[str, FileRecord]:
    """Read the manifest of a section's folder."""
    path = section / MANIFEST_FILE
    return _validated(dict[str, FileRecord], read_json(path).get("files"), path)


def check_files(section: Path, manifest: Mapping[str, FileRecord]) -> None:
    """Refuse a section's folder with a file that is missing or has another size than the manifest says (`Section.check_files`)."""
    for name, record in manifest.items():
        path = section / name
        if not path.is_file():
            raise CorpusError(f"{path}: the file is missing, though {MANIFEST_FILE} lists it. {_REBUILD}")
        if (size := path.stat().st_size) != record.bytes:
            raise CorpusError(f"{path}: {size:,} bytes, but {MANIFEST_FILE} says {record.bytes:,}. {_REBUILD}")


_REBUILD: Final = "Run `spatia build` with the same slides again: what is missing or damaged is built anew."


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a corpus, or say which file is missing or damaged."""
    if not path.is_file():
        raise CorpusError(f"{path}: no such file. Expected a corpus as `spatia build` writes it.")
    return files.read_json(path, CorpusError, remedy=_REBUILD)


def _validated(kind: type[_T], content: object, path: Path) -> _T:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the object"
        raise CorpusError(f"{path}: {where}: {first['msg']}, found {first['input']!r:.80}. {_REBUILD}") from error
