"""The doctor: look at a slide before anything is built on it, and refuse rather than guess.

Each finding holds a number found and a number expected; `docs/check.md` lists them with their limits and where the
limits come from. The cost does not grow with the image, and grows with the cells only by one pass over counts and outlines.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from spatialdata import SpatialData

from spatia import keys
from spatia.errors import MissingExtraError, SettingsError, SpatiaError
from spatia.io.alignment import AlignmentSettings
from spatia.io.border import (
    COLUMNS_RENAMED,
    Notice,
    slide_info,
    slide_labels,
    slide_outlines,
    slide_pyramid,
    slide_table,
)
from spatia.io.check_alignment import alignment_findings, alignment_rows
from spatia.io.check_counts import count_findings, survey_counts
from spatia.io.check_drift import drift_findings
from spatia.io.check_forecast import Forecast, forecast_findings
from spatia.io.check_genes import gene_findings
from spatia.io.check_geometry import outline_findings, vendor_area
from spatia.io.check_image import absence_finding, extent_findings
from spatia.io.check_labels import label_findings
from spatia.io.check_outlines import OutlineSurvey, survey_outlines
from spatia.io.check_positions import duplicate_finding, no_outlines_finding, position_findings, spread_sample
from spatia.io.findings import Finding, Report
from spatia.io.memory import give_back
from spatia.io.read import read_slide
from spatia.io.source import Source
from spatia.io.stain import hold_stain
from spatia.log import logger

Floats = NDArray[np.float64]
TYPICAL_DIAMETER_UM = 10.0  # where a slide has neither outlines nor labels


@dataclass(frozen=True)
class CheckSettings:
    """What the doctor spends and what it forecasts.

    Attributes
    ----------
    n_outlines
        Outlines tested one by one (centroid inside, self-crossing), spread evenly over the slide.
    alignment
        Where and how finely the image's alignment is judged.
    forecast
        What a build would make: sizes of crops, and the folder whose disk it would fill.
    """

    n_outlines: int = 2_000
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    forecast: Forecast = field(default_factory=Forecast)


def check_slide(source: Source, *, settings: CheckSettings | None = None) -> Report:
    """Open the slide and judge it. What its reader refuses becomes a refused finding, not an exception.

    Raises
    ------
    MissingExtraError, SettingsError
        These are about the installation or the command, not about the slide.
    """
    try:
        slide = read_slide(source)
    except (MissingExtraError, SettingsError):
        raise
    except SpatiaError as error:
        return Report(source.sample, (_refusal("slide-readable", "the slide can be opened", error),))
    opened = Finding("slide-readable", "ok", "the slide can be opened", slide_info(slide).platform, "a known layout")
    report = check_open_slide(slide, source, settings=settings)
    return Report(report.sample, (opened, *report.findings))


def check_open_slide(slide: SpatialData, source: Source, *, settings: CheckSettings | None = None) -> Report:
    """Judge a slide that is open already; `build` and `run` call this."""
    settings = settings or CheckSettings()
    info = slide_info(slide)
    findings = [_notice_finding(notice) for notice in info.notices]
    for notice in info.notices:
        if notice.code == COLUMNS_RENAMED:  # said aloud, because what the user types must change
            logger.warning("%s: %s. %s", info.sample, notice.found, notice.remedy)

    def judged(what: str, step: Callable[[SpatialData, Source, CheckSettings], list[Finding]]) -> list[Finding]:
        try:
            return step(slide, source, settings)
        except MissingExtraError:
            raise
        except SpatiaError as error:  # damage that shows only when the data are read
            return [_refusal("slide-undamaged", what, error)]

    with ThreadPoolExecutor(2) as pool:  # the one reads counts, the other outlines and image
        table = pool.submit(judged, "cells and counts", _check_table)
        space = pool.submit(judged, "positions and image", _check_space)
        return Report(info.sample, (*findings, *table.result(), *space.result()))


def _check_table(slide: SpatialData, source: Source, settings: CheckSettings) -> list[Finding]:
    table = slide_table(slide)
    findings = [_size_finding(table.n_obs), duplicate_finding(_names(table))]
    survey = survey_counts(table.X)
    findings += count_findings(survey, source)
    findings += gene_findings(table, survey.feature_totals, source)
    pyramid = slide_pyramid(slide)
    findings += forecast_findings(table.n_obs, survey.n_values, pyramid, settings.forecast)
    return findings


def _check_space(slide: SpatialData, source: Source, settings: CheckSettings) -> list[Finding]:
    table = slide_table(slide)
    position = np.asarray(table.obsm[keys.SPATIAL], np.float64)[:, :2]
    findings = position_findings(position)
    pyramid = slide_pyramid(slide)
    if pyramid is None:
        findings.append(absence_finding(slide_info(slide)))
    if not np.isfinite(position).all() or not len(position) or (names := _names(table)).has_duplicates:
        return findings  # refused above; nothing below could be trusted
    window = np.zeros(0, np.int64) if pyramid is None else alignment_rows(pyramid, position, settings.alignment)
    surveys: list[tuple[str, OutlineSurvey]] = []
    diameter = float("nan")
    for name in (keys.NUCLEUS_OUTLINES, keys.CELL_OUTLINES):
        outlines = slide_outlines(slide, name)
        if outlines is None:
            continue
        keep = np.union1d(spread_sample(len(position), settings.n_outlines), window)
        survey = survey_outlines(outlines, names, keep)
        give_back()
        findings += outline_findings(name, survey, names, position, vendor_area(table.obs, name), pyramid)
        surveys.append((name, survey))
        diameter = survey.diameter_um  # of the cells where both are there, else of the nuclei
    del names
    labels = slide_labels(slide)
    if labels is not None:
        judged, by_label = label_findings(labels, table.obs[keys.LABEL].to_numpy(np.int64), position)
        findings += judged
        diameter = diameter if np.isfinite(diameter) else by_label
    if not surveys and labels is None:
        findings.append(no_outlines_finding())
    if pyramid is not None:
        findings += extent_findings(pyramid, position, slide_info(slide), source)
        usable = diameter if 1.0 < diameter < 40.0 else TYPICAL_DIAMETER_UM  # beyond: refused above, NaN: unknown
        if "bin_um" in slide_info(slide).details:  # bins tile the tissue: no stain lies beside them
            return [*findings, _bins_finding()]
        stain = hold_stain(pyramid, settings.alignment.grid_um)
        findings += alignment_findings(
            stain, position, rows=window, surveys=surveys, diameter_um=usable, settings=settings.alignment
        )
        # not beside the other, although that is a second faster: both hold a dozen arrays of a whole window
        findings += drift_findings(stain, position, usable, settings.alignment)
    return findings


def _names(table: ad.AnnData) -> pd.Index:
    """Return the cell ids as an index of its own, whose look-up table goes when it goes."""
    return pd.Index(table.obs_names.to_numpy())


def _bins_finding() -> Finding:
    return Finding(
        "image-alignment",
        "warning",
        "image alignment: stain under the cells",
        "bins, not cells",
        "cells",
        "Alignment cannot be judged on bins: look at the figure (--figure).",
    )


def _size_finding(n_cells: int) -> Finding:
    return Finding(
        "cells", "ok" if n_cells else "refused", "cells in the table", f"{n_cells:,}", ">= 1",
        "" if n_cells else "The table is empty: give the output of a finished run.",
    )  # fmt: skip


def _notice_finding(notice: Notice) -> Finding:
    return Finding(
        notice.code.replace("_", "-"), "warning", "noticed while reading", notice.found, notice.expected, notice.remedy
    )


def _refusal(code: str, what: str, error: SpatiaError) -> Finding:
    return Finding(
        code, "refused", what, str(error), "a complete, undamaged slide", "See the message; nothing was built."
    )
