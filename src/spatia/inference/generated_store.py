"""The store of generated images: an AnnData zarr that says of itself that they were generated, written shard by shard."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import put_in_place, write_json
from spatia.corpus.settings import StorageSettings
from spatia.corpus.store import array_in, create_rows, create_store, finish_store, subgroup, write_element, write_uns
from spatia.inference.asking import Asker
from spatia.inference.drawing import Drawing
from spatia.inference.generator import Generator
from spatia.inference.wanted import Wanted
from spatia.log import duration, logger, progress
from spatia.version import __version__

SHARD_BYTES: Final = 32 * 2**20  # of images that are in memory at once
PROGRESS_FILE: Final = "spatia_progress.json"


def write_images(
    path: Path,
    maker: Generator,
    wanted: Wanted,
    how: Drawing,
    asker: Asker,
    corpus: Corpus,
    *,
    told: Wanted | None = None,
    **facts: Any,
) -> Path:
    """Draw and write, shard by shard, so that a killed run goes on behind the last whole shard.

    Parameters
    ----------
    asker
        Gives what is known of rows: ``asker(wanted, told) -> Asked``.
    told
        Rows whose conditions are told in the place of each row's own.
    facts
        Further entries of ``uns["spatia"]``.
    """
    n, images = len(wanted) * how.draws, maker.space
    shape = (n, len(maker.channels), images.px, images.px)
    shard = max(1, min(SHARD_BYTES // int(np.prod(shape[1:])), 2048)) // 64 * 64 or 64
    # whole cells to a block, and whole blocks to a shard
    cells_a_block = max(1, shard // how.draws)
    storage = StorageSettings(chunk_rows=64, shard_rows=shard) if cells_a_block * how.draws == shard else None
    storage = storage or StorageSettings(chunk_rows=cells_a_block * how.draws, shard_rows=cells_a_block * how.draws)
    told = wanted if told is None else told
    request = _request(maker, wanted, told, how, corpus, asker.digest)
    aside = path.with_name(f".{path.name}.part")
    done = _begin(aside, request)
    if done is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        root = create_store(aside)
        create_rows(subgroup(root, "obsm"), keys.CELL_IMAGES, shape, np.uint8, storage)
        done = 0
        write_json(aside / PROGRESS_FILE, {"request": request, "done": done, "evaluations": 0})
    import zarr

    root = zarr.open_group(aside, mode="a")
    array = array_in(subgroup(root, "obsm"), keys.CELL_IMAGES)
    evaluations = int(json.loads((aside / PROGRESS_FILE).read_bytes())["evaluations"])
    _estimate(maker, asker, wanted, how, n - done)
    with progress("generating", n, "images", done=done) as advance:
        for start in range(done // how.draws, len(wanted), cells_a_block):
            stop = min(start + cells_a_block, len(wanted))
            block = slice(start, stop)
            drawn = maker.draw(asker(wanted.take(block), told.take(block)), how)
            first = start * how.draws
            array[first : first + (stop - start) * how.draws] = drawn.images.reshape(-1, *shape[1:])
            evaluations = max(evaluations, drawn.evaluations)
            record = {"request": request, "done": stop * how.draws, "evaluations": evaluations}
            write_json(aside / PROGRESS_FILE, record)
            advance((stop - start) * how.draws)
    begun_at = asker.begun_at(wanted, told)
    if asker.real is not None:
        facts |= {"real_corpus": asker.real.corpus_id, "real_cells": len(asker.real), "keep": how.keep}
    facts["aligned"] = {name: shift.to_json() for name, shift in asker.shifts.items()}
    write_element(root, "obs", _obs(wanted, how.draws).assign(**begun_at))
    write_element(root, "var", pd.DataFrame(index=pd.Index([], dtype=object, name="gene_id")))
    write_uns(root, {"spatia": _facts(maker, how, evaluations, corpus) | facts})
    (aside / PROGRESS_FILE).unlink()
    finish_store(aside)
    put_in_place(aside, path)  # what stands there is one of drawn images, too: `generate` has seen that, and said so
    return path


def _begin(aside: Path, request: str) -> int | None:
    """Return the images that stand already; None where the store must be begun."""
    record = aside / PROGRESS_FILE
    if record.is_file():
        state = json.loads(record.read_bytes())
        if state["request"] == request:
            logger.info("%s: going on after %d images", aside, state["done"])
            return int(state["done"])
    if aside.exists():
        shutil.rmtree(aside)
    return None


def _merging(maker: Generator) -> list[float]:
    """Return the share of tokens that each layer merges; none of a U-Net."""
    network = maker.network.network
    return [float(block.merge) for block in network.blocks] if hasattr(network, "blocks") else []  # type: ignore[union-attr]


def _request(maker: Generator, wanted: Wanted, told: Wanted, how: Drawing, corpus: Corpus, given: str) -> str:
    digest = hashlib.sha256()
    solver = None if how.solver is None else how.solver.model_dump()
    content = [maker.generator_id, corpus.corpus_id, asdict(how) | {"solver": solver}, _merging(maker), given]
    digest.update(json.dumps(content, sort_keys=True, default=str).encode())
    for values in (wanted.section, wanted.row, told.section, told.row):
        digest.update(np.ascontiguousarray(values).tobytes())
    for name in sorted(wanted.columns):
        digest.update(json.dumps([str(value) for value in wanted.columns[name]]).encode())
    return digest.hexdigest()


def _estimate(maker: Generator, asker: Asker, wanted: Wanted, how: Drawing, n_left: int) -> None:
    """Time one evaluation of the network, and say how long it all will take."""
    some = min(maker.at_once, len(wanted))
    asked = asker(wanted.take(slice(0, some)))
    single = maker.config.solver.model_copy(update={"kind": "euler", "evaluations": 1})
    euler = None if maker.network.path.in_one_step else single
    one = Drawing(1, how.seed, euler, how.guidance, precision=how.precision, keep=how.keep)
    timed = maker.draw(asked, one)  # allocates and chooses kernels
    if not timed.evaluations:
        logger.info("%d images of real cells as they are: no network is asked", n_left)
        return
    began = time.perf_counter()
    maker.draw(asked, one)
    seconds = (time.perf_counter() - began) / some * n_left
    solver, n_evaluations = maker.solver_of(how), maker.solver_of(how).evaluations
    if asker.real is not None:
        n_evaluations = 2 * maker.solver_of(how, how.keep).evaluations
    if maker.network.path.in_one_step:  # what was timed is all that an image takes
        logger.info("%d images in one step each: about %s", n_left, duration(seconds))
        return
    seconds *= n_evaluations / timed.evaluations
    logger.info(
        "%d images of at most %d evaluations each (%s): about %s",
        n_left,
        n_evaluations,
        solver.kind,
        duration(seconds),
    )


def _obs(wanted: Wanted, draws: int) -> pd.DataFrame:
    def each(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, draws)

    draw = np.tile(np.arange(draws), len(wanted))
    cell_id, sample = each(wanted.cell_id), each(wanted.sample)
    index = [f"{s}:{c}:{number}:{d}" for number, (s, c, d) in enumerate(zip(sample, cell_id, draw, strict=True))]
    frame = pd.DataFrame({keys.CELL_ID: cell_id, keys.SAMPLE: pd.Categorical(sample), "draw": draw}, index=index)
    for name, values in wanted.columns.items():
        frame[name] = each(values)
    frame["synthetic"] = True
    return frame


def _facts(maker: Generator, how: Drawing, evaluations: int, corpus: Corpus) -> dict[str, Any]:
    config, space = maker.config, maker.space
    solver = how.solver or config.solver
    told: Iterator[str] = (name for name in config.told if name not in how.drop)
    return {
        "synthetic": True,
        "task": config.task,
        "level": config.level,
        "generator": maker.generator_id,
        "model": maker.model_id,
        "version": __version__,
        "corpus": corpus.corpus_id,
        "seed": how.seed,
        "channels": np.array(maker.channels, dtype=object),
        "um_per_px": space.um_per_px,
        "solver": "step" if maker.network.path.in_one_step else solver.kind,
        "evaluations": evaluations,
        "guidance": config.guidance if how.guidance is None else how.guidance,
        "precision": how.precision,
        "merge": max(_merging(maker), default=0.0),
        "conditions": np.array(list(told), dtype=object),
    }
