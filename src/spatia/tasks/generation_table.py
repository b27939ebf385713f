"""The scores of generated cells as text: every number with its interval, its N and the features it was measured in."""

from collections.abc import Iterable, Sequence

import numpy as np

from spatia.metrics.bootstrap import Estimate
from spatia.tasks.evaluate_generation import Evaluation
from spatia.tasks.generation_group import GENERATED, PIXELS
from spatia.tasks.generation_scores import GroupScores

MANIFOLD = ("precision", "recall", "density", "coverage")
SHUFFLED = "shuffled conditions"


def evaluation_text(evaluation: Evaluation) -> str:
    """Return all tables in markdown."""
    facts = evaluation.facts
    settings = facts["settings"]
    cells = f"part {settings['part']!r} of split {settings['split']!r}" if settings["split"] else "cells of no split"
    parts = [
        f"{facts['generated']}: {facts['n_images']:,} generated images for {cells}; {facts['n_training']:,} real training cells give "
        f"scales. In brackets: 95 % interval over {settings['resamples']} resamples of cells."
    ]
    parts += [f"- {name}: {text}" for name, text in evaluation.extractors.items()]
    parts += [f"- warning: {text}" for text in evaluation.warnings]
    beside = {group.name: group for group in evaluation.shuffled}
    for group in evaluation.groups:
        parts += ["", f"## {group.name}: {group.n_cells:,} cells", ""]
        parts += [_sets(group, beside.get(group.name)), "", _pairs(group, beside.get(group.name), evaluation), ""]
        parts.append(_memory(group))
    for truth in evaluation.counterfactual:
        parts += [
            "",
            f"## {truth.name}: against the true counterfactual ({truth.simulated}) of {truth.n_cells:,} cells",
            "",
        ]
        header = ["", "N", "pixels (0-255)", "pixels in the cell", "morphology (sd)", "state", "shift r", "effect r"]
        lines = [
            [
                name, str(row.pixel_rmse.n_generated), *map(bracket, (
                    row.pixel_rmse, row.pixel_rmse_in_cell, row.morphology_error, row.state_error,
                    row.shift_correlation, row.effect_correlation,
                )),
            ]
            for name, row in truth.rows.items()
        ]  # fmt: skip
        parts += [
            markdown(header, lines),
            "",
            f"State read from real pictures: r = {truth.reader_correlation:.2f}. The corpus' own crops differ from the simulator's pictures "
            f"of the same cells by {truth.factual_rmse:.1f} of 255.",
        ]
    return "\n".join(parts)


def bracket(one: Estimate) -> str:
    """Return a number with its interval.

    Examples
    --------
    >>> bracket(Estimate(0.12345, 0.1, 0.2, 10, 10))
    '0.123 [0.100, 0.200]'
    """
    if not np.isfinite(one.value):
        return "–"
    text = _number(one.value)
    return text if not np.isfinite(one.low) else f"{text} [{_number(one.low)}, {_number(one.high)}]"


def _number(value: float) -> str:
    digits = 3 if abs(value) < 10 else 1
    return f"{value:.{digits}f}"


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(one.replace("|", "/") for one in row) + " |" for row in rows)


def _sets(group: GroupScores, shuffled: GroupScores | None) -> str:
    header = ["features", "set", "N", "N real", "Fréchet", "KID", *MANIFOLD, "state recognised"]
    sets = dict(group.rows)
    if shuffled is not None:
        sets[SHUFFLED] = shuffled.rows[GENERATED]
    lines = []
    for space in next(iter(sets.values())).spaces:
        for name, scores in sets.items():
            one = scores.spaces[space]
            state = scores.state.get(space)
            lines.append(
                [space, name, str(scores.n), str(scores.n_real), bracket(one.frechet), bracket(one.kid)]
                + [bracket(one.manifold[key]) for key in MANIFOLD]
                + ["" if state is None else bracket(state)]
            )
        of_real = sets[GENERATED].state.get(f"{space}, of the real cells")
        if of_real is not None:
            lines.append([space, "the real cells themselves", "", str(of_real.n_real), *[""] * 6, bracket(of_real)])
    features = markdown(
        ["set", "N", "N real", "Wasserstein (sd)", "Kolmogorov–Smirnov"],
        [
            [
                name,
                str(one.n),
                str(one.n_real),
                *map(bracket, (one.features.mean_wasserstein, one.features.mean_kolmogorov_smirnov)),
            ]
            for name, one in sets.items()
        ],
    )
    return f"{markdown(header, lines)}\n\nMean over measured features:\n\n{features}"


def _pairs(group: GroupScores, shuffled: GroupScores | None, evaluation: Evaluation) -> str:
    both = {GENERATED: group} | ({} if shuffled is None else {SHUFFLED: shuffled})
    whose = "own cell" if group.shift is None else "source cell"
    header = ["features", "set", f"distance to the {whose}", "to other cells", f"{whose} recognised (chance 0.5)"]
    header += ["within its label"] if group.pairs.recognised_within else []
    lines = []
    for name, one in both.items():
        pairs = one.pairs
        for space in pairs.error:
            line = [space, name, bracket(pairs.error[space]), bracket(pairs.error_of_others[space])]
            line.append(bracket(pairs.recognised[space]))
            lines.append(line + [bracket(found) for key, found in pairs.recognised_within.items() if key == space])
        blank = [""] * (len(header) - 4)
        lines.append([PIXELS, name, bracket(pairs.pixel_rmse), bracket(pairs.pixel_rmse_of_others), *blank])
    text = f"Each image and the real image of its {whose}; the other cells are what shuffled pairs give:\n\n{markdown(header, lines)}"
    for name, one in both.items():
        if one.shift is not None:
            s = one.shift
            text += (
                f"\n\nShift of the mean of {len(evaluation.features)} features, {name}: correlation with the real shift "
                f"{bracket(s.correlation)}, cosine {bracket(s.cosine)}, relative error {bracket(s.relative_error)}."
            )
        elif name == GENERATED:
            r = float(np.nan_to_num(one.pairs.feature_correlation).mean())
            text += f"\n\nMeasured features of the same cell, correlation over cells, mean over features: {r:.3f}."
    return text


def _memory(group: GroupScores) -> str:
    header = [
        "features",
        "N training",
        "copies",
        "if none",
        "nearer than held-out cells (0.5)",
        "ratio of distances",
    ]
    lines = [
        [
            name,
            f"{one.n_training:,}",
            bracket(one.copies),
            f"{one.copies_expected:.3f}",
            bracket(one.nearer),
            f"{one.median_ratio:.2f}",
        ]
        for name, one in group.memorisation.items()
    ]
    return f"Memorisation:\n\n{markdown(header, lines)}"
