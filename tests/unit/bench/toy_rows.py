"""A row of a benchmark for tests of what reads rows."""

from typing import Any

from spatia.bench.rows import Row


def row(method: str = "pca", **changes: Any) -> Row:
    """Return a row, with some values changed."""
    values: dict[str, Any] = {
        "task": "annotation", "data": "d", "metric": "macro-F1", "value": 0.5, "seed": 0, "n": 10,
        "n_train": 20, "seconds": 1.0, "peak_memory_mb": 100.0, "status": "ok", "message": "", "command": "c", "versions": "{}",
    }  # fmt: skip
    return Row(**{**values, "method": method, **changes})
