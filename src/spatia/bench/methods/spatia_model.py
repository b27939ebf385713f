"""Our model, trained on the training cells of each split (or given), as methods: each modality, each level.

One pass over the corpus gives every level of one view; the views and levels are then read out like any other embedding.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spatia.bench.dataset import part_rows, place_name
from spatia.bench.methods.method import BOTH, GENES, IMAGE, Method, Modality, Problem
from spatia.bench.methods.pca import principal_components
from spatia.bench.methods.smoothed_pca import of_neighbours, smoothed
from spatia.bench.methods.spatia_surroundings import surroundings
from spatia.corpus.corpus import Corpus
from spatia.corpus.same_cells import known_again
from spatia.errors import LeakError, ModelError, NotApplicableError, SettingsError, SpatiaError
from spatia.inference.embed import OBSM, embed
from spatia.models.checkpoint import load_model, read_description
from spatia.models.names import known_by_symbol
from spatia.models.spatia import MODALITIES, Spatia
from spatia.tasks.retrieve import encode_modalities
from spatia.training.settings import read_settings
from spatia.training.train import train

SMOOTHED = " smoothed"  # the mean over a cell and its nearest neighbours
# "niche smoothed" is what `spatia domains` takes; the last is what pca and morphology have, their own values beside smoothed ones
BESIDE_SMOOTHED = "cell + niche + cell smoothed"
LEVELS = ("cell", "niche", "tissue", "cell + niche", "niche smoothed", BESIDE_SMOOTHED)
EXPECTED = "expected counts"
VIEWS: dict[str, frozenset[Modality]] = {"": BOTH, " image": IMAGE, " genes": GENES}
INSTEAD = "Take a model that was trained on the training part of the split or on other slides, or train anew (--spatia without --from)."
OF_BENCHMARK = frozenset({"split", "part", "validation_part", "seed"})  # settings that a benchmark itself decides
MOST_KEPT = 8  # embeddings of the whole data set in memory

Parts = dict[str, NDArray[np.float32]]


def trained_folder(results: Path, corpus: Corpus, split: str, seed: int, label: str = "") -> Path:
    """Return where the model of a split lies in a results folder."""
    return results / "models" / (label or "spatia") / place_name(corpus, split, seed)


@dataclass(frozen=True)
class SpatiaSource:
    """Where the model comes from.

    Attributes
    ----------
    label
        Added to the names of the methods, so that tries stand beside each other in one table; empty: none.
    settings
        Lines ``name=value`` for training.
    model
        A trained model folder to use as it is, on every split. One that was trained on all cells of a corpus is refused there;
        for other leaks the caller answers.
    start_from
        A model folder that is fine-tuned on each split; refused as ``model`` is.
    """

    label: str = ""
    settings: tuple[str, ...] = ()
    model: Path | None = None
    start_from: Path | None = None
    _made: dict[object, Parts] = field(default_factory=dict, compare=False, repr=False)
    _models: dict[object, Spatia] = field(default_factory=dict, compare=False, repr=False)
    _failed: dict[Path, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a label that reads like the name of a view, and settings that would train on other cells than the benchmark means."""
        if "," in self.label or self.label.split()[-1:] in (["image"], ["genes"]):
            raise SettingsError(
                f"label {self.label!r}: without a comma, please, and not ending in image or genes, as names of views have these."
            )
        if given := [line for line in self.settings if line.partition("=")[0].strip() in OF_BENCHMARK]:
            raise SettingsError(
                f"{given[0]}: the benchmark decides on which cells and with which seed a model is trained. Leave it out."
            )

    def folder(self, problem: Problem) -> Path:
        """Return the model folder for a split; it is trained if it is not there yet."""
        if self.model is not None:
            _refuse_seen(self.model, problem)
            return self.model
        if problem.work is None:
            raise SettingsError("spatia needs a results folder to train in.")
        out = trained_folder(problem.work, problem.cells.corpus, problem.split, problem.seed, self.label)
        if out in self._failed:  # trained once for all tasks, so it fails once
            raise SpatiaError(self._failed[out])
        given = {"split": problem.split, "seed": problem.seed}
        try:
            if self.start_from is not None:
                _refuse_seen(self.start_from, problem)
            settings = read_settings(None, self.settings, given)
            return train([problem.cells.corpus], out, settings, resume=True, start_from=self.start_from)
        except SpatiaError as error:
            self._failed[out] = str(error)
            raise

    def opened(self, problem: Problem) -> Spatia:
        """Return the model, in evaluation mode."""
        key = (problem.cells.corpus.corpus_id, problem.split, problem.seed)
        if key not in self._models:
            self._models[key] = known_by_symbol(load_model(self.folder(problem)), [problem.cells.corpus]).eval()
        return self._models[key]

    def parts(self, problem: Problem, view: frozenset[Modality]) -> Parts:
        """Return every level of one view of all cells, (n, width) each, by name; made once."""
        hidden = [problem.cells.genes[gene] for gene in problem.hidden] if "genes" in view else []
        key = (problem.cells.corpus.corpus_id, problem.split, problem.seed, tuple(hidden), view)
        if key not in self._made:
            if len(self._made) > MOST_KEPT:  # views of splits that are done
                self._made.clear()
            self._made[key] = embed_corpus(self.opened(problem), problem.cells.corpus, view, hidden)
        return self._made[key]

    def kept(self, problem: Problem, name: str, make: Callable[[], Parts]) -> Parts:
        """Return what ``make`` gives for the model of a split; made once."""
        key = (problem.cells.corpus.corpus_id, problem.split, problem.seed, name)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def contrast(self, problem: Problem) -> Parts:
        """Return both sides of the contrastive space."""
        return self.kept(problem, "contrast", lambda: contrast_spaces(self.opened(problem), problem.cells.corpus))

    def around(self, problem: Problem) -> Parts:
        """Return what surrounds each cell, itself hidden."""
        cell = self.parts(problem, GENES)["cell"]
        return self.kept(problem, "around", lambda: surroundings(self.opened(problem), problem.cells.corpus, cell))


def _refuse_seen(model: Path, problem: Problem) -> None:
    """Refuse a model that was trained on test cells: on the whole corpus, on another split of it, or on the same slide elsewhere."""
    corpus, facts = problem.cells.corpus, read_description(model)["facts"]
    trained_on, split = facts.get("corpora", ()), facts.get("split", "not recorded")
    if same := [one for one in trained_on if one.get("corpus_id") == corpus.corpus_id]:
        if split is None:
            raise LeakError(
                f"{model} was trained on every cell of {corpus.path}: its test cells are not new to it. {INSTEAD}"
            )
        if split not in corpus.split_names() or corpus.split(split).made_anew(same[0]):
            raise LeakError(
                f"{model} was trained on split {split!r} of {corpus.path}, which is not there any more or was made anew: its test cells may not "
                f"be new to it. {INSTEAD}"
            )
        learnt = part_rows(corpus, split, "train")
        if n_seen := len(np.intersect1d(learnt, problem.test)):
            raise LeakError(
                f"{model} was trained on split {split!r} of {corpus.path}, and with it on {n_seen:,} of the {len(problem.test):,} test cells "
                f"of {problem.split!r}. {INSTEAD}"
            )
    if again := known_again(trained_on, corpus):
        raise LeakError(f"{model} was trained on {again}: test cells may not be new to it. {INSTEAD}")


def embed_corpus(model: Spatia, corpus: Corpus, view: Collection[str], hidden: Sequence[str]) -> Parts:
    """Embed every cell in its niche and window, as `spatia embed` does.

    Parameters
    ----------
    view
        Some of ``"image", "genes"``.
    hidden
        Genes to treat as not measured, in every cell.

    Returns
    -------
    ``fused, cell, niche, tissue``, (n, width) each; rows in the order of the sections and of their cells.
    """
    known = set(model.vocabulary.genes)
    hide = [gene for gene in hidden if gene in known]  # what a given model does not know it cannot see
    table = embed(corpus, model, use=[one for one in MODALITIES if one in view], hide_genes=hide)
    assert not isinstance(table, Path)  # a path only comes back where one was given
    return {name: np.asarray(table.obsm[key]) for name, key in OBSM.items()}


def contrast_spaces(model: Spatia, corpus: Corpus) -> Parts:
    """Return image and genes of every cell in the model's contrastive space, before they are fused."""
    rows = {name: np.arange(section.entry.n_cells) for name, section in corpus.sections.items()}
    sides = encode_modalities(corpus, model, rows)
    return {"contrast image": sides.image, "contrast genes": sides.genes}


@dataclass(frozen=True)
class _Embedding:
    """One level of one view, as the benchmark calls it."""

    source: SpatiaSource
    view: frozenset[Modality]
    part: str

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        view = self.view if problem.cells.has_images else self.view - IMAGE
        parts = self.source.parts(problem, view)
        beside = [
            smoothed(parts[name.removesuffix(SMOOTHED)], problem.cells) if name.endswith(SMOOTHED) else parts[name]
            for name in self.part.split(" + ")
        ]
        return np.hstack(beside)


@dataclass(frozen=True)
class _Contrast:
    """One side of the contrastive space."""

    source: SpatiaSource
    side: str

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        return self.source.contrast(problem)[f"contrast {self.side}"]


@dataclass(frozen=True)
class _Around:
    """The surroundings of a cell without it; ``near``: beside means over its neighbours' own embeddings, as a rival has them."""

    source: SpatiaSource
    near: bool = False

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        around = self.source.around(problem)["around"]
        if not self.near:
            return around
        return np.hstack([around, of_neighbours(self.source.parts(problem, GENES)["cell"], problem.cells)])


@dataclass(frozen=True)
class _AroundDecoder:
    """The gene head on the surroundings of a cell without it."""

    source: SpatiaSource

    def __call__(self, problem: Problem, genes: NDArray[np.int64]) -> NDArray[np.floating]:
        return decode(self.source.opened(problem), problem, self.source.around(problem)["fused"], genes)


@dataclass(frozen=True)
class _Decoder:
    """The model's own gene head: log1p of expected counts at the median depth."""

    source: SpatiaSource
    view: frozenset[Modality]

    def __call__(self, problem: Problem, genes: NDArray[np.int64]) -> NDArray[np.floating]:
        view = self.view if problem.cells.has_images else self.view - IMAGE
        fused = self.source.parts(problem, view)["fused"]
        return decode(self.source.opened(problem), problem, fused, genes)


@dataclass(frozen=True)
class _Expected:
    """The counts that the gene head expects of each cell, read as `pca unscaled` reads the counts themselves."""

    source: SpatiaSource
    view: frozenset[Modality]

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        view = self.view if problem.cells.has_images else self.view - IMAGE
        cells = problem.cells
        if not cells.is_count:
            raise NotApplicableError(
                f"{cells.data.name}: intensities have no depth, so no counts are expected of a cell."
            )
        model = self.source.opened(problem)
        known = set(model.vocabulary.genes)
        genes = np.array([gene for gene in problem.visible if cells.genes[gene] in known], np.int64)
        # of the genes that may be seen: how many molecules a cell has of the others is hidden with them
        depth = np.asarray(cells.counts[:, problem.visible].sum(axis=1)).reshape(-1, 1)
        rates = expected_rates(model, problem, self.source.parts(problem, view)["fused"], genes)
        return principal_components(np.log1p(rates * depth), problem.train, problem.seed)


def decode(
    model: Spatia, problem: Problem, fused: NDArray[np.float32], genes: NDArray[np.int64]
) -> NDArray[np.floating]:
    """Return log1p of the counts that the gene head expects at the median depth of training cells, (n, len(genes)).

    As :func:`expected_rates` otherwise.
    """
    depth = float(np.median(np.asarray(problem.cells.counts[problem.train].sum(axis=1))))
    return np.log1p(expected_rates(model, problem, fused, genes) * depth)


@torch.inference_mode()
def expected_rates(
    model: Spatia, problem: Problem, fused: NDArray[np.float32], genes: NDArray[np.int64]
) -> NDArray[np.floating]:
    """Return what the gene head expects of each gene, in counts per count of depth, (n, len(genes)).

    Parameters
    ----------
    model
        On any device: `embed` moves it to a GPU where there is one.
    fused
        (n, width) fused embeddings.
    genes
        Indices into the genes of the cells.
    """
    cells = problem.cells
    place = {gene: index for index, gene in enumerate(model.vocabulary.genes)}
    if unknown := [cells.genes[gene] for gene in genes if cells.genes[gene] not in place]:
        raise ModelError(
            f"{len(unknown)} of {len(genes)} genes asked for are not known to the model, first {unknown[0]!r}: its head cannot decode them."
        )
    wanted = torch.tensor([place[cells.genes[gene]] for gene in genes], dtype=torch.long, device=model.device)
    rates: NDArray[np.floating] = model.log_rates(torch.from_numpy(fused).to(model.device), wanted).exp().cpu().numpy()
    return rates


def spatia_methods(source: SpatiaSource) -> list[Method]:
    """Return the fused embedding of each view, each level alone, the decoder of each view, and the contrastive space."""
    name = f"spatia {source.label}".strip()
    methods = []
    for suffix, view in VIEWS.items():
        sees = " and ".join(sorted(view))
        for part in ("fused", *LEVELS):
            around = _Around(source, part == BESIDE_SMOOTHED) if part in ("fused", BESIDE_SMOOTHED) else None
            level = "" if part == "fused" else f", {part}"
            both = view == BOTH
            methods.append(
                Method(
                    f"{name}{suffix}{level}",
                    view,
                    _Embedding(source, view, part),
                    f"from {sees}{level}",
                    image_side=_Embedding(source, IMAGE, part) if both else None,
                    genes_side=_Embedding(source, GENES, part) if both else None,
                    around=around if view == GENES else None,
                    zero_shot=source.model is not None,
                )
            )
        if "genes" in view:
            expected = _Expected(source, view)
            methods.append(
                Method(f"{name}{suffix}, {EXPECTED}", view, expected, f"counts its gene head expects, from {sees}")
            )
        methods.append(
            Method(
                f"{name}{suffix}, decoder",
                view,
                None,
                f"its own gene head, from {sees}",
                expression=_Decoder(source, view),
                around_expression=_AroundDecoder(source) if view == GENES else None,
            )
        )
    methods.append(
        Method(
            f"{name}, contrast",
            BOTH,
            None,
            "its contrastive space",
            image_side=_Contrast(source, "image"),
            genes_side=_Contrast(source, "genes"),
            common_space=True,
        )
    )
    return methods
