"""The published models by name, and a method of the benchmark from a name and a local folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods.method import Method, Problem
from spatia.bench.published import (
    cellplm,
    conch,
    geneformer,
    gigapath,
    hipt,
    nicheformer,
    scfoundation,
    scgpt,
    uce,
    uni,
)
from spatia.bench.published.model import PublishedModel, find_file
from spatia.corpus.files import whole_file
from spatia.errors import ModelError, SettingsError

PUBLISHED: dict[str, PublishedModel] = {
    model.name: model
    for model in (
        geneformer.GENEFORMER,
        scgpt.SCGPT,
        uce.UCE,
        cellplm.CELLPLM,
        nicheformer.NICHEFORMER,
        scfoundation.SCFOUNDATION,
        uni.UNI,
        gigapath.GIGAPATH,
        hipt.HIPT,
        conch.CONCH,
    )
}


def published_method(name: str, path: Path) -> Method:
    """Return a published model as a method.

    Parameters
    ----------
    name
        A key of `PUBLISHED`, or one with a label after a colon: ``geneformer:316M`` runs Geneformer and is shown by that name.
    path
        Local folder with the published files.

    Raises
    ------
    SettingsError
        If the name is unknown; the message lists the names.
    ModelError
        If a file that the model is made of is not there. The weights are read when the method first runs.

    Notes
    -----
    Embeddings are kept in the results folder (``embeddings/published-*.npy``): they depend on the corpus, on the files of the
    model, on the genes that may be read and, where the tokenisation draws, on the seed.
    """
    key = name.partition(":")[0]
    if key not in PUBLISHED:
        raise SettingsError(f"Unknown published model {key!r}. Known: {', '.join(PUBLISHED)}.")
    model = PUBLISHED[key]
    for pattern in model.files:
        find_file(path, pattern)
    embed = _Embedding(name, model, path)
    image, genes = (embed if model.reads == {side} else None for side in ("image", "genes"))
    says = f"{model.description}; weights of {path}"
    return Method(name, model.reads, embed, says, image_side=image, genes_side=genes, zero_shot=True)


@dataclass(frozen=True)
class _Embedding:
    """Runs a model once for each corpus and set of visible genes."""

    name: str
    model: PublishedModel
    path: Path

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        kept = self._file(problem)
        if kept is not None and kept.exists():
            return np.load(kept, allow_pickle=False)
        found = np.asarray(self.model.load(self.path)(problem), np.float32)
        if found.ndim != 2 or len(found) != len(problem.cells) or not np.isfinite(found).all():
            raise ModelError(
                f"{self.path}: {self.name} gives numbers of shape {found.shape} for {len(problem.cells):,} cells, or NaN. "
                "Are these the weights of this model?"
            )
        if kept is not None:
            with whole_file(kept) as aside, aside.open("wb") as file:
                np.save(file, found)
        return found

    def _file(self, problem: Problem) -> Path | None:
        if problem.work is None:
            return None
        digest = hashlib.sha256()
        for file in sorted(self.path.rglob("*")):
            if file.is_file():
                digest.update(
                    f"{file.relative_to(self.path)} {file.stat().st_size} {file.stat().st_mtime_ns};".encode()
                )
        if self.model.revision:
            digest.update(f"revision {self.model.revision}".encode())
        if "genes" in self.model.reads:
            digest.update("/".join(problem.cells.genes[gene] for gene in problem.visible).encode())
        if self.model.draws:
            digest.update(f"seed {problem.seed}".encode())
        corpus = f"{problem.cells.corpus.corpus_id[:16]}-{len(problem.cells)}"
        return problem.work / "embeddings" / f"published-{self.model.name}-{corpus}-{digest.hexdigest()[:16]}.npy"
