"""Outlines are read in partitions that end between cells, wherever the file's row groups end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatia.io.outlines import read_outlines

CELLS, VERTICES = 21, 13


@pytest.mark.parametrize("row_group_size", [100, VERTICES * CELLS - 5, 1_000])
def test_a_cell_is_in_one_partition(row_group_size: int, tmp_path: Path) -> None:
    """Among them a last row group that holds no more than the end of the last cell."""
    vertices = pd.DataFrame({"cell_id": np.repeat([f"c{i}" for i in range(CELLS)], VERTICES)})
    vertices["vertex_x"] = vertices["vertex_y"] = np.arange(len(vertices), dtype=float)
    vertices.to_parquet(tmp_path / "o.parquet", row_group_size=row_group_size)
    read = read_outlines(tmp_path / "o.parquet", rows_per_partition=50)
    parts = [part.compute() for part in read.partitions]
    assert all(len(part) for part in parts)
    assert sum(part["cell_id"].nunique() for part in parts) == CELLS
    np.testing.assert_array_equal(pd.concat(parts)["x"], vertices["vertex_x"])
