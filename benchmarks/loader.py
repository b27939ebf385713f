"""Measure the loader beside the plain ways to read a corpus, in one run: cells per second and ratios.

    python benchmarks/loader.py [CORPUS] [--cells 100000] [--json]

Without a corpus, one of noise-like cells (64 x 64, one channel, 313 genes) is written to a temporary folder.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import zarr
from zarr.codecs import ZstdCodec

from spatia.corpus.corpus import Corpus
from spatia.data.loader import cell_loader, niche_loader, tissue_loader

BATCH = 256
IMAGES = "obsm/single_cell_images"
Counter = Iterator[int]  # yields the cells of each batch


def loader_cells(corpus: Corpus, **settings: Any) -> Counter:
    """Ours: shuffled blocks, read ahead, as validated tensors."""
    for batch in cell_loader([corpus], batch_size=BATCH, **settings):
        yield len(batch)


def loader_niches(corpus: Corpus) -> Counter:
    """Ours: whole niches."""
    for batch in niche_loader([corpus]):
        yield len(batch.cells)


def loader_tissues(corpus: Corpus) -> Counter:
    """Ours: whole tissue windows."""
    for batch in tissue_loader([corpus]):
        yield len(batch.cells)


def stored_images(group: zarr.Group) -> zarr.Array:
    """Return the crops of a section's cells."""
    images = group[IMAGES]
    assert isinstance(images, zarr.Array)
    return images


def single_rows(corpus: Corpus) -> Counter:
    """One random row after the other through zarr-python (a map-style dataset as usually written)."""
    section = next(iter(corpus.sections.values()))
    group = zarr.open_group(section.cells.path, mode="r")
    images, x = stored_images(group), ad.io.sparse_dataset(group["X"])
    order = np.random.default_rng(0).permutation(section.entry.n_cells)
    for start in range(0, len(order), 16):
        rows = order[start : start + 16]
        torch.stack([torch.from_numpy(np.asarray(images[int(row)])) for row in rows])
        torch.stack([torch.from_numpy(x[int(row)].toarray().astype(np.float32)) for row in rows])
        yield len(rows)


def shuffled_batches(corpus: Corpus) -> Counter:
    """A batch of random rows at a time through zarr-python and AnnData's backed sparse matrix."""
    section = next(iter(corpus.sections.values()))
    group = zarr.open_group(section.cells.path, mode="r")
    images, x = stored_images(group), ad.io.sparse_dataset(group["X"])
    order = np.random.default_rng(0).permutation(section.entry.n_cells)
    for start in range(0, len(order), BATCH):
        rows = np.sort(order[start : start + BATCH])
        torch.from_numpy(images.oindex[rows])
        torch.from_numpy(x[rows].toarray().astype(np.float32))
        yield len(rows)


def anndata_in_memory(corpus: Corpus) -> Counter:
    """``anndata.read_zarr(...)[rows]``: everything in memory first (the reading counts)."""
    section = next(iter(corpus.sections.values()))
    table = ad.read_zarr(section.cells.path)
    order = np.random.default_rng(0).permutation(table.n_obs)
    for start in range(0, len(order), BATCH):
        view = table[order[start : start + BATCH]]
        torch.from_numpy(np.asarray(view.obsm["single_cell_images"]))
        torch.from_numpy(view.X.toarray().astype(np.float32))
        yield view.n_obs


def anndata_lazy(corpus: Corpus) -> Counter:
    """``anndata.experimental.read_lazy(...)[rows].to_memory()``: nothing in memory, dask reads each batch."""
    section = next(iter(corpus.sections.values()))
    table = ad.experimental.read_lazy(section.cells.path)
    order = np.random.default_rng(0).permutation(table.n_obs)
    for start in range(0, len(order), BATCH):
        view = table[np.sort(order[start : start + BATCH])].to_memory()
        torch.from_numpy(np.asarray(view.obsm["single_cell_images"]))
        torch.from_numpy(view.X.toarray().astype(np.float32))
        yield view.n_obs


def tensorstore_images(corpus: Corpus) -> Counter:
    """Random batches of images alone (no counts) through tensorstore."""
    import tensorstore as ts

    section = next(iter(corpus.sections.values()))
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(section.cells.path / IMAGES)}}
    images = ts.open(spec, read=True).result()
    order = np.random.default_rng(0).permutation(section.entry.n_cells)
    for start in range(0, len(order), BATCH):
        rows = np.sort(order[start : start + BATCH])
        torch.from_numpy(images[rows].read().result())
        yield len(rows)


WAYS: dict[str, Callable[[Corpus], Counter]] = {
    "spatia: cells, shuffled blocks": loader_cells,
    "spatia: cells, images and counts alone": lambda corpus: loader_cells(corpus, read=("images", "counts")),
    "spatia: cells, in order": lambda corpus: loader_cells(corpus, shuffle=False),
    "spatia: cells, 2 worker processes": lambda corpus: loader_cells(corpus, num_workers=2),
    "spatia: niches": loader_niches,
    "spatia: tissue windows": loader_tissues,
    "zarr-python, single random rows": single_rows,
    "zarr-python, random batches": shuffled_batches,
    "AnnData in memory, random batches": anndata_in_memory,
    "AnnData lazy, random batches": anndata_lazy,
    "tensorstore, random batches, images alone": tensorstore_images,
}


def measure(make: Callable[[Corpus], Counter], corpus: Corpus, seconds: float) -> dict[str, float]:
    """Cells per second over a whole pass, or over what is done after ``seconds``; time to the first batch."""
    start = time.perf_counter()
    batches = make(corpus)
    cells = next(batches)
    first = time.perf_counter() - start
    for more in batches:
        cells += more
        if time.perf_counter() - start > seconds:
            break
    return {"cells_per_s": cells / (time.perf_counter() - start), "first_batch_s": first}


def write_noise_corpus(path: Path, n: int, n_genes: int = 313, niche: int = 20, window: int = 1280) -> Path:
    """Write one section of noise-like cells in the layout and chunking of ``spatia build``."""
    rng, px = np.random.default_rng(0), 64
    section = path / "sections" / "noise"
    stores = {name: section / f"{name}.zarr" for name in ("cells", "niches", "tissues")}
    starts = {name: np.arange(0, n, step) for name, step in (("niches", niche), ("tissues", window))}
    frames = {"cells": pd.DataFrame({"has_image": np.ones(n, bool), "has_outline": np.ones(n, bool)})}
    frames["cells"]["image_share"] = np.ones(n, np.float32)
    for name, step in (("niches", niche), ("tissues", window)):
        stop = np.minimum(starts[name] + step, n)
        frames[name] = pd.DataFrame({"cell_start": starts[name], "cell_stop": stop, "n_cells": stop - starts[name]})
    niche_stop = np.minimum(starts["tissues"] + window, n)
    frames["tissues"]["niche_start"] = starts["tissues"] // niche
    frames["tissues"]["niche_stop"] = -(-niche_stop // niche)
    for name, frame in frames.items():
        frame.index = frame.index.astype(str)
        rate = rng.gamma(0.5, 0.6, n_genes)
        rows = n if name == "cells" else 1
        blocks = [sp.csr_matrix(rng.poisson(rate, (min(20_000, rows - s), n_genes))) for s in range(0, rows, 20_000)]
        counts = sp.vstack(blocks, "csr").astype(np.uint16) if name == "cells" else None
        table = ad.AnnData(counts, obs=frame, var=pd.DataFrame(index=[f"GENE{g}" for g in range(n_genes)]))
        table.obsm["spatial"] = rng.uniform(0, 1e4, (len(frame), 2))
        with warnings.catch_warnings(), ad.settings.override(zarr_write_format=3):
            warnings.simplefilter("ignore")
            table.write_zarr(stores[name])
    large = {
        "cells": (("single_cell_images", (n, 1, px, px), 64, 2048), ("single_cell_mask", (n, px, px), 64, 2048)),
        "niches": (("images", (len(frames["niches"]), 1, px, px), 64, 2048),),
        "tissues": (("images", (len(frames["tissues"]), 1, 256, 256), 1, 64),),
    }
    for name, arrays in large.items():
        for key, shape, chunk, shard in arrays:
            _write_noise(zarr.open_group(stores[name] / "obsm", mode="a"), key, shape, rng, chunk=chunk, shard=shard)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(stores[name])
    _write_json_files(path, section, {name: len(frame) for name, frame in frames.items()}, n_genes)
    return path


def _write_noise(
    group: zarr.Group, key: str, shape: tuple[int, ...], rng: np.random.Generator, *, chunk: int, shard: int
) -> None:
    """A bright disc of random size on noise: compresses about as much as a real nucleus."""
    array = group.create_array(
        key,
        shape=shape,
        dtype="u1",
        chunks=(chunk, *shape[1:]),
        shards=(shard, *shape[1:]),
        compressors=ZstdCodec(level=1),
        attributes={"encoding-type": "array", "encoding-version": "0.2.0"},
    )
    px = shape[-1]
    y, x = np.mgrid[:px, :px] - px / 2
    distance = np.hypot(y, x).astype(np.float32)
    for start in range(0, shape[0], shard):
        rows = min(shard, shape[0] - start)
        radius = rng.uniform(0.1 * px, 0.3 * px, (rows, 1, 1)).astype(np.float32)
        if "mask" in key:
            values = (distance < radius).astype(np.uint8) * 3
        else:
            noise = rng.standard_normal((rows, px, px), np.float32) * 6
            values = np.clip(120 * np.exp(-((distance / radius) ** 2)) + 20 + noise, 0, 255).astype(np.uint8)
        array[start : start + rows] = values.reshape(rows, *shape[1:])


def _write_json_files(path: Path, section: Path, n: dict[str, int], n_genes: int) -> None:
    genes = [f"GENE{g}" for g in range(n_genes)]
    pd.DataFrame({"gene_id": genes, "symbol": genes, "organism": "noise"}).to_parquet(path / "genes.parquet")
    files = {
        p.relative_to(section).as_posix(): {"bytes": p.stat().st_size, "sha256": ""}
        for p in section.rglob("*")
        if p.is_file()
    }
    (section / "manifest.json").write_text(json.dumps({"files": files}))
    entry: dict[str, object] = {
        "n_cells": n["cells"],
        "n_niches": n["niches"],
        "n_tissues": n["tissues"],
        "n_genes": n_genes,
    }
    entry |= {
        "channels": ["DAPI"],
        "manifest_sha256": hashlib.sha256((section / "manifest.json").read_bytes()).hexdigest(),
    }
    levels = {"cell": (27.2, 64), "niche": (54.4, 64), "tissue": (435.2, 256)}
    corpus = {
        "format": "spatia-corpus",
        "format_version": 1,
        "spatia_version": "benchmark",
        "levels": {level: {"size_um": size, "px": px} for level, (size, px) in levels.items()},
        "niches": {"definition": "grid"},
        "channels": ["DAPI"],
        "n_genes": n_genes,
        "genes_sha256": "",
        "sections": {"noise": entry},
    }
    (path / "corpus.json").write_text(json.dumps(corpus))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", type=Path)
    parser.add_argument("--cells", type=int, default=100_000, help="cells of the noise corpus")
    parser.add_argument("--seconds", type=float, default=10.0, help="longest time for one way")
    parser.add_argument("--only", default="", help="measure only the ways whose name contains this")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.corpus or write_noise_corpus(Path(folder) / "corpus", arguments.cells)
        results = _measure_all(Corpus.open(path), arguments.seconds, arguments.only)
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    ours = next(iter(results.values()))["cells_per_s"]
    load = os.getloadavg()[0]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"
    )
    print(f"{'way':<44}{'cells/s':>10}{'first row is … times faster':>30}{'first batch s':>15}")
    for name, result in results.items():
        rate = result["cells_per_s"]
        print(f"{name:<44}{rate:>10,.0f}{ours / rate:>29.1f}×{result['first_batch_s']:>15.2f}")


def _measure_all(corpus: Corpus, seconds: float, only: str) -> dict[str, dict[str, float]]:
    results = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, make in WAYS.items():
            if only not in name:
                continue
            try:
                results[name] = measure(make, corpus, seconds)
            except ModuleNotFoundError as error:
                print(f"{name}: left out, {error.name} is not installed", file=sys.stderr)
    return results


if __name__ == "__main__":
    main()
