"""A data set of the benchmark: a corpus, labels of its cells, and how it is split. Written in a JSON file beside the corpus."""

import copy
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from spatia import keys
from spatia.config import make_settings
from spatia.corpus.corpus import Corpus, Split
from spatia.corpus.files import read_json, write_json
from spatia.corpus.given_cells import GivenCells
from spatia.corpus.splits import SplitSettings, make_split
from spatia.errors import SettingsError
from spatia.log import logger

SplitKind = Literal["block", "donor", "section"]
_CANDIDATES = 24  # split seeds looked at when several splits of one data set are to overlap little


class DataSet(BaseModel):
    """What a benchmark needs to know of a corpus. Everything here is fixed before any method runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    corpus: Path
    labels: Path | None = Field(None, description="parquet or csv with cell_id (and sample, if ids repeat)")
    cell_type: str | None = Field(None, description="column of named or numbered types")
    domain: str | None = Field(None, description="column of regions or layers")
    states: tuple[str, ...] = Field((), description="columns of continuous states; empty where a cell cannot have one")
    outcome: str | None = Field(None, description="column that is 0 or 1, the same for all cells of a donor")
    transitions: tuple[str, ...] = Field((), description="to be drawn: 'STATE of TYPE' or 'TYPE→TYPE'")
    split: SplitKind = "block"
    block_um: float = Field(80.0, gt=0)
    # pictures of niches are wider: `generators/niche_split.py` takes out training niches that overlap with test niches
    margin_um: float = Field(27.2, ge=0, description="one crop of a cell: cells of two parts share no pixel")
    test: float = Field(0.2, gt=0, lt=1)
    validation: float = Field(0.1, ge=0, lt=1)
    least_counts: int = Field(10, ge=0, description="cells with fewer molecules take part in nothing")
    only_seed: int | None = Field(
        None, description="the one seed this data set stands for (simulated: one slide a seed)"
    )

    @classmethod
    def read(cls, path: Path) -> "DataSet":
        """Read a JSON file (paths in it are relative to its folder), or take a corpus folder as it is."""
        if path.is_dir():
            return cls(name=path.resolve().name, corpus=path)
        content = read_json(
            path, SettingsError, remedy="Expected a data set: name, corpus, labels, split (docs/bench.md)."
        )
        for name in ("corpus", "labels"):
            if content.get(name):
                content[name] = path.parent / content[name]
        return make_settings(cls, content, where=str(path))

    def join_labels(self, obs: pd.DataFrame) -> pd.DataFrame:
        """Return the named label columns for the cells of ``obs`` (index: cell ids; column ``sample``), missing where absent."""
        wanted = self._label_columns()
        table = obs.reset_index(drop=True)
        if self.labels is not None:
            table = self._matched(self._given(self.labels), obs)
        if missing := [name for name in wanted if name not in table.columns]:
            raise SettingsError(
                f"{self.labels or self.corpus}: no column {missing[0]!r}. There are: {', '.join(map(str, table.columns))}."
            )
        return table[wanted].reset_index(drop=True)

    def label_digests(self) -> dict[str, str]:
        """Return of each named column of the table of labels what it says of which cells, whatever their order; empty without a table."""
        if self.labels is None:
            return {}
        table = self._given(self.labels).table.astype(str)
        ids = [name for name in (keys.CELL_ID, keys.SAMPLE) if name in table]
        rows = {
            name: pd.util.hash_pandas_object(table[[*ids, name]], index=False)
            for name in self._label_columns()
            if name in table
        }
        return {name: hashlib.sha256(np.sort(values.to_numpy()).tobytes()).hexdigest() for name, values in rows.items()}

    def _label_columns(self) -> list[str]:
        return [name for name in (self.cell_type, self.domain, *self.states, self.outcome) if name]

    def _given(self, labels: Path) -> GivenCells:
        """Read the table of labels; types and regions are text, as ids are."""
        return GivenCells.read(labels, text=[name for name in (self.cell_type, self.domain) if name])

    def _matched(self, given: GivenCells, obs: pd.DataFrame) -> pd.DataFrame:
        joined = given.join(obs.index, obs[keys.SAMPLE], self.corpus)
        if note := given.unknown_note(joined, self.corpus):
            logger.warning("%s", note)
        return given.rows_of(joined).assign(**{keys.SAMPLE: obs[keys.SAMPLE].to_numpy()})

    @property
    def holds_out_sections(self) -> bool:
        """Whether test cells are those of whole sections, of which none is trained on."""
        return self.split in ("donor", "section")

    def split_name(self, seed: int) -> str:
        """Return the name of the split of one seed, and make it where it is not there yet.

        Raises
        ------
        SettingsError
            If the split that is there was made with other settings.
        """
        corpus = Corpus.open(self.corpus)
        kind = {"donor": "donor", "section": "section"}.get(self.split, f"square{self.block_um:g}m{self.margin_um:g}")
        first = 0 if self.only_seed is None else seed
        names = [f"bench-{kind}-{number}" for number in range(first, seed + 1)]
        settings = SplitSettings(
            validation=self._validation_of(corpus), test=self.test, block_um=self.block_um, margin_um=self.margin_um
        )
        if names[-1] in corpus.split_names():
            _check_made_with(corpus, corpus.split(names[-1]), self.split, settings)
        else:
            _make_splits(corpus, self.split, names, settings)
        return names[-1]

    def _validation_of(self, corpus: Corpus) -> float:
        """Return the share of validation cells: none of two donors or sections, where nobody asked for one."""
        groups = {entry.entry.donor if self.split == "donor" else name for name, entry in corpus.sections.items()}
        none = self.holds_out_sections and len(groups) == 2 and "validation" not in self.model_fields_set
        return 0.0 if none else self.validation


def _check_made_with(corpus: Corpus, split: Split, by: str, settings: SplitSettings) -> None:
    """Refuse a split that is there under the wanted name but was made with other shares, or otherwise."""
    names = ("test", "validation", *(("block_um", "margin_um") if by == "block" else ()))
    wanted = {"by": by, **{name: getattr(settings, name) for name in names}}
    found = {"by": split.by, **split.settings}  # older splits need not have recorded all
    if other := [name for name, value in wanted.items() if found.get(name, value) != value]:
        was, now = (", ".join(f"{name}={one[name]!r}" for name in other) for one in (found, wanted))
        path = corpus.path / "splits" / f"{split.name}.json"
        raise SettingsError(
            f"{path}: the split was made with {was}; the data set asks for {now}. Set it back in the data set, or delete that file and "
            "take another folder of results: rows and models of the old split do not go with the new one."
        )


def _make_splits(corpus: Corpus, by: str, names: list[str], settings: SplitSettings) -> None:
    """Make splits whose test parts overlap little: seed after seed, the candidate with the smallest share in common.

    Random starts often fall on the same block of a small slide, and three times one split is not three splits. Positions
    alone enter the choice.
    """
    tests: list[NDArray[np.int64]] = []
    for name in names:
        if name not in corpus.split_names():
            make_split(corpus, by, name=name, seed=_seed_apart(corpus, by, tests, settings), settings=settings)
        tests.append(part_rows(corpus, name, "test"))


def _seed_apart(corpus: Corpus, by: str, tests: Sequence[NDArray[np.int64]], settings: SplitSettings) -> int:
    """Return the seed whose test part has least in common with those given; candidates that leave a part empty are passed over."""
    best, chosen = np.inf, 0  # where no seed serves, the first is made again, and says why
    with TemporaryDirectory(prefix="spatia-splits-") as folder:
        aside = copy.copy(corpus)  # the same sections; who reads the corpus meanwhile must not meet a candidate
        aside.path = Path(folder)
        for candidate in range(_CANDIDATES):
            try:
                make_split(aside, by, name="candidate", seed=candidate, settings=settings, replace=True)
            except SettingsError:
                continue
            rows = part_rows(aside, "candidate", "test")
            common = sum(len(np.intersect1d(rows, before)) / len(rows) for before in tests)
            if common < best - 1e-9:
                best, chosen = common, candidate
            if not common:
                break
    return chosen


def part_rows(corpus: Corpus, split: str, part: str) -> NDArray[np.int64]:
    """Return the rows of one part, counted over the sections of the corpus one after the other."""
    table, start, rows = corpus.split(split), 0, [np.zeros(0, np.int64)]
    for sample, section in corpus.sections.items():
        if part in table.parts:
            rows += [np.arange(a, b) + start for a, b in table.ranges(part, sample)]
        start += section.entry.n_cells
    return np.concatenate(rows)


def readable(name: str) -> str:
    """Return a name as file names have it.

    Examples
    --------
    >>> readable("xenium breast, nuclei")
    'xenium_breast_nuclei'
    """
    return re.sub(r"[^\w.-]+", "_", name)


def place_name(corpus: Corpus, split: str, seed: int) -> str:
    """Return a name for files of one corpus, split and seed; several corpora may have one name (that of `spatia run` is ``corpus``)."""
    return readable(f"{corpus.path.name}-{corpus.corpus_id[:8]}-{split}-{seed}")


def write_dataset(data: DataSet, path: Path) -> Path:
    """Write a data set as JSON, paths relative to the file's folder where they lie below it."""
    content: dict[str, Any] = data.model_dump(mode="json", exclude_defaults=True)
    for name in ("corpus", "labels"):
        value = getattr(data, name)
        if value is not None and value.resolve().is_relative_to(path.parent.resolve()):
            content[name] = str(value.resolve().relative_to(path.parent.resolve()))
    write_json(path, content)
    return path
