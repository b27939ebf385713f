"""Which cells each split trains and tests on, as tables: for embeddings that are fitted elsewhere, on training cells alone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from spatia import keys
from spatia.bench.dataset import DataSet, readable
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import whole_file
from spatia.corpus.splits import PARTS
from spatia.errors import SettingsError

SPLITS: Final = "splits"  # below the results folder
DATA, SEED = "{data}", "{seed}"  # stand in the path of a table for one data set and one seed


def of_each_split(path: Path) -> bool:
    """Say whether a path stands for a table of each data set or seed."""
    return DATA in str(path) or SEED in str(path)


def table_of(path: Path, data: str, seed: int) -> Path:
    """Return the table of one data set and seed.

    Examples
    --------
    >>> table_of(Path("mine/{data}-{seed}.parquet"), "xenium breast", 1).as_posix()
    'mine/xenium_breast-1.parquet'
    """
    return Path(str(path).replace(DATA, readable(data)).replace(SEED, str(seed)))


def write_splits(units: Iterable[tuple[DataSet, int]], out: Path) -> list[Path]:
    """Write ``OUT/splits/DATA-SEED.parquet`` of each: ``cell_id``, ``sample``, and ``part`` (train, validation, test; missing: the margin).

    Raises
    ------
    SettingsError
        If the names of two data sets would be one file name.
    """
    written: dict[Path, str] = {}
    for data, seed in units:
        path = table_of(out / SPLITS / f"{DATA}-{SEED}.parquet", data.name, seed)
        if written.setdefault(path, data.name) != data.name:
            raise SettingsError(f"{path}: two data sets would be written there. Give {data.name!r} another name.")
        with whole_file(path) as part:
            _parts_of(data, seed).to_parquet(part, index=False)
    return list(written)


def _parts_of(data: DataSet, seed: int) -> pd.DataFrame:
    corpus = Corpus.open(data.corpus)
    split = corpus.split(data.split_name(seed))
    tables = []
    for name, section in corpus.sections.items():
        part = split.part_of_rows(name, section.entry.n_cells)
        part[~np.isin(part, PARTS)] = None
        ids = section.cells.obs().index.astype(str)
        tables.append(pd.DataFrame({keys.CELL_ID: ids, keys.SAMPLE: name, "part": part}))
    return pd.concat(tables, ignore_index=True)
