"""Everything a report shows, read from the folder of a run. A part that is not there carries the reason why."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from spatia import keys
from spatia.errors import SpatiaError
from spatia.report.schema import (
    AnnotationResult,
    BenchmarkResult,
    DrawnResult,
    EmbeddingResult,
    ExpressionResult,
    GroupsResult,
    ReconstructionResult,
    RunFacts,
    SectionCheck,
    SlideResult,
    TrainingResult,
)

RUN_FILE: Final = "run.json"
CHECK_FILE: Final = "check.json"
CELLS_FILE: Final = "cells.h5ad"
RESULTS: Final = "results"
FIGURES: Final = "figures"
UMAP: Final = "X_umap"
MEASURED: Final = "uns/spatia/measured"  # in the table of cells: (sections, genes)

_T = TypeVar("_T")


class ReportError(SpatiaError):
    """A folder cannot be shown as a report: it is not one of a run, or a result file in it is damaged."""


@dataclass(frozen=True)
class Cells:
    """What the report needs of ``cells.h5ad``; the counts are never read.

    Attributes
    ----------
    obs
        Columns of the cells.
    position_um
        (cells, 2), x and y.
    umap
        (cells, 2), or None where it was not computed.
    measured
        (sections, genes), which section measures which gene; None in a table that does not say.
    """

    obs: pd.DataFrame
    position_um: NDArray[np.float64]
    umap: NDArray[np.float32] | None
    measured: NDArray[np.bool_] | None = None

    @property
    def n_everywhere(self) -> int | None:
        """How many genes every section measures; None where that is all of them, or not known."""
        if self.measured is None or self.measured.all():
            return None
        return int(self.measured.all(axis=0).sum())

    @property
    def samples(self) -> list[str]:
        """Names of the sections, in the order of the cells."""
        return list(dict.fromkeys(self.obs[keys.SAMPLE].astype(str)))

    def rows(self, sample: str) -> NDArray[np.int64]:
        """Return the rows of one section."""
        return np.flatnonzero((self.obs[keys.SAMPLE].astype(str) == sample).to_numpy())

    def categories(self, column: str) -> list[str]:
        """Return the groups of a column in their natural order: numbers by value, then names."""
        return natural_order(self.obs[column].dropna().astype(str).unique())


def natural_order(names: Any) -> list[str]:
    """Sort names with the numbers among them by value.

    Examples
    --------
    >>> natural_order(["10", "2", "immune"])
    ['2', '10', 'immune']
    """
    return sorted(names, key=lambda name: (not str(name).isdigit(), int(name) if str(name).isdigit() else 0, str(name)))


class RunFolder:
    """The folder of a run, read lazily: each property is one file, ``None`` where the file is not there.

    Parameters
    ----------
    path
        ``OUT`` of ``spatia run``.

    Raises
    ------
    ReportError
        If the folder holds no ``run.json``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / RUN_FILE).is_file():
            raise ReportError(
                f"{path}: no {RUN_FILE} in it. Expected a folder that `spatia run SLIDE -o OUT` wrote; "
                "run it first, then `spatia report OUT`."
            )

    @cached_property
    def run(self) -> RunFacts:
        """Steps, command, versions."""
        return self._read(RUN_FILE, RunFacts)  # type: ignore[return-value]  # __init__ saw the file

    @cached_property
    def checks(self) -> tuple[SectionCheck, ...] | None:
        """The doctor's findings."""
        return self._read(CHECK_FILE, tuple[SectionCheck, ...])

    @cached_property
    def slide(self) -> SlideResult | None:
        """The sections and how cells were held out."""
        return self._read(f"{RESULTS}/slide.json", SlideResult)

    @cached_property
    def training(self) -> TrainingResult | None:
        """How the model was trained."""
        return self._read(f"{RESULTS}/training.json", TrainingResult)

    @cached_property
    def embedding(self) -> EmbeddingResult | None:
        """Facts of the embedding."""
        return self._read(f"{RESULTS}/embedding.json", EmbeddingResult)

    @cached_property
    def clusters(self) -> GroupsResult | None:
        """Facts of the clusters."""
        return self._read(f"{RESULTS}/clusters.json", GroupsResult)

    @cached_property
    def domains(self) -> GroupsResult | None:
        """Facts of the domains."""
        return self._read(f"{RESULTS}/domains.json", GroupsResult)

    @cached_property
    def expression(self) -> ExpressionResult | None:
        """Summaries of predicted expression."""
        return self._read(f"{RESULTS}/expression.json", ExpressionResult)

    @cached_property
    def reconstruction(self) -> ReconstructionResult | None:
        """Facts of the reconstructed crops."""
        return self._read(f"{RESULTS}/reconstructions.json", ReconstructionResult)

    @cached_property
    def benchmark(self) -> BenchmarkResult | None:
        """What was compared."""
        return self._read(f"{RESULTS}/benchmark.json", BenchmarkResult)

    @cached_property
    def annotation(self) -> AnnotationResult | None:
        """How well labels were predicted."""
        return self._read(f"{RESULTS}/annotation.json", AnnotationResult)

    @cached_property
    def cells(self) -> Cells | None:
        """Observations and positions of the cells."""
        return _read_cells(self.path / CELLS_FILE) if (self.path / CELLS_FILE).is_file() else None

    def table(self, name: str, columns: tuple[str, ...]) -> pd.DataFrame | None:
        """Read ``results/<name>.parquet``; None where it is not there.

        Raises
        ------
        ReportError
            If the file cannot be read or lacks a column.
        """
        path = self.path / RESULTS / f"{name}.parquet"
        if not path.is_file():
            return None
        try:
            table = pd.read_parquet(path)
        except Exception as error:  # pyarrow has no common base for what a damaged file raises
            raise ReportError(
                f"{path}: cannot be read ({error}). Make it again: `spatia run … -o {self.path}`."
            ) from error
        if missing := [column for column in columns if column not in table.columns]:
            raise ReportError(f"{path}: no column {', '.join(missing)}; expected {', '.join(columns)}.")
        return table

    @cached_property
    def drawn(self) -> DrawnResult | None:
        """Facts of the cells that a generator drew."""
        return self._read(f"{RESULTS}/drawn.json", DrawnResult)

    def arrays(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Read ``results/<name>.npz``; None where it is not there. Nothing is ever unpickled."""
        path = self.path / RESULTS / f"{name}.npz"
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError) as error:
            raise ReportError(
                f"{path}: cannot be read ({error}). Make it again: `spatia run … -o {self.path}`."
            ) from error

    def absence(self, step: str) -> str:
        """Say in one line why the result of a step is not there."""
        known = self.run.step(step)
        if known is None:
            return f"This run did not come to the step “{step}”."
        if known.message:
            return known.message
        return f"The step “{step}” is {known.status} and left no result."

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield (where, what) of everything that was refused or warned of, the doctor's findings apart."""
        for step in self.run.steps:
            if step.status in ("skipped", "failed", "refused") and step.message:
                yield f"{step.name} ({step.status})", step.message
            for warning in step.warnings:
                yield step.name, warning

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        path = self.path / name
        return read_result(path, kind) if path.is_file() else None


def read_result(path: Path, kind: type[_T]) -> _T:
    """Read a JSON file as the dataclass ``kind``.

    Raises
    ------
    ReportError
        Naming the file and the first field that is not as expected.
    """
    try:
        return TypeAdapter(kind).validate_python(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ReportError(
            f"{path}: {where}: {first['msg']}, found {first['input']!r:.80}. Remove the file and run `spatia run` again."
        ) from error
    except ValueError as error:
        raise ReportError(f"{path}: not valid JSON ({error}). Remove the file and run `spatia run` again.") from error


def write_result(path: Path, result: Any) -> None:
    """Write a result of `spatia.report.schema` as JSON, whole or not at all; NaN becomes null."""
    from spatia.corpus.files import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    parts = result if isinstance(result, tuple) else (result,)
    plain = [TypeAdapter(type(part)).dump_python(part, mode="json") for part in parts]
    content = plain if isinstance(result, tuple) else plain[0]
    write_text(path, json.dumps(_without_nan(content), indent=1, ensure_ascii=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _read_cells(path: Path) -> Cells:
    import h5py
    from anndata.io import read_elem

    try:
        with h5py.File(path, "r") as file:
            obs = read_elem(file["obs"])
            position = np.asarray(read_elem(file[f"obsm/{keys.SPATIAL}"]), np.float64)[:, :2]
            umap = np.asarray(read_elem(file[f"obsm/{UMAP}"]), np.float32) if f"obsm/{UMAP}" in file else None
            measured = np.asarray(read_elem(file[MEASURED]), bool) if MEASURED in file else None
    except (OSError, KeyError) as error:
        raise ReportError(
            f"{path}: not a table of cells of `spatia run` ({error}). Run the step `embed` again."
        ) from error
    if keys.SAMPLE not in obs:
        raise ReportError(f"{path}: obs has no column 'sample'. Expected a table that `spatia run` wrote.")
    return Cells(obs, position, umap, measured)
