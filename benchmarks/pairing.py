"""Measure pairing: against the exact plan, at 50 k × 50 k cells, and on simulated slides against the true partner state.

python benchmarks/pairing.py gap                        # blocks and low rank against the exact plan, 5,000 × 5,000
python benchmarks/pairing.py random-blocks              # what is gained by cutting along axes
python benchmarks/pairing.py memory --cells 50000       # time and peak memory, each method in a process of its own
python benchmarks/pairing.py calibrate -o FILE          # fit the calibration on some slides
python benchmarks/pairing.py reliability --figure PNG   # judge it on others, beside the largest plan entry
python benchmarks/pairing.py robustness                 # error rate over ε, noise, group size
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.spatial import cKDTree

from spatia.corpus.expression import normalised
from spatia.corpus.files import write_text
from spatia.pairing.cells import Cells, Measured
from spatia.pairing.confidence import Calibration, features, fit_calibration, read_calibration
from spatia.pairing.pair import Paired, pair_part
from spatia.pairing.partner_state import PartnerState, is_right, partner_state, right_table
from spatia.pairing.plans import Problem
from spatia.pairing.reliability import reliability
from spatia.pairing.settings import CostSettings, PairSettings, Scope, SolverSettings
from spatia.pairing.solvers import blocks_of, solve
from spatia.pairing.space import Members, place
from spatia.plotting.pairing import plot_reliability
from spatia.simulate.randomness import blocks
from spatia.simulate.section import simulate_section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.tables import observed_block, section_features, spill
from spatia.simulate.truth import truth_table

CONSOLE = Console(width=150)
WINDOWS_UM: dict[Scope, float] = {"niche": 54.4, "tissue": 435.2}
FIT_SEEDS, JUDGE_SEEDS = (101, 102, 103), (201, 202, 203)
STROMA = ("t_cell", "macrophage", "fibroblast", "endothelial")
EPITHELIUM = ("tumour", "luminal")
# name: types, state, source below, target above
TRANSITIONS = {
    "emt, tumour": (("tumour",), "emt", 0.25, 0.45),
    "emt, epithelium": (EPITHELIUM, "emt", 0.2, 0.4),
    "proliferation, epithelium": (EPITHELIUM, "proliferation", 0.2, 0.5),
    "activation, stroma and immune": (STROMA, "activation", 0.2, 0.5),
}
DEFAULT = PairSettings()


@dataclass(frozen=True)
class Slide:
    """A simulated section as pairing sees it, and its truth. No picture is drawn, so it takes seconds."""

    cells: Cells
    measured: Measured
    truth: pd.DataFrame


def make_slide(seed: int, n_cells: int, counts_per_cell: float = 180.0) -> Slide:
    settings = SimulationSettings(n_cells=n_cells, seed=seed, counts_per_cell=counts_per_cell)
    section = simulate_section(settings, 0)
    genes = section_features(section)
    moved = spill(section, cKDTree(section.cells.centre_um))
    parts = [observed_block(section, moved, i, one, genes) for i, one in enumerate(blocks(n_cells))]
    counts = sp.csr_matrix(sp.vstack(parts, format="csr")[:, : len(genes.gene)])
    depth = float(np.median(np.asarray(counts.sum(axis=1))))
    truth = truth_table(settings, section)
    position = section.cells.centre_um
    number = {}
    for scope, side_um in WINDOWS_UM.items():
        column, row = (position // side_um).astype(int).T
        number[scope] = row * 10_000 + column
    obs = truth.set_index("cell_id").assign(sample="s", row=np.arange(n_cells), part="train", **number)
    names = tuple(genes.ids[: len(genes.gene)])
    measured = Measured(
        rows=np.arange(n_cells),
        section=np.zeros(n_cells, np.int64),
        expression=normalised(counts, depth),
        measures=np.ones((1, len(names)), bool),
        morphology=np.zeros((n_cells, 0)),
        genes=names,
        symbols=names,
        features=(),
        depth=depth,
    )
    return Slide(Cells(None, obs, position), measured, truth)  # type: ignore[arg-type]  # nothing is read from disk


def members_of(slide: Slide, name: str, limit: tuple[int, int] | None = None, seed: int = 0) -> Members:
    """Return sources and targets, at random at most ``limit`` of each."""
    types, state, below, above = TRANSITIONS[name]
    kind, value = slide.truth["type"].isin(types).to_numpy(), slide.truth[f"state_{state}"].to_numpy()
    ends = [np.flatnonzero(kind & (value < below)), np.flatnonzero(kind & (value > above))]
    if limit is not None:
        rng = np.random.default_rng(seed)
        ends = [np.sort(rng.permutation(end)[:most]) for end, most in zip(ends, limit, strict=True)]
    return Members(*ends)


def paired(slide: Slide, members: Members, scope: Scope, solver: SolverSettings, cost: CostSettings) -> Paired:
    settings = PairSettings(scope=scope, solver=solver, cost=cost)
    return pair_part(slide.cells, slide.measured, members, members, scope, settings, "benchmark", "train")


@dataclass(frozen=True)
class Judged:
    """Sources that have a partner: what a calibration reads, what each confidence says, and what was the case."""

    X: NDArray[np.float64]
    row: NDArray[np.float64]
    evenness: NDArray[np.float64]
    entry: NDArray[np.float64]
    right: NDArray[np.bool_]
    drawn_right: float
    by_chance: float


def judge(slide: Slide, name: str, found: Paired) -> Judged:
    state = partner_state(slide.truth, [TRANSITIONS[name][1]])
    there = np.flatnonzero(found.problem >= 0)
    rows, members = found.rows, found.members
    source = state.take(members.source[there])
    right = is_right(source, state.take(members.target[rows.partner[there, 0]]))
    X = features(rows)[there]
    sizes = np.array([one["n_sources"] for one in found.problems])[found.problem[there]]
    most = np.log(np.maximum(rows.n_targets[there], 2))
    drawn = np.zeros(len(there))
    for k in range(rows.partner.shape[1]):
        partner = rows.partner[there, k]
        ok = is_right(source, state.take(members.target[np.maximum(partner, 0)])) & (partner >= 0)
        drawn += ok * rows.probability[there, k]
    kept = rows.probability[there].sum(axis=1)
    return Judged(
        X=X,
        row=rows.confidence[there],
        evenness=1 - rows.entropy[there] / most,
        entry=rows.confidence[there] / sizes,
        right=right,
        drawn_right=float((drawn / np.maximum(kept, 1e-12)).mean()),
        by_chance=by_chance(state, members),
    )


def by_chance(state: PartnerState, members: Members) -> float:
    """Return how often a partner taken at random is right."""
    rng = np.random.default_rng(0)
    a, b = (rng.choice(rows, min(len(rows), 1500), replace=False) for rows in (members.source, members.target))
    return float(right_table(state.take(a), state.take(b)).mean())


def all_judged(seeds: Sequence[int], n_cells: int) -> dict[tuple[str, str], list[Judged]]:
    found: dict[tuple[str, str], list[Judged]] = {}
    for seed in seeds:
        slide = make_slide(seed, n_cells)
        for name in TRANSITIONS:
            members = members_of(slide, name)
            for scope in ("niche", "tissue", "global"):
                one = judge(slide, name, paired(slide, members, scope, DEFAULT.solver, DEFAULT.cost))
                found.setdefault((name, scope), []).append(one)
    return found


def pooled(parts: Sequence[Judged], field: str) -> NDArray:
    return np.concatenate([getattr(part, field) for part in parts])


def calibrate(out: Path, n_cells: int) -> None:
    parts = [part for group in all_judged(FIT_SEEDS, n_cells).values() for part in group]
    found = fit_calibration(
        pooled(parts, "X"),
        pooled(parts, "right"),
        name="simulated",
        fitted_on=f"benchmarks/pairing.py calibrate --cells {n_cells}, slides of seeds {', '.join(map(str, FIT_SEEDS))}",
        cost=DEFAULT.cost,
        solver=DEFAULT.solver,
    )
    write_text(out, found.model_dump_json(indent=1) + "\n")
    CONSOLE.print(
        f"{out}: {found.n_pairs:,} pairs, weights {dict(zip(('intercept', *FEATURE_NAMES), (found.intercept, *found.weights), strict=True))}"
    )


FEATURE_NAMES = ("log_confidence", "log_partners", "log_targets", "cost")


def judge_reliability(calibration: Calibration, n_cells: int, figure: Path | None) -> None:
    groups = all_judged(JUDGE_SEEDS, n_cells)
    parts = [part for group in groups.values() for part in group]
    right = pooled(parts, "right")
    X = pooled(parts, "X")
    stated = {
        "largest plan entry": pooled(parts, "entry"),
        "row-normalised": pooled(parts, "row"),
        "1 − entropy": pooled(parts, "evenness"),
        "calibrated": calibrated(calibration, X),
    }
    curves = {name: reliability(values, right) for name, values in stated.items()}
    table = Table(
        title=f"{len(right):,} pairs of slides that the calibration has not seen, {right.mean():.3f} of them right"
    )
    for name in ("confidence", "calibration error", "ranking (AUROC)", "Brier", "right among the surer half"):
        table.add_column(name, justify="left" if name == "confidence" else "right")
    for name, curve in curves.items():
        half = np.argsort(-stated[name], kind="stable")[: len(right) // 2]
        table.add_row(
            name, f"{curve.error:.3f}", f"{curve.ranking:.3f}", f"{curve.brier:.3f}", f"{right[half].mean():.3f}"
        )
    CONSOLE.print(table)
    table = Table(title="by transition and scope: mean ± sd over slides")
    for name in (
        "transition",
        "scope",
        "pairs",
        "by chance",
        "right",
        "drawn right",
        "error: entry",
        "row",
        "calibrated",
        "AUROC: entry",
        "row",
        "calibrated",
    ):
        table.add_column(name, justify="left" if name in ("transition", "scope") else "right")
    for (name, scope), group in groups.items():
        own: dict[str, list] = {"entry": [], "row": [], "calibrated": []}
        for part in group:
            for kind, values in (
                ("entry", part.entry),
                ("row", part.row),
                ("calibrated", calibrated(calibration, part.X)),
            ):
                own[kind].append(reliability(values, part.right))
        table.add_row(
            name,
            scope,
            f"{sum(len(part.right) for part in group):,}",
            spread([part.by_chance for part in group]),
            spread([part.right.mean() for part in group]),
            spread([part.drawn_right for part in group]),
            *(spread([one.error for one in curves]) for curves in own.values()),
            *(spread([one.ranking for one in curves]) for curves in own.values()),
        )
    CONSOLE.print(table)
    if figure is not None:
        plot_reliability(curves, figure)


def calibrated(calibration: Calibration, X: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-(X @ np.array(calibration.weights) + calibration.intercept)))


def spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


def robustness(n_cells: int, seeds: Sequence[int]) -> None:
    name = "activation, stroma and immune"
    table = Table(title=f"Share of partners with a wrong state, {name}, one group, mean ± sd over {len(seeds)} slides")
    for column in ("what varies", "value", "by chance", "likeliest partner", "drawn partner"):
        table.add_column(column, justify="left" if column == "what varies" else "right")

    def row(what: str, value: str, counts: float, solver: SolverSettings, limit: tuple[int, int] | None) -> None:
        found = []
        for seed in seeds:
            slide = slides[seed, counts] if (seed, counts) in slides else make_slide(seed, n_cells, counts)
            slides[seed, counts] = slide
            members = members_of(slide, name, limit, seed)
            found.append(judge(slide, name, paired(slide, members, "global", solver, DEFAULT.cost)))
        errors = [
            [1 - one.by_chance for one in found],
            [1 - one.right.mean() for one in found],
            [1 - one.drawn_right for one in found],
        ]
        table.add_row(what, value, *map(spread, errors))

    slides: dict[tuple[int, float], Slide] = {}
    for epsilon in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
        row("ε / median cost", f"{epsilon:g}", 180.0, SolverSettings(epsilon=epsilon), None)
    row("ε / median cost", "exact", 180.0, SolverSettings(method="exact"), None)
    row("mass", "unbalanced, 1", 180.0, SolverSettings(balance="unbalanced"), None)
    row("mass", "unbalanced, 0.2", 180.0, SolverSettings(balance="unbalanced", mass_penalty=0.2), None)
    for counts in (30.0, 60.0, 120.0, 240.0, 480.0):
        row("noise: counts a cell", f"{counts:g}", counts, DEFAULT.solver, None)
    for size in (10, 30, 100, 300):
        row("cells of each side", f"{size}", 180.0, DEFAULT.solver, (size, size))
    CONSOLE.print(table)


def points(n: int, seed: int = 0) -> Problem:
    """Return ``n`` sources and targets: drawn with replacement from placed simulated cells, with a tenth of their spread as noise."""
    slide = make_slide(seed, 8_000)
    members = members_of(slide, "activation, stroma and immune")
    placed = place(slide.cells, slide.measured, members, members, DEFAULT.cost, name="benchmark")
    rng = np.random.default_rng(seed)

    def drawn(values: NDArray) -> NDArray:
        return values[rng.integers(0, len(values), n)] + 0.1 * values.std(axis=0) * rng.standard_normal(
            (n, values.shape[1])
        )

    return Problem(drawn(placed.source), drawn(placed.target))


METHODS = {
    "exact": SolverSettings(method="exact", max_cells=10**6),
    "sinkhorn, whole": SolverSettings(max_cells=10**6),
    "blocks of 2048, sinkhorn": SolverSettings(max_cells=2048),
    "blocks of 512, sinkhorn": SolverSettings(max_cells=512),
    "blocks of 2048, exact": SolverSettings(method="exact", max_cells=2048),
    "blocks of 512, exact": SolverSettings(method="exact", max_cells=512),
    "low rank 50": SolverSettings(large="low_rank", max_cells=1024, tolerance=1e-3),
    "low rank 200": SolverSettings(large="low_rank", max_cells=1024, rank=200, tolerance=1e-3),
}


def solve_once(name: str, n: int, result: "multiprocessing.Queue[dict[str, float]]") -> None:
    """Solve in this process alone, so that its peak memory is that of one method."""
    problem = points(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    start, busy = time.perf_counter(), time.process_time()
    plan = solve(problem, METHODS[name], 10)
    found = plan.convergence
    result.put(
        {
            "cost": found.cost,
            "error": max(found.source_error, found.target_error),
            "parts": found.parts,
            "seconds": time.perf_counter() - start,
            "cpu": time.process_time() - busy,
            "before": before,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }
    )


def compare(names: Sequence[str], n: int) -> None:
    table = Table(title=f"{n:,} × {n:,} cells, ε = 0.05 of the median cost")
    for column in (
        "method",
        "cost",
        "above exact",
        "marginal error",
        "blocks",
        "s",
        "s of processor",
        "peak GB",
        "of it before solving",
    ):
        table.add_column(column, justify="left" if column == "method" else "right")
    context = multiprocessing.get_context("spawn")
    exact = None
    for name in names:
        queue: multiprocessing.Queue[dict[str, float]] = context.Queue()
        process = context.Process(target=solve_once, args=(name, n, queue))
        process.start()
        row = queue.get()
        process.join()
        exact = row["cost"] if name == "exact" else exact
        table.add_row(
            name,
            f"{row['cost']:.4f}",
            "" if exact is None else f"{100 * (row['cost'] / exact - 1):.1f} %",
            f"{row['error']:.1e}",
            f"{row['parts']:g}",
            f"{row['seconds']:.0f}",
            f"{row['cpu']:.0f}",
            f"{row['peak']:.2f}",
            f"{row['before']:.2f}",
        )
        CONSOLE.print(name, row)
    CONSOLE.print(table)


def random_blocks(n: int) -> None:
    """Say what is gained by cutting along the longest axis: the same blocks, filled at random."""
    problem = points(n)
    rng = np.random.default_rng(0)
    settings = SolverSettings(max_cells=10**6)
    for most in (2048, 512):
        cut = blocks_of(problem, most**2)
        total = {"cut along axes": 0.0, "at random": 0.0}
        source, target = rng.permutation(n), rng.permutation(n)
        done = 0
        for block in cut:
            size = len(block.source)
            chosen = {
                "cut along axes": (block.source, block.target),
                "at random": (source[done : done + size], target[done : done + len(block.target)]),
            }
            done += size
            for name, (a, b) in chosen.items():
                plan = solve(Problem(problem.source[a], problem.target[b]), settings, 1)
                total[name] += plan.convergence.cost * size / n
        CONSOLE.print(f"{n:,} × {n:,}, blocks of at most {most}: {total}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gap", "memory", "calibrate", "reliability", "robustness", "random-blocks"])
    parser.add_argument("--cells", type=int)
    parser.add_argument("--methods", nargs="*", choices=list(METHODS))
    parser.add_argument("-o", "--out", type=Path, default=Path("src/spatia/pairing/calibration.json"))
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if given.what == "gap":
        compare(given.methods or list(METHODS), given.cells or 5_000)
    elif given.what == "memory":
        compare(given.methods or ["blocks of 2048, sinkhorn", "low rank 50"], given.cells or 50_000)
    elif given.what == "random-blocks":
        random_blocks(given.cells or 5_000)
    elif given.what == "calibrate":
        calibrate(given.out, given.cells or 8_000)
    elif given.what == "reliability":
        judge_reliability(read_calibration(given.calibration), given.cells or 8_000, given.figure)
    else:
        robustness(given.cells or 8_000, JUDGE_SEEDS)


if __name__ == "__main__":
    main()
