"""Counts in Matrix Market, as 10x Genomics writes them beside the h5: a folder `cell_feature_matrix`, or a tar.gz of it.

Text cannot be read from the middle, so these counts are held in memory; a bundle of many cells should keep its h5.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

from spatia.errors import SlideError
from spatia.io.border import counts_in_memory
from spatia.io.counts_h5 import CountMatrix
from spatia.io.ids import ids_as_text

_MAX_STORED = 200_000_000  # counts; 2.4 GB while they are read
_MAX_TEXT_BYTES = 8 << 30  # unpacked; a gzip that holds more is a bomb or belongs in an h5
_PARTS = ("matrix.mtx", "features.tsv", "barcodes.tsv")


def read_10x_mtx(path: Path) -> CountMatrix:
    """Read a folder, or a tar.gz, of `matrix.mtx(.gz)`, `features.tsv(.gz)` and `barcodes.tsv(.gz)`.

    Raises
    ------
    SlideError
        If a part is missing or damaged, the parts disagree, or the matrix is too large to hold in memory.
    """
    try:
        matrix, features, barcodes = _parts_of_folder(path) if path.is_dir() else _parts_of_archive(path)
        _check_size(matrix, path)
        counts = sp.csr_matrix(scipy.io.mmread(BytesIO(matrix)).T)
        named = pd.read_csv(BytesIO(features), sep="\t", header=None, dtype=str, keep_default_na=False)
        cell_ids = pd.read_csv(BytesIO(barcodes), sep="\t", header=None, dtype=str)[0]
    except (OSError, EOFError, ValueError, KeyError, zlib.error, tarfile.TarError) as error:
        raise SlideError(
            f"{path}: not a readable Matrix Market folder ({type(error).__name__}: {error}). Expected {', '.join(_PARTS)} "
            "(each also .gz). Copy it again, or take cell_feature_matrix.h5."
        ) from error
    if counts.shape != (len(cell_ids), len(named)) or named.shape[1] < 2:
        raise SlideError(
            f"{path}: matrix of {counts.shape[1]:,} features x {counts.shape[0]:,} cells, but {len(named):,} features "
            f"({named.shape[1]} columns) and {len(cell_ids):,} barcodes are named. Copy it again."
        )
    if counts.dtype.kind == "i":
        counts = counts.astype(np.int32)
    types = named[2].tolist() if named.shape[1] > 2 else None
    ids = pd.Index(ids_as_text(cell_ids, path).to_pylist(), dtype=str)
    return CountMatrix(counts_in_memory(counts), ids, named[1].tolist(), named[0].tolist(), types)


def _parts_of_folder(path: Path) -> list[bytes]:
    return [
        _read(part, lambda name: (path / name).read_bytes() if (path / name).is_file() else None) for part in _PARTS
    ]


def _parts_of_archive(path: Path) -> list[bytes]:
    """Read members by their last name, in memory: nothing is unpacked to disk, so no path in it can lead anywhere."""
    with tarfile.open(path) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

        def member(name: str) -> bytes | None:
            file = archive.extractfile(members[name]) if name in members else None
            return None if file is None else file.read(_MAX_TEXT_BYTES)

        return [_read(part, member) for part in _PARTS]


def _read(part: str, get: Callable[[str], bytes | None]) -> bytes:
    plain, packed = get(part), get(f"{part}.gz")
    if plain is None and packed is None:
        raise KeyError(f"{part}(.gz) is missing")
    if packed is None:
        return plain or b""
    with gzip.GzipFile(fileobj=BytesIO(packed)) as file:
        text = file.read(_MAX_TEXT_BYTES)
        if file.read(1):
            raise ValueError(f"{part}.gz unpacks to more than {_MAX_TEXT_BYTES >> 30} GiB")
    return text


def _check_size(matrix: bytes, path: Path) -> None:
    rows, columns, stored = scipy.io.mminfo(BytesIO(matrix))[:3]
    if stored > _MAX_STORED:
        raise SlideError(
            f"{path}: {stored:,} counts ({rows:,} features x {columns:,} cells) in text, which would be held in memory; "
            f"expected under {_MAX_STORED:,}. Take cell_feature_matrix.h5 of the run, which is read piece by piece."
        )
