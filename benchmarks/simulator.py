"""Measure the simulator: cells per second and peak memory, and what image and genes know of a cell.

python benchmarks/simulator.py speed --cells 20000 100000      # each size in a process of its own
python benchmarks/simulator.py information --cells 8000
"""

import argparse
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.sparse import csc_matrix
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spatia.simulate.celltypes import CHANNELS, CODE, FEATURES, STATES
from spatia.simulate.counterfactual import read_counts
from spatia.simulate.genes import DRIVERS
from spatia.simulate.raster import Window, label_windows
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate
from spatia.simulate.states import TYPES_WITH
from spatia.simulate.truth import Truth, read_truth

CONSOLE = Console()


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def simulate_once(n_cells: int, codec: str, result: "multiprocessing.Queue[dict[str, float]]") -> None:
    """Simulate in this process alone, so that its peak memory is that of one slide."""
    stages: dict[str, float] = {}
    start = time.perf_counter()

    def report(what: str, *_: int) -> None:
        stages[what] = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        settings = SimulationSettings(n_cells=n_cells, codec=codec)
        (path,) = simulate(Path(folder) / "slide", settings, report)
        seconds = time.perf_counter() - start
        size = size_mb(path)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result.put({"seconds": seconds, "counts": stages["counts"], "peak_gb": peak_gb, "mb": size})


def speed(sizes: list[int], codec: str) -> None:
    table = Table(title=f"Simulating, codec {codec}, {platform.machine()}, {os.cpu_count()} cores")
    for name in ("cells", "s", "of it cells and tables, s", "cells/s", "peak GB", "MB on disk"):
        table.add_column(name, justify="right")
    context = multiprocessing.get_context("spawn")
    for n_cells in sizes:
        queue: multiprocessing.Queue[dict[str, float]] = context.Queue()
        process = context.Process(target=simulate_once, args=(n_cells, codec, queue))
        process.start()
        row = queue.get()
        process.join()
        rate = n_cells / row["seconds"]
        table.add_row(
            f"{n_cells:,}",
            f"{row['seconds']:.0f}",
            f"{row['counts']:.0f}",
            f"{rate:,.0f}",
            f"{row['peak_gb']:.2f}",
            f"{row['mb']:,.0f}",
        )
    CONSOLE.print(table)


def measured_morphology(bundle: Path, truth: Truth) -> pd.DataFrame:
    """Measure cells on the image with their outlines, as any user could."""
    image = tifffile.imread(bundle / "morphology_focus" / "morphology_focus_0000.ome.tif").astype(np.float64)
    cells = pd.read_parquet(bundle / "cells.parquet")
    window = Window(0, 0, *image.shape[1:])
    labels, nuclei = label_windows(truth.section.cells, window, truth.settings.um_per_px)
    columns = {"log_area": np.log(cells["cell_area"]), "log_nucleus_area": np.log(cells["nucleus_area"])}
    for part, mask in (("cell", labels), ("nucleus", nuclei)):
        flat = mask.ravel()
        n = np.maximum(np.bincount(flat, minlength=len(cells) + 1)[1:], 1)
        for channel, name in zip(image, CHANNELS, strict=True):
            mean = np.bincount(flat, channel.ravel(), len(cells) + 1)[1:] / n
            square = np.bincount(flat, channel.ravel() ** 2, len(cells) + 1)[1:] / n
            spread = np.sqrt(np.maximum(square - mean**2, 0))
            columns |= {f"{part}_{name}_mean": np.log(mean + 1), f"{part}_{name}_cv": spread / (mean + 1)}
    for part, name in (("cell", "cell_boundaries"), ("nucleus", "nucleus_boundaries")):
        ring = pd.read_parquet(bundle / f"{name}.parquet")[["vertex_x", "vertex_y"]].to_numpy(np.float64)
        ring = ring.reshape(len(cells), -1, 2)[:, :-1]
        ring -= ring.mean(1, keepdims=True)
        values = np.linalg.eigvalsh(np.einsum("nvi,nvj->nij", ring, ring) / ring.shape[1])
        columns[f"{part}_elongation"] = np.log(values[:, 1] / np.maximum(values[:, 0], 1e-6)) / 2
    return pd.DataFrame(columns)


def log_expression(counts: csc_matrix) -> NDArray[np.float64]:
    """Depth-scaled log counts, and the log of the depth."""
    dense = counts.toarray().astype(np.float64)
    depth = np.maximum(dense.sum(1, keepdims=True), 1)
    return np.hstack([np.log1p(dense / depth * 200), np.log(depth)])


def explained(inputs: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return R² of a ridge regression, cross-validated in five folds."""
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
    return float(r2_score(target, cross_val_predict(model, inputs, target, cv=FOLDS)))


def accuracy(inputs: NDArray[np.float64], types: NDArray[np.int8]) -> tuple[float, float]:
    """Return accuracy and balanced accuracy of a logistic regression, cross-validated in five folds."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    guess = cross_val_predict(model, inputs, types, cv=FOLDS)
    return float((guess == types).mean()), float(balanced_accuracy_score(types, guess))


FOLDS = KFold(5, shuffle=True, random_state=0)


def information(n_cells: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (bundle,) = simulate(Path(folder) / "slide", SimulationSettings(n_cells=n_cells, transcripts=False))
        truth = read_truth(bundle)
        counts = read_counts(bundle, np.arange(n_cells))[:, : truth.settings.n_genes]
        image = measured_morphology(bundle, truth).to_numpy()
    genes = log_expression(counts)
    sources = {"image": image, "genes": genes, "both": np.hstack([image, genes])}
    cells = truth.section.cells
    types = np.array(cells.kind)
    shares = Table(title=f"Type of {n_cells:,} cells, logistic regression, 5-fold")
    for name in ("from", "accuracy", "balanced accuracy"):
        shares.add_column(name)
    for name, inputs in sources.items():
        right, balanced = accuracy(inputs, types)
        shares.add_row(name, f"{right:.3f}", f"{balanced:.3f}")
    CONSOLE.print(shares)
    rows: list[tuple[str, NDArray[np.bool_], NDArray[np.floating]]] = []
    for column, state in enumerate(STATES):
        codes = [CODE[name] for name in TYPES_WITH[state]]
        rows.append((f"state {state}", np.isin(types, codes), cells.states[:, column].astype(np.float64)))
    tumour = types == CODE["tumour"]
    rows += [(f"latent {name}, tumour cells", tumour, cells.features[:, i]) for i, name in enumerate(FEATURES)]
    rows += [(f"driver {d.gene}, tumour cells", tumour, cells.scores[:, i]) for i, d in enumerate(DRIVERS)]
    report("R² of a ridge regression, 5-fold", rows, sources)
    within = [
        ("genes, mean R² over those with > 1 count, all cells", np.ones(n_cells, bool)),
        ("the same, tumour", tumour),
    ]
    for label, chosen in within:
        busy = np.flatnonzero(counts[chosen].toarray().mean(0) > 1)
        values = [explained(image[chosen], genes[chosen][:, g]) for g in busy]
        CONSOLE.print(f"{label}: explained by the image {np.mean(values):.3f} ({len(busy)} genes)")


def report(
    title: str, rows: list[tuple[str, NDArray[np.bool_], NDArray]], sources: dict[str, NDArray[np.float64]]
) -> None:
    table = Table(title=title)
    for name in ("of", *sources):
        table.add_column(name)
    for label, chosen, target in rows:
        values = [explained(inputs[chosen], target[chosen]) for inputs in sources.values()]
        table.add_row(label, *(f"{value:.2f}" for value in values))
    CONSOLE.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("--cells", type=int, nargs="+", default=[20_000])
    fast.add_argument("--codec", default="deflate")
    known = commands.add_parser("information")
    known.add_argument("--cells", type=int, default=8_000)
    arguments = parser.parse_args()
    actions: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(arguments.cells, arguments.codec),
        "information": lambda: information(arguments.cells),
    }
    actions[arguments.command]()


if __name__ == "__main__":
    main()
