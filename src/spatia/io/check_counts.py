"""Are the counts raw? One pass over all rows, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import dask.array as da
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.io.check_reading import reading
from spatia.io.findings import Finding
from spatia.io.lazy import compute_here
from spatia.io.source import Source

LARGEST_COUNT: Final = 2**31 - 1  # a corpus stores counts in 32 bits


@dataclass(frozen=True)
class CountSurvey:
    """What one pass over the table's values found.

    ``totals`` (n cells) and ``feature_totals`` (m features) sum the finite values; ``example`` is a block's first rows
    with fractions in them, kept to tell how they came about.
    """

    n_values: int
    n_missing: int
    n_negative: int
    n_fraction: int
    largest: float
    totals: NDArray[np.float64]
    feature_totals: NDArray[np.float64]
    example: sp.csr_matrix | None


def survey_counts(counts: da.Array) -> CountSurvey:
    """Read every block of rows once and tally its values; memory is one block."""
    totals = np.zeros(counts.shape[0])
    feature_totals = np.zeros(counts.shape[1])
    n_values = n_missing = n_negative = n_fraction = 0
    largest, example = 0.0, None
    for start, block in row_blocks(counts):
        values = block.data
        finite = np.isfinite(values)
        n_values += values.size
        n_missing += int((~finite).sum())
        n_negative += int((values[finite] < 0).sum())
        fractions = int((values[finite] != np.rint(values[finite])).sum())
        n_fraction += fractions
        if fractions and example is None:
            example = block[:512]
        clean = block if finite.all() else _zero_missing(block)
        totals[start : start + block.shape[0]] = np.asarray(clean.sum(axis=1)).ravel()
        feature_totals += np.asarray(clean.sum(axis=0)).ravel()
        largest = max(largest, float(values[finite].max(initial=0.0)))
    return CountSurvey(n_values, n_missing, n_negative, n_fraction, largest, totals, feature_totals, example)


def row_blocks(counts: da.Array) -> Iterator[tuple[int, sp.csr_matrix]]:
    """Yield (first row, CSR block) over the rows of the border's lazy counts."""
    start = 0
    for index, rows in enumerate(counts.chunks[0]):
        with reading("the count matrix"):
            block = sp.csr_matrix(compute_here(counts.blocks[index]))
        yield start, block.astype(np.float64)
        start += rows


def explain_fractions(example: sp.csr_matrix) -> str:
    """Say how values with fractions came about, as far as their pattern tells.

    Log-normalised: undoing the logarithm gives rows with one common sum, or whole multiples of each row's smallest value.

    Examples
    --------
    >>> raw = np.random.default_rng(0).poisson(2.0, (50, 40)).astype(float)
    >>> scaled = raw / raw.sum(axis=1, keepdims=True) * 1e4
    >>> explain_fractions(sp.csr_matrix(np.log1p(scaled)))
    'log-normalised (log1p of counts scaled to 10,000 per cell)'
    >>> explain_fractions(sp.csr_matrix(scaled))
    'normalised (scaled to 10,000 per cell)'
    >>> explain_fractions(sp.csr_matrix(raw + np.random.default_rng(1).random(raw.shape)))
    'not whole numbers, of no known transformation'
    """
    values = example.copy()
    values.data = np.where(np.isfinite(values.data), values.data, 0)
    total = _common_total(values)
    if total:
        return f"normalised (scaled to {total:,.0f} per cell)"
    if values.data.size and values.data.max() < 50 and values.data.min() >= 0:
        for name, undone in (("log1p", np.expm1(values.data)), ("log2(1 + x)", np.exp2(values.data) - 1)):
            back = sp.csr_matrix((undone, values.indices, values.indptr), shape=values.shape)
            total = _common_total(back)
            if total:
                return f"log-normalised ({name} of counts scaled to {total:,.0f} per cell)"
            if _whole_multiples(back):
                return f"log-normalised ({name} of scaled counts)"
    if _whole_multiples(values):
        return "normalised (each cell's counts times its own factor)"
    if values.data.size and values.data.min() < 0:
        return "scaled or centred (values below zero)"
    return "not whole numbers, of no known transformation"


def count_findings(survey: CountSurvey, source: Source) -> list[Finding]:
    """Judge the values: finite, not negative, whole, not all zero, cells that are empty."""
    n_cells = survey.totals.size
    intensity = source.measure == "intensity"
    findings = [
        Finding(
            "counts-missing",
            "refused" if survey.n_missing else "ok",
            "NaN or infinite values in the table",
            f"{survey.n_missing:,} of {survey.n_values:,} stored values",
            "0",
            "Export the raw counts again; a missing value cannot be told from a measured zero."
            if survey.n_missing
            else "",
        )
    ]
    findings += [_negative_finding(survey, intensity), _raw_finding(survey, intensity)]
    if survey.largest > LARGEST_COUNT and not intensity:
        remedy = "These are no molecules. Declare intensities (--measure intensity), or export raw counts."
        findings.append(
            Finding(
                "counts-large",
                "refused",
                "largest value of the table",
                f"{survey.largest:,.0f}",
                f"at most {LARGEST_COUNT:,}",
                remedy,
            )
        )
    empty = int((survey.totals == 0).sum())
    all_empty = n_cells > 0 and empty == n_cells
    findings.append(
        Finding(
            "counts-empty-cells",
            "refused" if all_empty else "warning" if empty else "ok",
            "cells without a single count",
            f"{empty:,} of {n_cells:,} cells ({empty / max(n_cells, 1):.2%})",
            "0, at least not all",
            "Every value is zero: this is not the slide's count matrix."
            if all_empty
            else "Kept, and marked by total counts 0; filter them in the analysis."
            if empty
            else "",
        )
    )
    return findings


def _negative_finding(survey: CountSurvey, intensity: bool) -> Finding:
    remedy = (
        "Give intensities from 0 up, of which log1p is taken: clip what a background subtraction left below 0."
        if intensity
        else "Give raw counts; scaled or background-subtracted values are not counts."
    )
    return Finding(
        "counts-negative",
        "refused" if survey.n_negative else "ok",
        "negative values in the table",
        f"{survey.n_negative:,} of {survey.n_values:,} stored values",
        "0",
        remedy if survey.n_negative else "",
    )


def _raw_finding(survey: CountSurvey, intensity: bool) -> Finding:
    code, what = "counts-raw", "whole numbers (raw counts, not normalised, not logarithms)"
    if intensity:
        return Finding(
            code,
            "ok",
            "values declared as intensities",
            f"largest {survey.largest:.4g}",
            "declared by --measure intensity",
        )
    if not survey.n_fraction or survey.example is None:
        return Finding(code, "ok", what, f"0 fractions, largest {survey.largest:,.0f}", "0 fractions")
    return Finding(
        code,
        "refused",
        what,
        f"{survey.n_fraction:,} of {survey.n_values:,} stored values have a fraction; {explain_fractions(survey.example)}",
        "0 fractions",
        "Give the raw counts (often in .raw or layers['counts'] of an h5ad). For protein intensities declare "
        "--measure intensity.",
    )


def _zero_missing(block: sp.csr_matrix) -> sp.csr_matrix:
    clean = block.copy()
    clean.data = np.where(np.isfinite(clean.data), clean.data, 0)
    return clean


def _common_total(values: sp.csr_matrix) -> float | None:
    totals = np.asarray(values.sum(axis=1)).ravel()
    totals = totals[totals > 0]
    if totals.size < 3:
        return None
    middle = float(np.median(totals))
    return middle if float(np.mean(np.abs(totals / middle - 1) < 0.005)) > 0.9 else None


def _whole_multiples(values: sp.csr_matrix, tolerance: float = 0.02) -> bool:
    """Return True if in most rows all values are whole multiples of the smallest: counts times one factor per cell."""
    whole = []
    for row in range(min(values.shape[0], 200)):
        found = values.data[values.indptr[row] : values.indptr[row + 1]]
        found = found[found > 0]
        if found.size >= 5:
            multiples = found / found.min()
            whole.append(
                bool(np.all(np.abs(multiples - np.rint(multiples)) < tolerance * np.maximum(1, multiples / 10)))
            )
    return len(whole) >= 3 and float(np.mean(whole)) > 0.9
