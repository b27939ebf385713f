"""Pair the cells of a corpus: from transitions in YAML to a folder of pairs and signatures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.splits import PARTS
from spatia.errors import PairingError, SettingsError
from spatia.log import logger
from spatia.pairing.cells import PART, ROW, Cells, Measured, checked_split, measure, read_cells, split_facts
from spatia.pairing.confidence import Calibration, read_calibration, trust
from spatia.pairing.pairs import (
    COLUMNS,
    ENDS_COLUMNS,
    FACTS_FILE,
    Pairs,
    check_out,
    check_pairs,
    read_pairs,
    write_pairs,
)
from spatia.pairing.plans import Convergence, Problem, Rows, TransportPlan, empty_rows, put_rows
from spatia.pairing.settings import PairSettings, Scope
from spatia.pairing.signatures import pair_weights, signature
from spatia.pairing.solvers import solve
from spatia.pairing.space import Members, place
from spatia.pairing.transitions import Transition, find_ends, make_transitions, read_transitions
from spatia.version import __version__

Report = Callable[[str, int, int], None]
_LIBRARIES = ("numpy", "scipy", "POT", "anndata", "pandas")
FEW_CELLS = 100  # of a side of a transition; below, a mean of 300 genes is mostly noise of sampling


@dataclass(frozen=True)
class Paired:
    """One part of one transition, paired.

    Attributes
    ----------
    members
        Sources and targets of the part.
    rows
        One row of the plan for each source; a source without any target in reach has no partner.
    problem
        (sources,) number of the problem that each source was in; -1 without a target in reach.
    problems
        Size, place and convergence of each problem.
    median_cost
        What one unit of cost is.
    """

    members: Members
    rows: Rows
    problem: NDArray[np.int64]
    problems: list[dict[str, Any]]
    median_cost: float


def pair(
    corpus: Corpus | str | Path,
    transitions: str | Path | Sequence[Transition | dict[str, Any]],
    out: str | Path,
    *,
    cells: ad.AnnData | pd.DataFrame | str | Path | None = None,
    settings: PairSettings | None = None,
    calibration: Calibration | str | Path | None = None,
    report: Report | None = None,
) -> Pairs:
    """Pair source and target cells of every transition, within each part of the split.

    Parameters
    ----------
    corpus
        Folder, or opened; with a split.
    transitions
        YAML file (``docs/pairing.md``), or its contents.
    out
        Folder to write: ``pairs.parquet``, ``ends.parquet``, ``signatures.parquet``, ``pairing.json``.
    cells
        Table with more columns for the cells (states, labels) and, for a cost in embedding space, the embedding.
    settings
        Split, scope, cost, solver.
    calibration
        Made by ``benchmarks/pairing.py``; None: the one of the package.
    report
        Called with what is going on, steps done and steps in all.

    Returns
    -------
    The pairs, as :func:`read_pairs` reads them.

    Raises
    ------
    SettingsError, CorpusError, PairingError
        If an input is not as expected, or a plan has not converged.
    """
    settings = settings or PairSettings()
    out = Path(out)
    check_out(out)
    if (out / FACTS_FILE).is_file():
        logger.warning("%s: pairs are there already; they are replaced when the new ones are done", out)
    wanted = (
        read_transitions(transitions)
        if isinstance(transitions, str | Path)
        else make_transitions(list(transitions), where="transitions")
    )
    trusted = calibration if isinstance(calibration, Calibration) else read_calibration(calibration)
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    split = checked_split(opened, settings.split)
    _check_scopes(opened, wanted, settings)
    all_cells = read_cells(opened, split, cells, settings.embedding)
    ends = [find_ends(all_cells.obs, one, states=settings.states) for one in wanted]
    used = all_cells.obs[PART].isin(PARTS).to_numpy()
    chosen = np.flatnonzero(used & np.any([end.source | end.target for end in ends], axis=0))
    if not len(chosen):
        raise PairingError(f"{opened.path}: no source or target is in a part of split {split.name!r}; nothing to pair.")
    measured = measure(all_cells, chosen)

    tables, ends_of, signatures, facts = [], [], [], []
    problems: list[dict[str, Any]] = []
    for number, (transition, end) in enumerate(zip(wanted, ends, strict=True)):
        if report is not None:
            report("transitions", number, len(wanted))
        paired = dict(pair_transition(all_cells, measured, transition, end.source, end.target, settings))
        train = paired[PARTS[0]]
        weights = pair_weights(train.rows, len(train.members.target))
        signatures.append(signature(transition.name, measured, train.members, weights))
        for part, found in paired.items():
            tables.append(_table(all_cells, transition, part, found, trusted, settings))
            for name, rows in (("source", found.members.source), ("target", found.members.target)):
                ends_of.append(_ends_table(all_cells, transition, part, name, rows))
            problems += [{"transition": transition.name, "part": part, **one} for one in found.problems]
        facts.append(
            {**transition.model_dump(mode="json"), "scope": transition.scope or settings.scope, **_counts(paired)}
        )
    if report is not None:
        report("transitions", len(wanted), len(wanted))

    table = pd.concat(tables, ignore_index=True)
    fits = trusted.fits(settings.cost, settings.solver)
    content = {
        "spatia_version": __version__,
        "versions": {name: version(name) for name in _LIBRARIES},
        "corpus_id": opened.corpus_id,
        "split": split_facts(split),
        "seed": split.seed,  # of the split: pairing itself draws nothing
        "settings": settings.model_dump(mode="json"),
        "depth": measured.depth,
        "calibration": {**trusted.model_dump(mode="json"), "used": fits},
        "transitions": facts,
        "problems": problems,
    }
    # what would be refused when it is read must not take the place of what is there
    of_pairs = Pairs(
        out, table, pd.concat(signatures, ignore_index=True), content, pd.concat(ends_of, ignore_index=True)
    )
    checked = check_pairs(of_pairs)
    write_pairs(out, checked.table, checked.signatures, content, checked.ends)
    return read_pairs(out)


def _check_scopes(corpus: Corpus, transitions: Sequence[Transition], settings: PairSettings) -> None:
    for transition in transitions:
        scope = transition.scope or settings.scope
        if scope == "niche" and corpus.niche_definition not in ("grid", "adaptive"):
            raise SettingsError(
                f"Transition {transition.name!r}: scope 'niche' needs niches that partition the cells, but those of {corpus.path} are "
                f"{corpus.niche_definition!r}. Use scope: tissue, or a spatial_weight."
            )
        if scope == "global" and settings.cost.spatial_weight > 0 and len(corpus.sections) > 1:
            raise SettingsError(
                f"Transition {transition.name!r}: a spatial_weight with scope 'global', but places in different sections have no distance. "
                "Use scope: section."
            )


def pair_transition(
    cells: Cells,
    measured: Measured,
    transition: Transition,
    source: NDArray[np.bool_],
    target: NDArray[np.bool_],
    settings: PairSettings,
) -> Iterator[tuple[str, Paired]]:
    """Pair one transition, part by part; the training part first, whose cells alone decide the space.

    Parameters
    ----------
    source, target
        (cells,) which cells are sources and targets.
    """
    part_of = cells.obs[PART].to_numpy()
    members = {
        part: Members(np.flatnonzero(source & (part_of == part)), np.flatnonzero(target & (part_of == part)))
        for part in PARTS
    }
    train = members[PARTS[0]]
    if not (len(train.source) and len(train.target)):
        raise PairingError(
            f"Transition {transition.name!r}: {len(train.source):,} sources and {len(train.target):,} targets in the training part; "
            "expected some of each. Widen the states, or split anew."
        )
    if min(len(train.source), len(train.target)) < FEW_CELLS:
        logger.warning(
            "transition %r: only %d sources and %d targets in the training part; signatures and what a generator learns from them rest on "
            "these. %d of each are a fair number",
            transition.name,
            len(train.source),
            len(train.target),
            FEW_CELLS,
        )
    scope = transition.scope or settings.scope
    for part, own in members.items():
        if not (len(own.source) and len(own.target)):
            if len(own.source) or part == PARTS[0] or part_of_split(cells, part):
                logger.warning(
                    "transition %r: %d sources and %d targets in %s, so no pairs there",
                    transition.name,
                    len(own.source),
                    len(own.target),
                    part,
                )
            continue
        found = pair_part(cells, measured, train, own, scope, settings, transition.name, part)
        if part == PARTS[0] and not (found.problem >= 0).any():
            raise PairingError(
                f"Transition {transition.name!r}: no training source shares its {scope} with a target. Use a wider scope."
            )
        yield part, found


def part_of_split(cells: Cells, part: str) -> bool:
    """Say whether the split has any cell in a part."""
    return bool((cells.obs[PART] == part).any())


def pair_part(
    cells: Cells,
    measured: Measured,
    train: Members,
    own: Members,
    scope: Scope,
    settings: PairSettings,
    name: str,
    part: str,
) -> Paired:
    """Pair one part of one transition, group by group.

    Parameters
    ----------
    train, own
        Cells of the training part, which decide the space; cells to pair.
    """
    points = place(cells, measured, train, own, settings.cost, name=name)
    arrays = empty_rows(len(own.source), settings.top_k)
    problem = np.full(len(own.source), -1, np.int64)
    problems: list[dict[str, Any]] = []
    group_of_source, group_of_target = _groups(cells, own.source, scope), _groups(cells, own.target, scope)
    for group in np.intersect1d(group_of_source, group_of_target):
        sources, targets = np.flatnonzero(group_of_source == group), np.flatnonzero(group_of_target == group)
        try:
            plan = solve(Problem(points.source[sources], points.target[targets]), settings.solver, settings.top_k)
        except PairingError as error:
            size = f"{len(sources):,} × {len(targets):,} cells"
            raise PairingError(f"Transition {name!r}, part {part!r}, {scope} {group!r} ({size}): {error}") from error
        put_rows(arrays, sources, plan.rows, targets)
        problem[sources] = len(problems)
        problems.append(_problem_facts(len(problems), str(group), len(sources), len(targets), plan))
    return Paired(own, Rows(**arrays), problem, problems, points.median_cost)


def _groups(cells: Cells, rows: NDArray[np.int64], scope: Scope) -> NDArray[np.object_]:
    """Return where the partner of each cell must be, as text."""
    if scope == "global":
        return np.full(len(rows), "all", object)
    sample = cells.obs[keys.SAMPLE].to_numpy(object)[rows]
    if scope == "section":
        return sample
    number = cells.obs[keys.NICHE if scope == "niche" else keys.TISSUE].to_numpy()[rows]
    return np.array([f"{one} {at:07d}" for one, at in zip(sample, number, strict=True)], object)


def _problem_facts(number: int, group: str, n: int, m: int, plan: TransportPlan) -> dict[str, Any]:
    convergence: Convergence = plan.convergence
    return {"problem": number, "where": group, "n_sources": n, "n_targets": m, **asdict(convergence)}


def _counts(paired: dict[str, Paired]) -> dict[str, Any]:
    return {
        "parts": {
            part: {
                "n_sources": len(found.members.source),
                "n_targets": len(found.members.target),
                "n_paired": int((found.problem >= 0).sum()),
                "n_problems": len(found.problems),
                "median_cost": found.median_cost,
                "largest_marginal_error": max(
                    (max(one["source_error"], one["target_error"]) for one in found.problems), default=0.0
                ),
            }
            for part, found in paired.items()
        }
    }


def _ends_table(cells: Cells, transition: Transition, part: str, end: str, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return all cells of one end of a transition in one part: the partners kept are only the likeliest of them."""
    own = cells.obs.iloc[rows]
    ids, sample, row = own.index.astype(str), own[keys.SAMPLE].to_numpy(object), own[ROW].to_numpy(np.int64)
    values = (transition.name, part, end, ids, sample, row)
    return pd.DataFrame(dict(zip(ENDS_COLUMNS, values, strict=True)), index=range(len(own)))


def _table(
    cells: Cells, transition: Transition, part: str, found: Paired, calibration: Calibration, settings: PairSettings
) -> pd.DataFrame:
    rows = found.rows
    at, rank = np.nonzero(rows.partner >= 0)
    source, target = found.members.source[at], found.members.target[rows.partner[at, rank]]
    calibrated = trust(rows, calibration, settings.cost, settings.solver).probability
    ids = cells.obs.index.to_numpy(object)
    sample = cells.obs[keys.SAMPLE].to_numpy(object)
    row = cells.obs[ROW].to_numpy(np.int64)
    table = {
        "transition": transition.name,
        "group": transition.group,
        "part": part,
        "problem": found.problem[at],
        "source": ids[source],
        "source_sample": sample[source],
        "source_row": row[source],
        "rank": rank.astype(np.int64),
        "target": ids[target],
        "target_sample": sample[target],
        "target_row": row[target],
        "probability": rows.probability[at, rank],
        **{name: getattr(rows, name)[at] for name in ("confidence", "entropy", "mass", "cost", "n_targets")},
        "calibrated": calibrated[at],
    }
    return pd.DataFrame(table)[list(COLUMNS)]
