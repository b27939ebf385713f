"""Splits are data: which cells are train, validation and test, by donor, by section or by spatial block, with a proof.

The test part is chosen first and whole; train and validation give up the cells that lie too near. What is proven (and
proven again by ``spatia verify``): no cell is in two parts, nor under two names in two, no donor or section is on both sides, and
cells of different parts of one section are at least the margin apart, along x or along y.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial import cKDTree

from spatia.corpus.corpus import Corpus, Split, named_sections, read_json
from spatia.corpus.files import write_json
from spatia.corpus.order import grid_windows
from spatia.corpus.same_cells import repeated
from spatia.errors import CorpusError, SettingsError

PARTS = ("train", "validation", "test")
MARGIN = "margin"
_CODE = {name: code for code, name in enumerate((*PARTS, MARGIN))}


class SplitSettings(BaseModel):
    """Shares of the cells, and for blocks their side and margin in µm.

    The default margin is one tissue window, so that no two parts see the same pixel or neighbour at any level.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    block_um: float = Field(default=435.2, gt=0)
    margin_um: float = Field(default=435.2, ge=0)


@dataclass(frozen=True)
class Proof:
    """Facts that show a split to be disjoint.

    Attributes
    ----------
    n_cells
        Cells of each part.
    donors, sections
        Names on each side; disjoint for a split by donor or section.
    least_distance_um
        Smallest distance between cells of different parts of one section; infinity where no section has two parts.
    """

    n_cells: dict[str, int]
    donors: dict[str, list[str]]
    sections: dict[str, list[str]]
    least_distance_um: float

    def to_json(self) -> dict[str, Any]:
        """Return the proof as JSON values (an infinite distance as null)."""
        distance = None if np.isinf(self.least_distance_um) else round(self.least_distance_um, 3)
        return {
            "n_cells": self.n_cells,
            "donors": self.donors,
            "sections": self.sections,
            "least_distance_um": distance,
        }


def make_split(
    corpus: Corpus,
    by: str,
    *,
    name: str | None = None,
    seed: int = 0,
    settings: SplitSettings | None = None,
    replace: bool = False,
) -> Path:
    """Split a corpus and write ``splits/<name>.json``.

    Parameters
    ----------
    by
        "donor", "section" or "block".
    name
        Name of the split; None: ``by``.
    replace
        Take the place of another split of that name.

    Returns
    -------
    Path of the file.

    Raises
    ------
    SettingsError
        If ``by`` is unknown, the shares leave a part without cells (too few donors, a slide too small for the margin), or another
        split has that name: models that were trained on it would be judged on cells that they have seen.
    """
    settings = settings or SplitSettings()
    called = name or by
    if called in (".", "..") or any(sign in called for sign in "/\\\0"):
        raise SettingsError(f"{called!r} cannot be the name of a split: its file stands in {corpus.path / 'splits'}.")
    if by not in _ASSIGN:
        raise SettingsError(f"Unknown kind of split {by!r}. Known: {', '.join(_ASSIGN)}.")
    if settings.validation + settings.test >= 1:
        raise SettingsError(f"validation {settings.validation} + test {settings.test} leave nothing to train on.")
    part_of = _ASSIGN[by](corpus, np.random.default_rng(seed), settings)
    split = Split(
        name=called,
        by=by,
        seed=seed,
        settings=settings.model_dump(),
        parts={
            part: {sample: row_ranges(codes == code) for sample, codes in part_of.items() if (codes == code).any()}
            for part, code in _CODE.items()
        },
    )
    _require_parts(corpus, split, settings)
    path = split_path(corpus, called)
    if path.exists() and not replace and (standing := read_json(path).get("parts")) != _as_read(split.parts):
        outside = corpus.outside(standing or {})
        unknown = f" It does not know {named_sections(outside)}." if outside else ""
        raise SettingsError(
            f"{path}: another split has this name, and models and pairs made on it would be judged on cells that they have seen.{unknown} "
            "Choose another name (--name), or delete the file if nothing was made on it."
        )
    return write_split(corpus, split)


def split_path(corpus: Corpus, name: str) -> Path:
    """Return where a split of that name stands."""
    return corpus.path / "splits" / f"{name}.json"


def write_split(corpus: Corpus, split: Split) -> Path:
    """Prove a split and write it, with the cells that its rows are now, where it does not stand there just so.

    Raises
    ------
    CorpusError
        If it is not disjoint (`prove`).
    """
    samples = {sample for by_sample in split.parts.values() for sample in by_sample}
    cells = {name: section.cells_sha256 for name, section in corpus.sections.items() if name in samples}
    content = {"name": split.name, "by": split.by, "seed": split.seed, "settings": split.settings}
    content |= {"parts": _as_read(split.parts), "cells": cells}
    path = split_path(corpus, split.name)
    standing = read_json(path) if path.exists() else {}
    if any(standing.get(name) != value for name, value in content.items()):
        proof = prove(corpus, split)
        path.parent.mkdir(exist_ok=True)
        write_json(path, {**content, "proof": proof.to_json()})
    return path


def _as_read(parts: dict[str, dict[str, tuple[tuple[int, int], ...]]]) -> dict[str, dict[str, list[list[int]]]]:
    """Return parts as JSON gives them back."""
    return {
        part: {sample: [list(one) for one in ranges] for sample, ranges in of.items()} for part, of in parts.items()
    }


def prove(corpus: Corpus, split: Split) -> Proof:
    """Measure the facts of a split on the corpus itself, and check them.

    Raises
    ------
    CorpusError
        If a cell is in two parts, two sections with the same cells are, a donor (section) is on both sides of a split by donor
        (section), or cells of different parts are nearer than the margin.
    """
    donors: dict[str, set[str]] = {part: set() for part in PARTS}
    sections: dict[str, set[str]] = {part: set() for part in PARTS}
    n_cells, least = dict.fromkeys((*PARTS, MARGIN), 0), np.inf
    for sample, section in corpus.sections.items():
        codes = np.full(section.entry.n_cells, -1, np.int8)
        for part, code in _CODE.items():
            for start, stop in split.ranges(part, sample) if part in split.parts else ():
                if (codes[start:stop] >= 0).any():
                    raise CorpusError(
                        f"Split {split.name!r}: section {sample!r}: cells of [{start}, {stop}) are in two parts."
                    )
                codes[start:stop] = code
                n_cells[part] += stop - start
                if part != MARGIN:
                    donors[part].add(section.entry.donor or f"(donor of {sample})")
                    sections[part].add(sample)
        if len(set(codes[codes >= 0].tolist()) - {_CODE[MARGIN]}) > 1:
            position = section.positions_um()
            least = min(least, _least_distance(position, codes))
    proof = Proof(n_cells, _listed(donors), _listed(sections), float(least))
    _check(split, proof)
    _check_repeated(corpus, split, proof)
    return proof


def _check(split: Split, proof: Proof) -> None:
    for kind, names in (("donor", proof.donors), ("section", proof.sections)):
        if split.by not in (kind, "donor"):
            continue
        for a, b in (("train", "test"), ("train", "validation"), ("validation", "test")):
            both = sorted(set(names[a]) & set(names[b]))
            if both:
                raise CorpusError(
                    f"Split {split.name!r}: {kind} {both[0]!r} is in {a} and in {b}. Make the split again."
                )
    margin = float(split.settings.get("margin_um", 0)) if split.by == "block" else 0.0
    if proof.least_distance_um < margin:
        raise CorpusError(
            f"Split {split.name!r}: cells of different parts are {proof.least_distance_um:.1f} µm apart, expected at least "
            f"{margin} µm. Make the split again with `spatia split`."
        )


def _check_repeated(corpus: Corpus, split: Split, proof: Proof) -> None:
    """Refuse one slide under two names with cells in two parts: what is tested would have been learnt."""
    for (one, other), share in repeated(corpus).items():
        parts = [part for part, names in proof.sections.items() if {one, other} & {*names}]
        if len(parts) > 1:
            raise CorpusError(
                f"Split {split.name!r}: sections {one!r} and {other!r} of {corpus.path} hold the same cells (in both: about {share:.0%}), and "
                f"have cells in {' and '.join(parts)}. Build the corpus without one of them; or, where both are wanted, give them one donor "
                "and split by donor."
            )


def _by_block(corpus: Corpus, rng: np.random.Generator, settings: SplitSettings) -> dict[str, NDArray[np.int8]]:
    """Cut each section's blocks, taken along the Hilbert curve from a random start, into one run a part."""
    part_of = {}
    for sample, section in corpus.sections.items():
        position = section.positions_um()
        corner = position.min(axis=0)
        blocks = grid_windows(position, settings.block_um, (float(corner[0]), float(corner[1])))
        size = np.bincount(blocks.of_cell)
        turn = int(rng.integers(len(size)))
        order = np.roll(np.arange(len(size)), -turn)
        before = (np.cumsum(size[order]) - size[order] / 2) / size.sum()  # a block goes where its middle falls
        block_part = np.full(len(size), _CODE["train"], np.int8)
        block_part[order[before < settings.test + settings.validation]] = _CODE["validation"]
        block_part[order[before < settings.test]] = _CODE["test"]
        part_of[sample] = _give_up_margin(position, block_part[blocks.of_cell], settings.margin_um)
    return part_of


def _give_up_margin(position_um: NDArray[np.float64], codes: NDArray[np.int8], margin_um: float) -> NDArray[np.int8]:
    """Take cells of train (then of validation) that lie within the margin of a later part out of it.

    Distances are the larger of those along x and y: crops and windows are squares, and two of them overlap exactly where both are
    below a side. In a straight line, corners of crops could still meet.
    """
    codes = codes.copy()
    for part, later in (("validation", ("test",)), ("train", ("validation", "test"))):
        own = np.flatnonzero(codes == _CODE[part])
        other = np.flatnonzero(np.isin(codes, [_CODE[name] for name in later]))
        if len(own) and len(other):
            distance, _ = cKDTree(position_um[other]).query(
                position_um[own], p=np.inf, distance_upper_bound=margin_um * (1 + 1e-9)
            )
            codes[own[np.isfinite(distance)]] = _CODE[MARGIN]
    return codes


def _by_group(kind: str) -> Callable[[Corpus, np.random.Generator, SplitSettings], dict[str, NDArray[np.int8]]]:
    def assign(corpus: Corpus, rng: np.random.Generator, settings: SplitSettings) -> dict[str, NDArray[np.int8]]:
        groups: dict[str, list[str]] = {}
        for sample, section in corpus.sections.items():
            if kind == "donor" and section.entry.donor is None:
                raise SettingsError(
                    f"{corpus.path}: section {sample!r} has no donor. Give it in the samplesheet (column 'donor'), or split by section."
                )
            groups.setdefault(sample if kind == "section" else str(section.entry.donor), []).append(sample)
        size = {name: sum(corpus.sections[s].entry.n_cells for s in samples) for name, samples in groups.items()}
        part = _fill_parts(size, rng, settings, corpus, kind)
        return {
            sample: np.full(corpus.sections[sample].entry.n_cells, _CODE[part[name]], np.int8)
            for name, samples in groups.items()
            for sample in samples
        }

    return assign


def _fill_parts(
    size: dict[str, int], rng: np.random.Generator, settings: SplitSettings, corpus: Corpus, kind: str
) -> dict[str, str]:
    """Give groups in random order to the part that is furthest below its share; every part asked for gets at least one."""
    share = {"test": settings.test, "validation": settings.validation, "train": 1 - settings.test - settings.validation}
    wanted = {name: value for name, value in share.items() if value > 0}
    if len(size) < len(wanted):
        instead = "set --validation 0, or " if len(size) >= 2 and "validation" in wanted else "or "
        raise SettingsError(
            f"{corpus.path}: {len(size)} {kind}{'' if len(size) == 1 else 's'} cannot fill {len(wanted)} parts ({', '.join(wanted)}). "
            f"Add {kind}s, {instead}split by block."
        )
    total, filled, part = sum(size.values()), dict.fromkeys(wanted, 0), {}
    names = [list(size)[i] for i in rng.permutation(len(size))]
    for left, name in zip(range(len(names), 0, -1), names, strict=True):
        empty = [one for one in wanted if not filled[one]]
        choice = empty if len(empty) >= left else list(wanted)
        part[name] = min(choice, key=lambda one: filled[one] / (wanted[one] * total))
        filled[part[name]] += size[name]
    return part


_ASSIGN: dict[str, Callable[[Corpus, np.random.Generator, SplitSettings], dict[str, NDArray[np.int8]]]] = {
    "donor": _by_group("donor"),
    "section": _by_group("section"),
    "block": _by_block,
}


def _require_parts(corpus: Corpus, split: Split, settings: SplitSettings) -> None:
    wanted = [part for part in PARTS if part != "validation" or settings.validation > 0]
    empty = [part for part in wanted if not split.parts[part]]
    if empty:
        raise SettingsError(
            f"{corpus.path}: split by {split.by} with blocks of {settings.block_um} µm and a margin of {settings.margin_um} µm "
            f"leaves no cell for {', '.join(empty)}. The sections are small: take smaller --block-um and --margin-um."
        )


def _least_distance(position_um: NDArray[np.float64], codes: NDArray[np.int8]) -> float:
    least = np.inf
    for code in range(len(PARTS) - 1):
        own, later = codes == code, (codes > code) & (codes < _CODE[MARGIN])
        if own.any() and later.any():
            distance, _ = cKDTree(position_um[later]).query(position_um[own], p=np.inf)
            least = min(least, float(distance.min()))
    return least


def row_ranges(chosen: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return the runs of True as half-open ranges.

    Examples
    --------
    >>> row_ranges(np.array([True, True, False, True]))
    ((0, 2), (3, 4))
    """
    edges = np.flatnonzero(np.diff(np.r_[0, chosen.astype(np.int8), 0])).reshape(-1, 2)
    return tuple((int(start), int(stop)) for start, stop in edges)


def _listed(names: dict[str, set[str]]) -> dict[str, list[str]]:
    return {part: sorted(values) for part, values in names.items()}
