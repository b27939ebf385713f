"""Speed and memory of benchmarks/model.py: beside a ViT-B/16 at 224 px on the same cells, and flat in the number of cells.

Each number is measured in a process of its own, so that peak memory is that of one thing.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from loader import write_noise_corpus

from spatia.bench.cells import load_cells
from spatia.bench.dataset import DataSet
from spatia.bench.methods.vit import encode, make_vit
from spatia.corpus.build import build
from spatia.corpus.corpus import Corpus
from spatia.inference.embed import embed
from spatia.io.memory import peak_memory_bytes
from spatia.io.source import Source
from spatia.models.checkpoint import load_model
from spatia.models.shipped import model_folder
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate
from spatia.training.settings import read_settings
from spatia.training.train import train

VIT_CELLS = 96
FEW = 20_000
BRIEF_CELLS = 2_000
BRIEF = ("epochs.cells=1", "epochs.context=1")  # speed and memory do not depend on how long it trains


def measure(work: Path, model: Path | None, breast: Path, many: int) -> str:
    """Return the tables."""
    folder = model or _trained(work, DataSet.read(breast).corpus)
    few, large = (_noise(work, n) for n in (FEW, many))
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}",
        "",
        "| what | cells | cells/s | cells a second of processor | peak MB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    vit = _apart("vit", breast, folder)
    lines.append(_row("ViT-B/16 at 224 px, random weights: crops to class tokens", vit))
    tiny = _apart("encode", breast, folder)
    lines.append(_row(f"tiny, image alone: crops to embeddings ({_times(tiny, vit)} the ViT)", tiny))
    whole = _apart("embed", breast, folder)
    lines.append(_row(f"spatia embed, image and genes, three levels ({_times(whole, vit)} the ViT)", whole))
    noise = _trained(work, _noise(work, BRIEF_CELLS))
    trained = [_trained_for(work, corpus) for corpus in (few, large)]
    embedded = [_apart("embed-to-disk", corpus, noise) for corpus in (few, large)]
    for name, pair in (("spatia train, tiny", trained), ("spatia embed to zarr", embedded)):
        for one in pair:
            lines.append(_row(name, one))
        lines.append(
            f"| {name}: memory of {many:,} cells over {FEW:,} | | | | × {pair[1]['peak_mb'] / pair[0]['peak_mb']:.2f} |"
        )
    return "\n".join(lines)


def grow(work: Path, sizes: Sequence[int]) -> str:
    """Return seconds of processor and memory of building and of embedding genes as cells grow, and the slopes of their logarithms."""
    model = model_folder("tiny")  # speed does not depend on what it learnt
    lines = [
        "| cells | build: seconds of processor | cells a second | peak MB | embed: seconds of processor | cells a second | peak MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    seconds: dict[str, list[float]] = {"build": [], "embed": []}
    for n in sizes:
        slide, corpus = work / f"growth_{n}_slide", work / f"growth_{n}"
        _apart("simulate", slide, Path(str(n)))
        shutil.rmtree(corpus, ignore_errors=True)
        found = {"build": _apart("build", slide, corpus), "embed": _apart("embed-genes", corpus, model)}
        cells = []
        for what, one in found.items():
            seconds[what].append(one["cells"] / one["cpu_rate"])
            cells += [f"{seconds[what][-1]:,.0f}", f"{one['cpu_rate']:,.0f}", f"{one['peak_mb']:,.0f}"]
        lines.append(f"| {n:,} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    slopes = {what: np.polyfit(np.log(sizes), np.log(values), 1)[0] for what, values in seconds.items()}
    said = ", ".join(f"{what} {slope:.2f}" for what, slope in slopes.items())
    return "\n".join([*lines, "", f"Slope of the logarithm of seconds over that of cells: {said}."])


def _row(name: str, found: dict[str, float]) -> str:
    cpu = f"{found['cpu_rate']:,.1f}" if "cpu_rate" in found else ""
    return f"| {name} | {int(found['cells']):,} | {found['rate']:,.1f} | {cpu} | {found['peak_mb']:,.0f} |"


def _times(found: dict[str, float], other: dict[str, float]) -> str:
    """Compare seconds of processor: on a busy machine the clock measures the others too."""
    return f"{found['cpu_rate'] / other['cpu_rate']:.0f} ×"


def _noise(work: Path, n: int) -> Path:
    path = work / f"noise_{n}"
    return path if (path / "corpus.json").exists() else write_noise_corpus(path, n)


def _trained(work: Path, corpus: Path) -> Path:
    out = work / "results" / "speed" / f"model_{corpus.name}"
    return train([corpus], out, read_settings(None, BRIEF), resume=True)


def _trained_for(work: Path, corpus: Path, seconds: float = 150.0) -> dict[str, float]:
    """Train for a while and read speed and memory from the log: a whole epoch of 500,000 cells takes an hour here."""
    out = work / "results" / "speed" / f"brief_{corpus.name}"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "spatia.cli.main", "train", str(corpus), "-o", str(out), "--set", "log_every=2"]
    with subprocess.Popen([*command, "--set", "epochs.cells=1", "--set", "epochs.context=1"]) as run:
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)  # stops after a checkpoint
            run.wait()
    records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [one for one in records if one["kind"] == "step" and one["stage"] == "cells"]
    return {
        "cells": sum(one["rows"] for one in steps),
        "rate": statistics.median(one["rows_per_s"] for one in steps),
        "peak_mb": max(one["memory_bytes"] for one in records if "memory_bytes" in one) / 1e6,
    }


def _apart(what: str, path: Path, model: Path) -> dict[str, float]:
    command = [sys.executable, __file__, what, str(path), str(model)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _timed(cells: int, work: Callable[[], object]) -> dict[str, float]:
    start = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    return {"cells": cells, "rate": cells / seconds, "cpu_rate": cells / cpu, "peak_mb": peak_memory_bytes() / 1e6}


def _vit(path: Path, _: Path) -> dict[str, float]:
    images = load_cells(DataSet.read(path)).images[:VIT_CELLS]
    model = make_vit()
    encode(model, images[:4])
    return _timed(len(images), lambda: encode(model, images))


def _encode(path: Path, folder: Path) -> dict[str, float]:
    """The image branch alone, on crops in memory, as the ViT has them."""
    from spatia.data.loader import cell_loader

    model = load_model(folder).eval()
    corpus = Corpus.open(DataSet.read(path).corpus)
    batches = list(cell_loader([corpus], batch_size=256, shuffle=False, vocabulary=model.vocabulary))
    with torch.inference_mode():
        model.encode_cells(batches[0], use=("image",))
        return _timed(corpus.n_cells, lambda: [model.encode_cells(batch, use=("image",)) for batch in batches])


def _embed(path: Path, folder: Path) -> dict[str, float]:
    corpus = Corpus.open(DataSet.read(path).corpus)
    return _timed(corpus.n_cells, lambda: embed(corpus, load_model(folder)))


def _embed_to_disk(path: Path, folder: Path) -> dict[str, float]:
    corpus = Corpus.open(path)
    out = folder.parent / f"{path.name}_embedded.zarr"
    return _timed(corpus.n_cells, lambda: embed(corpus, load_model(folder), out))


def _simulate(path: Path, cells: Path) -> dict[str, float]:
    n = int(cells.name)
    if (path / "experiment.xenium").is_file():
        return {"cells": n}
    return _timed(n, lambda: simulate(path, SimulationSettings(n_cells=n, um_per_px=0.425, transcripts=False)))


def _build(path: Path, out: Path) -> dict[str, float]:
    started = time.process_time()
    result = build([Source("growth", path)], out)
    assert result.exit_code == 0, result
    n = Corpus.open(out).n_cells
    return {"cells": n, "cpu_rate": n / (time.process_time() - started), "peak_mb": peak_memory_bytes() / 1e6}


def _embed_genes(path: Path, folder: Path) -> dict[str, float]:
    corpus = Corpus.open(path)
    out = path.parent / f"{path.name}_genes.zarr"
    shutil.rmtree(out, ignore_errors=True)
    return _timed(corpus.n_cells, lambda: embed(corpus, load_model(folder), out, use=("genes",)))


WHAT = {
    "vit": _vit,
    "encode": _encode,
    "embed": _embed,
    "embed-to-disk": _embed_to_disk,
    "embed-genes": _embed_genes,
    "simulate": _simulate,
    "build": _build,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("path", type=Path)
    parser.add_argument("model", type=Path)
    given = parser.parse_args()
    print(json.dumps(WHAT[given.what](given.path, given.model)))
