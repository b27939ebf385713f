"""Expression from a model: genes that were hidden or not measured, and all genes from the image alone."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus, Split
from spatia.corpus.splits import PARTS
from spatia.errors import SettingsError
from spatia.inference.embed import embed
from spatia.inference.predict import ExpressionPrediction
from spatia.inference.predict import predict_expression as decode
from spatia.log import logger
from spatia.models.checkpoint import load_model
from spatia.models.names import known_by_symbol
from spatia.models.spatia import Spatia
from spatia.tasks.cells import expression_of, most_variable, place_of, sections_of
from spatia.tasks.impute import Imputation, ImputeSettings, Parts, choose_hidden, impute, with_interval
from spatia.tasks.seen import warn_of_seen

Floats = NDArray[np.float64]
Method = Literal["ridge", "model"]


@dataclass(frozen=True)
class ExpressionResult:
    """Predicted expression, and the cells it belongs to.

    Attributes
    ----------
    cells
        The embedded cells; the embedding is the one that was predicted from, so it has not seen what is predicted.
    measured
        (cells, genes) log1p of counts at ``depth``; NaN where not measured.
    imputation
        Prediction, interval and scores.
    depth
        Counts of a cell that expression is scaled to.
    """

    cells: ad.AnnData
    measured: Floats
    imputation: Imputation
    depth: float

    def write_into(self, table: ad.AnnData, key: str) -> None:
        """Write ``obsm[key]``, ``key_lower``, ``key_upper`` (data frames, a column a gene) and ``uns[key]``.

        Raises
        ------
        SettingsError
            If the table holds other cells.
        """
        if not table.obs_names.isin(self.cells.obs_names).all():
            raise SettingsError("The table holds cells that are not in the corpus: it is of another one.")
        rows = self.cells.obs_names.get_indexer(table.obs_names)
        one = self.imputation
        for suffix, values in (("", one.mean), ("_lower", one.lower), ("_upper", one.upper)):
            table.obsm[key + suffix] = pd.DataFrame(
                values[rows].astype(np.float32), index=table.obs_names, columns=list(one.genes)
            )
        table.uns[key] = {
            "method": one.method,
            "level": one.level,
            "depth": self.depth,
            "scale": "log1p of counts at depth",
            "genes": one.per_gene().reset_index(),
        }


def impute_genes(
    corpus: Corpus | str | Path,
    model: Spatia | str | Path,
    genes: Sequence[str] | None = None,
    *,
    share: float = 0.2,
    method: Method = "ridge",
    split: str | None = None,
    settings: ImputeSettings | None = None,
    device: str = "auto",
) -> ExpressionResult:
    """Hide genes from the model in every cell, and predict them.

    Parameters
    ----------
    genes
        Gene ids or symbols; None: a random share of the panel that the model knows, to see how well it does.
    share
        Of the genes to hide where none are named.
    method
        ``"ridge"``: regression on the embedding, fitted on cells that measure the gene; ``"model"``: the model's own decoder,
        which also tells genes that no cell of the corpus measures.
    split
        Of the corpus: its train part fits, validation calibrates the interval (where it is empty, spatial blocks of train do), test
        is judged on. Give the one the model was trained with: otherwise it has seen the judged cells. None: spatial blocks of all
        cells. Genes that are not named are then drawn from those that a section of each part measures.

    Raises
    ------
    SettingsError
        For an unknown gene, too few cells that measure one, or a split without cells in train or test.
    """
    settings = settings or ImputeSettings()
    opened, network = _opened(corpus, model)
    known = set(network.vocabulary.genes)
    panel = [gene for gene in opened.genes["gene_id"].astype(str) if gene in known]
    _check_judged(opened, model, split)
    if genes is None:
        drawn_from = _measured_in_each_part(opened, panel, split, opened.sections)
        ids = choose_hidden(drawn_from, share, settings.seed)
    else:
        ids = _named(opened, network, genes, method)
    cells = _embedded(opened, network, ("image", "genes"), ids, device)
    return _predicted(opened, network, cells, ids, ("image", "genes"), ids, method, split, settings, device)


def predict_from_image(
    corpus: Corpus | str | Path,
    model: Spatia | str | Path,
    genes: Sequence[str] | None = None,
    *,
    n_genes: int = 50,
    method: Method = "ridge",
    split: str | None = None,
    settings: ImputeSettings | None = None,
    device: str = "auto",
) -> ExpressionResult:
    """Predict genes from the image alone; cells without an image get NaN.

    Parameters
    ----------
    genes
        Gene ids or symbols; None: the ``n_genes`` of largest variance over the cells that fit.
    method, split
        As :func:`impute_genes`.

    Raises
    ------
    SettingsError
        If no section has an image, and as :func:`impute_genes`.
    """
    settings = settings or ImputeSettings()
    opened, network = _opened(corpus, model)
    if not sections_with_image(opened, network):
        raise SettingsError(
            f"{opened.path}: no section has an image of a channel that the model knows ({', '.join(network.vocabulary.channels) or 'none'}), "
            "so nothing can be predicted from it."
        )
    _check_judged(opened, model, split)
    ids = None if genes is None else _named(opened, network, genes, method)
    cells = _embedded(opened, network, ("image",), (), device)
    parts = None
    if ids is None:
        known, seen = set(network.vocabulary.genes), _seen(opened, network, cells, ("image",))
        panel = [str(gene) for gene in cells.var_names if str(gene) in known]
        panel = _measured_in_each_part(opened, panel, split, sections_with_image(opened, network))
        # the same parts choose the genes and judge them: a choice by cells that are judged on would flatter
        parts = _parts(opened, cells, split, settings, seen)
        ids = most_variable(cells[:, panel], n_genes, parts.fit)
    return _predicted(opened, network, cells, ids, ("image",), (), method, split, settings, device, parts)


def _opened(corpus: Corpus | str | Path, model: Spatia | str | Path) -> tuple[Corpus, Spatia]:
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    return opened, model if isinstance(model, Spatia) else known_by_symbol(load_model(model), [opened])


def _check_judged(corpus: Corpus, model: Spatia | str | Path, split: str | None) -> None:
    """Refuse a split that cannot be judged on before the work, and warn of a model that has seen the cells that are judged."""
    if split is None:
        return
    parts = corpus.split(split).parts
    for part, use in (("train", "fits"), ("test", "is judged on")):
        if not any(parts.get(part, {}).values()):
            raise SettingsError(
                f"{corpus.path}: split {split!r} has no cell in part {part!r}, which {use}. Make a split of another name with "
                "`spatia split` and train the model on it, or give none: spatial blocks of all cells are then taken."
            )
    warn_of_seen(model, corpus, split, "test")


def _measured_in_each_part(corpus: Corpus, genes: list[str], split: str | None, samples: Iterable[str]) -> list[str]:
    """Return those genes that one of the sections measures in each part that has any: others could not be fitted, calibrated or judged.

    All genes where there are none such, or no split.
    """
    if split is None:
        return genes
    panels = {sample: set(corpus.sections[sample].cells.var().index.astype(str)) for sample in samples}
    chosen = set(genes)
    for part, of in corpus.split(split).parts.items():
        inside = [panels[sample] for sample, ranges in of.items() if ranges and sample in panels]
        if part in PARTS and inside:
            chosen &= set().union(*inside)
    if 0 < len(chosen) < len(set(genes)):
        what = "genes are chosen among the %d of %d that every part of split %r measures"
        logger.info(what, len(chosen), len(set(genes)), split)
    return [gene for gene in genes if gene in chosen] or genes


def _embedded(corpus: Corpus, model: Spatia, use: Sequence[str], hidden: Sequence[str], device: str) -> ad.AnnData:
    inside = [gene for gene in hidden if gene in set(model.vocabulary.genes)]
    cells = embed(corpus, model, use=use, hide_genes=inside, device=device, every_section="genes" in use)
    assert isinstance(cells, ad.AnnData)
    return cells


def _named(corpus: Corpus, model: Spatia, genes: Sequence[str], method: Method) -> list[str]:
    """Return the ids of genes that go by id or symbol; refuses what cannot be predicted before anything is embedded."""
    panel, known = corpus.genes.astype(str), set(model.vocabulary.genes)
    measured = set(panel["gene_id"])
    by_symbol = dict(zip(panel["symbol"], panel["gene_id"], strict=True))
    ids = [gene if gene in known | measured else by_symbol.get(gene, gene) for gene in genes]
    possible, who = (measured, "in the corpus") if method == "ridge" else (known, "known to the model")
    if unknown := [gene for gene in ids if gene not in possible]:
        near = difflib.get_close_matches(unknown[0], [*possible, *by_symbol], n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"They go by gene_id or symbol, as {min(possible)!r}."
        raise SettingsError(
            f"{len(unknown)} of {len(ids)} genes are not {who}, first {unknown[0]!r}. {hint}"
            + (" A gene that is measured nowhere needs the method 'model'." if method == "ridge" else "")
        )
    return list(dict.fromkeys(ids))


def _parts(
    corpus: Corpus, cells: ad.AnnData, split: str | None, settings: ImputeSettings, among: NDArray[np.bool_]
) -> Parts:
    """Return the parts of a split, of cells that have what is needed where parts are cut here: of all, or of train for want of validation."""
    place = place_of(cells)
    if split is None:
        return Parts.of(among, settings, **place)
    found = corpus.split(split)
    train, validation, test = (_cells_in(found, part, corpus.sections, sections_of(cells)) for part in PARTS)
    if not validation.any():
        train = train & among
        validation = Parts.of(train, settings, **place).calibrate
        logger.info(
            "split %r has no validation part: %s of its %s training cells, in spatial blocks, calibrate the interval and do not fit",
            split, f"{validation.sum():,}", f"{train.sum():,}",
        )  # fmt: skip
        train &= ~validation
    return Parts(train, validation, test)


def _cells_in(split: Split, part: str, sections: Iterable[str], sample: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which cells, of these sections, are in a part; (cells,)."""
    inside = np.zeros(len(sample), bool)
    for section in sections:
        rows = np.flatnonzero(sample == section)
        for start, stop in split.ranges(part, section) if part in split.parts else ():
            inside[rows[start:stop]] = True
    return inside


def _predicted(
    corpus: Corpus,
    model: Spatia,
    cells: ad.AnnData,
    genes: list[str],
    use: Sequence[str],
    hidden: Sequence[str],
    method: Method,
    split: str | None,
    settings: ImputeSettings,
    device: str,
    parts: Parts | None = None,
) -> ExpressionResult:
    depth = float(model.gene_encoder.depth_scale)
    measured = expression_of(cells, genes, depth=depth)
    seen = _seen(corpus, model, cells, use)
    judged_on = np.where(seen[:, None], measured, np.nan)
    place = place_of(cells)
    some = np.asarray(np.isfinite(judged_on).any(axis=1))
    if parts is None:
        parts = _parts(corpus, cells, split, settings, some)
    parts = Parts(parts.fit & some, parts.calibrate & some, parts.judge & some)
    if method == "ridge":
        embedding = np.asarray(cells.obsm["X_spatia"])
        found = impute(embedding, judged_on, genes, parts=parts, settings=settings, **place)
    else:
        decoded = decode(corpus, model, genes, use=use, hide_genes=hidden, device=device, every_section="genes" in use)
        found = _calibrated(decoded, judged_on, parts, settings)
    for values in (found.mean, found.lower, found.upper):
        values[~seen] = np.nan
    if split is None:
        logger.warning("no split was given: the model may have been trained on the cells that the scores are of")
    return ExpressionResult(cells, measured, found, depth)


def _seen(corpus: Corpus, model: Spatia, cells: ad.AnnData, use: Sequence[str]) -> NDArray[np.bool_]:
    """Return the cells that have what is used."""
    if set(use) == {"image"}:
        return cells.obs[keys.HAS_IMAGE].to_numpy(bool) & np.isin(
            sections_of(cells), sections_with_image(corpus, model)
        )
    return np.ones(cells.n_obs, bool)


def sections_with_image(corpus: Corpus, model: Spatia) -> list[str]:
    """Return the sections with an image of which the model knows a channel."""
    known = set(model.vocabulary.channels)
    return [sample for sample, section in corpus.sections.items() if known & set(section.entry.channels)]


def _calibrated(decoded: ExpressionPrediction, measured: Floats, parts: Parts, settings: ImputeSettings) -> Imputation:
    mean, lower, upper = (np.asarray(part, np.float64) for part in (decoded.mean, decoded.lower, decoded.upper))
    method = "the model's own decoder"
    return with_interval(mean, lower, upper, measured, decoded.genes, parts, settings, method=method)
