"""Images for the cells or niches of a corpus: choose the rows, ask what is known of them, draw, write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.inference.asking import asking
from spatia.inference.drawing import make_drawing
from spatia.inference.generated_store import write_images
from spatia.inference.generator import Generator
from spatia.inference.real_cells import RealCells, real_cells
from spatia.inference.wanted import Wanted, choose_rows, rows_of_pairs, that_have_images, with_transition
from spatia.io.synthetic import is_synthetic
from spatia.log import logger
from spatia.models.levels import check_levels
from spatia.pairing.pairs import Pairs, read_pairs


def generate(
    corpus: Corpus | str | Path,
    generator: Generator | str | Path,
    out: str | Path,
    *,
    draws: int = 1,
    seed: int = 0,
    sections: Sequence[str] | None = None,
    split: str | None = None,
    part: str | None = None,
    limit: int | None = None,
    transition: str | None = None,
    pairs: str | Path | None = None,
    cells: Sequence[str] | None = None,
    labels: pd.DataFrame | None = None,
    shuffle: bool = False,
    real: RealCells | Corpus | str | Path | None = None,
    device: str = "auto",
    **drawing: Any,
) -> Path:
    """Draw an image (or several) for cells of a corpus: from expression and surroundings, or after a transition.

    Parameters
    ----------
    corpus, generator
        Folders, or opened.
    out
        ``….zarr`` to write.
    draws, seed, drawing
        Fields of :class:`spatia.inference.drawing.Drawing`, the solver also by its name (``solver="heun"``), and its ``evaluations``; None: as
        if it were not given.
    sections
        Names of sections; all by default.
    split, part
        Only the cells (or whole niches) of a part of a split, by default ``test``.
    limit
        At most so many cells, spread evenly.
    transition
        Name of a transition that the generator knows; None with ``pairs``: all of these.
    pairs
        Folder of pairs: the sources of ``part`` (by default ``test``) of their split that have an image are drawn, and their likeliest
        partner is noted.
    cells
        Ids of cells to draw.
    labels
        Type or state of the cells (``cell_id``, ``label``, and ``sample`` where ids repeat), for a generator that is told it.
    shuffle
        Tell every cell what is known of another one (of the same transition): how much do the images depend on it?
    real
        Corpus whose cells drawings begin at, in the place of noise: those of part ``train`` of ``split``, or all where no split is named (a cell
        never begins at itself). Or what :func:`spatia.real_cells` chose.
    device
        ``"auto"``: a GPU where there is one.

    Returns
    -------
    The path of an AnnData zarr, in the place of an earlier one of drawn images: a row an image; ``obs`` ``cell_id, sample, draw,
    synthetic``; ``obsm["single_cell_images"]``; and ``uns["spatia"]`` with ``synthetic: true`` and how they were made. A killed run continues with the next call.

    Raises
    ------
    SettingsError, CorpusError, ModelError
        If something does not go together.
    """
    path = Path(out)
    if path.suffix != ".zarr":
        raise SettingsError(f"{path}: expected a name that ends in .zarr.")
    if path.exists() and not is_synthetic(path):
        raise SettingsError(f"{path}: is there already, and holds no drawn images. Choose another name, or remove it.")
    if path.exists():
        logger.warning("%s: drawn images are there already; they are replaced when the new ones are done", path)
    drawing = {name: value for name, value in drawing.items() if value is not None}
    if real is None and "keep" in drawing:
        raise SettingsError(
            f"keep={drawing['keep']:g} without real: there is no real cell of which to keep a share. Name a corpus of them."
        )
    if split is not None and part is None:
        part = "test"
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    maker = generator if isinstance(generator, Generator) else Generator.load(generator, device=device)
    how = make_drawing(maker.config.solver, draws=draws, seed=seed, **drawing)
    maker.check_drop(how.drop)
    maker.check_draws(how)
    maker.check_guidance(how.guidance)
    by = maker.differs_by(how)
    if how.draws > 1 and by == "change":
        logger.info(
            "%d draws of each cell: each asks for the mean change of another resample of the training cells", how.draws
        )
    if how.draws > 1 and by == "grain":
        logger.warning(
            "%d draws of each cell: this generator begins at the cell itself and is not told (or does not know) how sure its change is, so "
            "they differ in grain alone",
            how.draws,
        )
    check_levels(opened.levels, maker.model.config, corpus=opened.path)
    names = list(opened.sections) if sections is None else [opened.section(name).sample for name in sections]
    if pairs is not None:
        wanted = _of_pairs(opened, maker, names, read_pairs(pairs, opened), transition, split, part or "test", cells)
    else:
        wanted = choose_rows(opened, maker, names, split=split, part=part, cells=cells)
        wanted = with_transition(wanted, maker, transition)
    wanted = wanted.at_most(limit)
    told = wanted.shuffled(seed) if shuffle else None
    if real is not None and not isinstance(real, RealCells):
        real = real_cells(real, maker, split=split, seed=seed, device=device, align=how.align)
    if real is not None:
        logger.info(
            "drawings begin at %d real cells; what is told explains %.2f of the variance of their pictures, held out",
            len(real),
            real.held_out,
        )
    with asking(opened, maker, wanted, device=device, labels=labels, real=real, how=how) as asker:
        return write_images(path, maker, wanted, how, asker, opened, told=told, shuffled=shuffle)


def _of_pairs(
    corpus: Corpus,
    maker: Generator,
    names: Sequence[str],
    pairs: Pairs,
    transition: str | None,
    split: str | None,
    part: str,
    cells: Sequence[str] | None,
) -> Wanted:
    if split not in (None, pairs.split):
        raise SettingsError(
            f"split {split!r}, but the pairs {pairs.path} were made on split {pairs.split!r}, and lie in its parts. Name that one, or none."
        )
    wanted = rows_of_pairs(maker, names, pairs, transition, part)
    return that_have_images(corpus, wanted if cells is None else wanted.only(cells))
