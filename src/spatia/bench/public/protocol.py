"""What a public protocol is, how its folder is refused, and how its rows are measured and kept."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from spatia.bench.attempt import Question, attempt
from spatia.bench.choosing import choose
from spatia.bench.methods.method import Method
from spatia.bench.methods.registry import BASELINES
from spatia.bench.methods.vit import WEIGHTS
from spatia.bench.protocols.trial import Score
from spatia.bench.rows import RowStore
from spatia.errors import SettingsError

T = TypeVar("T")
# One --methods serves corpora and several public protocols in one call.
_NAMES_ELSEWHERE = frozenset((*BASELINES, "colours", "pixels", "pca of variable genes"))


@dataclass(frozen=True)
class PublicOptions:
    """What the user chose, for a protocol that runs by itself.

    Attributes
    ----------
    methods
        Names of encoders, or ``("all",)``; ``("none",)``: the model alone.
    model
        A model folder to compare beside them, as it is: the caller answers for what it was trained on.
    label
        Added to the name of the model's rows.
    vit
        Local folder of a ViT in the transformers format; None: what ``SPATIA_VIT`` names, and no ViT where that is unset.
    extra
        Further methods that are used as they come: published weights, say. Those that read images alone encode patches, those
        that read genes alone embed dissociated cells; others take no part.
    seeds
        Subsamples, or draws of patches; a protocol with fixed folds runs them all instead.
    command
        What the user typed, for the rows.
    """

    methods: tuple[str, ...] = ("all",)
    model: Path | None = None
    label: str = ""
    vit: Path | None = None
    extra: tuple[Method, ...] = ()
    seeds: int = 5
    command: str = ""

    def chosen(self, known: Mapping[str, T], default: Sequence[str], what: str) -> list[T]:
        """Return the methods of one protocol by name; names of other protocols' methods are left out.

        Parameters
        ----------
        known
            What this protocol has.
        default
            Names for "all".
        what
            What an entry is called in an error.

        Raises
        ------
        SettingsError
            If a name is known nowhere, or none is of this protocol and nothing else takes part.
        """
        if self.methods == ("all",):
            return [known[name] for name in default]
        if self.methods == ("none",):
            return []
        own = [name for name in self.methods if name in known or name not in _NAMES_ELSEWHERE]
        if not own and self.model is None and not self.extra:
            raise SettingsError(f"No {what} among {', '.join(self.methods)}. Known: {', '.join(known)}.")
        return choose(own, known, what, "; our model comes with --model")

    @property
    def vit_folder(self) -> Path | None:
        """Where the weights of a ViT are, if anywhere."""
        given = os.environ.get(WEIGHTS)
        return self.vit or (Path(given) if given else None)


@dataclass(frozen=True)
class PublicProtocol:
    """A protocol on data that the user downloads.

    Attributes
    ----------
    name
        As in ``spatia bench --public NAME=FOLDER``.
    question
        In one line.
    download
        What to download, by name and accession.
    layout
        What the folder must hold.
    source
        Who published data and protocol, and where the layout was looked up.
    prepare
        ``(folder, work) -> JSON files`` of data sets for ``spatia bench``; None where the data are no corpus.
    run
        ``(folder, out, options) -> rows`` of the results folder ``out``; None where ``prepare`` stands.
    """

    name: str
    question: str
    download: str
    layout: str
    source: str
    prepare: Callable[[Path, Path], list[Path]] | None = None
    run: Callable[[Path, Path, PublicOptions], pd.DataFrame] | None = None

    def __post_init__(self) -> None:
        if (self.prepare is None) == (self.run is None):
            raise ValueError(f"{self.name}: give either prepare or run")

    def owns(self, data: str) -> bool:
        """Say whether rows of this data set are of the protocol: their first word is its name, in any case of its letters.

        They have no id of a corpus: what they were measured on is known by the digest of the download alone, which `spatia bench` keeps.
        """
        return data.casefold().split()[:1] == [self.name.casefold()]


@dataclass(frozen=True)
class PublicFolder:
    """A folder in which things must stand, and what to say where they do not.

    Attributes
    ----------
    path
        The folder.
    download, layout
        Of the protocol.
    """

    path: Path
    download: str
    layout: str

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise self.refusal(self.path, "no such folder", "the downloaded data")

    def refusal(self, where: Path, found: str, expected: str) -> SettingsError:
        """Return the error that names the place, what was found, what was expected and what to download."""
        return SettingsError(f"{where}: {found}. Expected {expected}. Layout: {self.layout} Download: {self.download}")

    def require(self, path: Path, what: str) -> Path:
        """Return ``path`` if it is there.

        Raises
        ------
        SettingsError
            Names the file, and what is missing with it.
        """
        if not path.exists():
            raise self.refusal(path, "no such file", what)
        return path

    def column(self, columns: list[str], names: tuple[str, ...], where: Path, what: str) -> str:
        """Return the first of ``names`` that is among ``columns``, whatever the case of its letters.

        Raises
        ------
        SettingsError
            Lists both.
        """
        known = {str(column).strip().casefold(): column for column in columns}
        for name in names:
            if name.casefold() in known:
                return known[name.casefold()]
        raise self.refusal(where, f"columns {', '.join(map(str, columns)) or 'none'}", f"{what}: {' or '.join(names)}")


class Recorder:
    """Measures trials and keeps their rows: what stands is not run again, and a failure is a row that says why.

    Parameters
    ----------
    out
        Results folder.
    command
        What the user typed.
    """

    def __init__(self, out: Path, command: str) -> None:
        self._store, self._command = RowStore(out), command

    def measure(self, task: str, data: str, method: str, seed: int, score: Callable[[], list[Score]]) -> None:
        """Run ``score`` unless its rows stand, and keep what it gives."""
        if self._store.has(task, data, method, seed):
            return
        self._store.add(attempt(Question(task, data, method, seed, self._command), score))

    def frame(self) -> pd.DataFrame:
        """All rows of the results folder."""
        return self._store.frame()
