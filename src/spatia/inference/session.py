"""One embedding run over a corpus: opens model and corpus, checks that they go together, and embeds section by section."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed as dist

from spatia.corpus.corpus import Corpus
from spatia.corpus.files import write_json
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.inference.blocks import Request, SectionEmbedder, hidden_genes_mask
from spatia.inference.coverage import Coverage, check_coverage
from spatia.io.memory import settled_heap
from spatia.models.checkpoint import load_model, model_id, read_description, weights_digest
from spatia.models.names import known_by_symbol
from spatia.models.spatia import MODALITIES, Spatia
from spatia.nn.distributed import world


@dataclass(frozen=True)
class Session:
    """A corpus that has been embedded: block files per section, and what they were made with.

    Attributes
    ----------
    corpus, model
        What was embedded, by what.
    seed
        Of the model's training; -1 where it is not known. Inference itself draws nothing.
    model_digest
        Identifies the model: of its folder, or of the weights of one that was handed over.
    use, hide_genes
        What was seen.
    coverage
        What of each section the model knows.
    sections
        One embedder per section, both passes done.
    outputs
        Names of the embeddings of each cell.
    """

    corpus: Corpus
    model: Spatia
    seed: int
    model_digest: str
    use: tuple[str, ...]
    hide_genes: tuple[str, ...]
    coverage: list[Coverage]
    sections: list[SectionEmbedder]
    outputs: tuple[str, ...]


@contextmanager
def embedded(
    corpus: Corpus | str | Path,
    model: Spatia | str | Path,
    *,
    use: Sequence[str] = MODALITIES,
    hide_genes: Sequence[str] = (),
    sections: Sequence[str] | None = None,
    rows: Mapping[str, NDArray[np.int64]] | None = None,
    device: str = "auto",
    min_coverage: float = 0.5,
    every_section: bool = True,
    scratch: Path | None = None,
    genes_alone: bool = False,
) -> Iterator[Session]:
    """Embed a corpus into block files, and hand over what reads them.

    Parameters
    ----------
    use
        Which of ``"image", "genes"`` to see.
    hide_genes
        Gene ids to treat as not measured, in every cell.
    sections
        Names of sections; all by default.
    rows
        By section: cells that will be read. What these do not need is not embedded; None: every cell.
    device
        ``"auto"``: a GPU where there is one.
    min_coverage
        Least share of a panel that the model must know.
    every_section
        Whether every section must have something that the model can use; False: at least one.
    scratch
        Folder for block files: kept on an error or Ctrl-C and continued by the next call with the same request, removed in
        the end. None: a temporary one. Ranks must share it.
    genes_alone
        Whether each cell is embedded from its genes alone, too; only where both modalities are seen and a section has an image.

    Raises
    ------
    ModelError, CorpusError, SettingsError
        If model and corpus do not go together, or a name is unknown.
    """
    _join_ranks()
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    digest = weights_digest(model) if isinstance(model, Spatia) else model_id(model)
    on = choose_device(device)
    network = (model if isinstance(model, Spatia) else known_by_symbol(load_model(model), [opened])).to(on).eval()
    used = _checked_use(use)
    _check_genes(hide_genes, network)
    names = list(opened.sections) if sections is None else [opened.section(name).sample for name in sections]
    chosen = [opened.section(name) for name in names]
    coverage = check_coverage(opened, chosen, network, used, min_coverage, every_section=every_section)
    has_image = bool(network.vocabulary.channels) and any(opened.section(name).entry.channels for name in names)
    request = Request(
        used, hidden_genes_mask(network, hide_genes), genes_alone and has_image and set(used) == set(MODALITIES)
    )
    with _scratch(scratch, _request_id(opened, digest, request, hide_genes)) as folder:
        with settled_heap():
            embedders = _embed(opened, network, names, folder, request, rows or {})
        seed = -1 if isinstance(model, Spatia) else int(read_description(Path(model))["facts"].get("seed", -1))
        yield Session(opened, network, seed, digest, used, tuple(hide_genes), coverage, embedders, request.outputs)


def _embed(
    corpus: Corpus,
    model: Spatia,
    names: Sequence[str],
    folder: Path,
    request: Request,
    rows: Mapping[str, NDArray[np.int64]],
) -> list[SectionEmbedder]:
    read = {"image": ("images", "masks", "morphology"), "genes": ("counts",)}
    wanted = [part for use in request.use for part in read[use]]
    cells = RowReader([corpus], "cell", vocabulary=model.vocabulary, sections=names, read=wanted)
    tissues = RowReader([corpus], "tissue", vocabulary=model.vocabulary, sections=names, read=())
    embedders = []
    for index, source in enumerate(cells.sources):
        sample = source.section.sample
        embedder = SectionEmbedder(model, cells, tissues, index, folder / sample, request, rows.get(sample))
        embedder.embed_cells()
        _wait_for_ranks()
        embedder.embed_context()
        embedders.append(embedder)
    _wait_for_ranks()
    return embedders


@contextmanager
def _scratch(folder: Path | None, request_id: str) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="spatia-embed-") as made:
            yield Path(made)
        return
    record = folder / "request.json"
    if world()[0] == 0:
        folder.mkdir(parents=True, exist_ok=True)
        if record.is_file() and json.loads(record.read_bytes()) != {"request": request_id}:
            shutil.rmtree(folder)  # blocks of another request
            folder.mkdir()
        write_json(record, {"request": request_id})
    _wait_for_ranks()
    yield folder
    _wait_for_ranks()
    if world()[0] == 0:
        shutil.rmtree(folder)


def _request_id(corpus: Corpus, digest: str, request: Request, hide_genes: Sequence[str]) -> str:
    content = json.dumps([corpus.corpus_id, digest, list(request.use), sorted(hide_genes), list(request.outputs)])
    return hashlib.sha256(content.encode()).hexdigest()


def _join_ranks() -> None:
    """Join the processes that torchrun started, where there are several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def _wait_for_ranks() -> None:
    if world()[1] > 1:
        dist.barrier()


def choose_device(name: str) -> torch.device:
    """Return a device by name; ``"auto"``: a GPU where there is one."""
    if name == "auto" and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device {name!r} is unknown; expected auto, cpu, cuda, cuda:1, mps ….") from error
    n_there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= n_there.get(device.type, np.inf):
        there = ", ".join(["cpu", *(f"{kind} ({n})" for kind, n in n_there.items() if n)])
        raise SettingsError(
            f"device {name!r} is not there, or this torch cannot use it. There: {there}; auto takes the best."
        )
    return device


def _checked_use(use: Sequence[str]) -> tuple[str, ...]:
    if not use or set(use) - set(MODALITIES):
        raise SettingsError(f"use={list(use)}: expected one or both of {', '.join(MODALITIES)}.")
    return tuple(name for name in MODALITIES if name in use)


def _check_genes(hide_genes: Sequence[str], model: Spatia) -> None:
    unknown = sorted(set(hide_genes) - set(model.vocabulary.genes))
    if unknown:
        raise SettingsError(
            f"hide_genes: {len(unknown)} genes are not known to the model, first {unknown[0]!r}. Genes go by gene_id, for example "
            f"{model.vocabulary.genes[0]!r}."
        )
