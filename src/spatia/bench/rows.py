"""Results of a benchmark as rows of one parquet file: one row per task, data set, method, seed and metric.

The file is rewritten aside and renamed after each trial, so a killed benchmark loses at most the trial at hand.
"""

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from spatia.corpus.files import whole_file
from spatia.errors import SpatiaError
from spatia.version import __version__

ROWS_FILE: Final = "rows.parquet"
Status = Literal["ok", "failed", "skipped"]
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "scanpy", "leidenalg", "scvi-tools")


@dataclass(frozen=True)
class Row:
    """One measured value, or one method that gave none.

    Attributes
    ----------
    metric, value
        Name and value; larger is better for every metric. Empty and NaN for a method that failed or was skipped.
    seed
        Chooses the split, the held-out genes and whatever a method draws.
    n, n_train
        Cells the value was measured on, and cells the predictor was fitted on.
    seconds
        For embedding (where this task was the first to ask for it) and predicting.
    peak_memory_mb
        Largest resident memory of the process so far.
    status
        "ok", "failed" (``message`` says why) or "skipped" (something is not installed, and ``message`` gives the pip line; or the method
        cannot be asked this, and ``message`` says why).
    versions
        JSON: package, Python and libraries.
    corpus_id
        Of the corpus; empty where there is none (some public protocols), and in rows written before 2026-11-26.
    held_out
        How well the predictor told training cells that were held out from it, by which one of several methods may be chosen without a
        look at test cells: the share of variance, or the mean log-likelihood of a label. Of clusters, which are not fitted: the share of
        the variance of expression that groups tell of grouped cells that were left out. NaN where there is nothing of the kind, and in rows
        written before 2026-11-27.
    """

    task: str
    data: str
    method: str
    metric: str
    value: float
    seed: int
    n: int
    n_train: int
    seconds: float
    peak_memory_mb: float
    status: Status
    message: str
    command: str
    versions: str
    corpus_id: str = ""
    held_out: float = float("nan")


class RowStore:
    """The rows of one results folder.

    Parameters
    ----------
    folder
        Holds ``rows.parquet``; made when the first rows are added.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ROWS_FILE
        self._frame = _read(self.path)

    def frame(self) -> pd.DataFrame:
        """All rows, one column per field of :class:`Row`."""
        return self._frame.copy()

    def rows(self) -> list[Row]:
        """All rows."""
        return [
            Row(**{str(name): value for name, value in record.items()}) for record in self._frame.to_dict("records")
        ]

    def has(self, task: str, data: str, method: str, seed: int) -> bool:
        """Say whether this trial stands; one that failed or was skipped does not, and is tried again."""
        frame = self._frame
        same = (frame["task"] == task) & (frame["data"] == data) & (frame["method"] == method) & (frame["seed"] == seed)
        return bool((same & (frame["status"] == "ok")).any())

    def any_of(self, data: str, seed: int | None = None) -> bool:
        """Say whether a value of a data set stands, of one seed or (None) of any."""
        frame = self._frame
        own = (frame["data"] == data) & (frame["status"] == "ok")
        return bool((own if seed is None else own & (frame["seed"] == seed)).any())

    def refuse_other_corpus(self, data: str, seed: int, corpus_id: str) -> None:
        """Refuse to go on where the rows of a data set and seed are of another corpus: they would be taken for this one's.

        Raises
        ------
        SpatiaError
            If so.
        """
        frame = self._frame
        own = frame[(frame["data"] == data) & (frame["seed"] == seed)]
        for found in sorted(set(own["corpus_id"]) - {corpus_id, ""}):
            raise SpatiaError(
                f"{self.path}: its rows of {data!r}, seed {seed}, are of corpus {found[:12]}…, but the corpus of that name is "
                f"{corpus_id[:12]}… now. Give another results folder with -o, or the data set another name."
            )

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of one trial in place of what stood for it, and write the file."""
        if not rows:
            return
        keys = ["task", "data", "method", "seed"]
        new = pd.DataFrame([asdict(row) for row in rows])
        trials = set(map(tuple, new[keys].to_numpy().tolist()))
        kept = [tuple(key) not in trials for key in self._frame[keys].to_numpy().tolist()]
        old = self._frame[kept]
        self._frame = new if old.empty else pd.concat([old, new], ignore_index=True)
        with whole_file(self.path) as aside:
            self._frame.to_parquet(aside, index=False)


def versions_json() -> str:
    """Return versions of this package, Python and the libraries that make the numbers, as JSON."""
    found = {"spatia": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return json.dumps(found)


def read_rows(paths: Iterable[Path]) -> pd.DataFrame:
    """Read the rows of several results folders (or files) into one table.

    Raises
    ------
    SpatiaError
        If a path has no rows.
    """
    frames = []
    for path in paths:
        file = path if path.suffix == ".parquet" else path / ROWS_FILE
        if not file.is_file():
            raise SpatiaError(f"{file}: no such file. Expected the results of `spatia bench -o {path}`.")
        frames.append(_read(file))
    return pd.concat(frames, ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    names = [field.name for field in fields(Row)]
    if not path.is_file():
        return pd.DataFrame({name: [] for name in names})
    frame = pd.read_parquet(path)
    for name, absent in (("corpus_id", ""), ("held_out", float("nan"))):  # of rows that are older than the column
        if name not in frame:
            frame[name] = absent
    if missing := set(names) - set(frame.columns):
        raise SpatiaError(
            f"{path}: no column {', '.join(sorted(missing))}; the rows are of another version of spatia. "
            "Give another results folder with -o."
        )
    return frame[names]
