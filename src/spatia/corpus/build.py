"""Build a corpus from slides: check each, build its section, register it. One bad section does not stop the others."""

import json
import os
import platform as machine
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spatia.corpus.build_section import build_section
from spatia.corpus.corpus import GENES_FILE, MANIFEST_FILE, SECTION_FILE, check_files, read_json, read_manifest
from spatia.corpus.files import input_digest, write_json
from spatia.corpus.lock import only_writer_of
from spatia.corpus.manifest import (
    genes_of_two_names,
    library_versions,
    register_sections,
    require_same_settings,
    write_manifest,
)
from spatia.corpus.scheduling import Scheduler
from spatia.corpus.section_folder import building_folder, put_section_in_place, remove_leftovers
from spatia.corpus.settings import BuildSettings
from spatia.errors import CorpusError, SettingsError, SlideError, SpatiaError
from spatia.io.border import SlideInfo, slide_info
from spatia.io.check import CheckSettings, check_open_slide
from spatia.io.check_forecast import Forecast
from spatia.io.findings import Report
from spatia.io.memory import give_back, large_blocks_returned, lean_memory
from spatia.io.read import read_slide
from spatia.io.source import PATH_FACTS, Source
from spatia.log import logger


@dataclass(frozen=True)
class SectionResult:
    """What became of one section.

    Attributes
    ----------
    status
        "built", "unchanged" (it stood there already, of the same input and settings), "refused" (the slide, with the
        reason) or "failed" (an error of ours, with its traceback in the log).
    message
        Reason of a refusal or failure.
    warnings
        Findings of the doctor that were recorded.
    """

    sample: str
    status: str
    message: str = ""
    n_cells: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildResult:
    """What became of every section, in the order given, and what should be known of all together."""

    corpus: Path
    sections: tuple[SectionResult, ...]
    warning: str = ""

    @property
    def exit_code(self) -> int:
        """0: every section stands; 2: at least one slide was refused; 1: at least one failed."""
        statuses = {section.status for section in self.sections}
        return 1 if "failed" in statuses else 2 if "refused" in statuses else 0


def build(
    sources: Sequence[Source],
    out: Path,
    settings: BuildSettings | None = None,
    *,
    scheduler: str | None = None,
    n_workers: int | None = None,
    force: bool = False,
) -> BuildResult:
    """Build, or continue building, a corpus.

    Parameters
    ----------
    sources
        One tissue section each.
    out
        Corpus folder; sections are added to what stands there.
    scheduler
        Address of a dask.distributed scheduler; None: threads of this process.
    n_workers
        Number of local threads; None: one a core.
    force
        Record refusals that are safe to record as warnings, instead of refusing.

    Returns
    -------
    BuildResult
        A refused slide is a result, not an exception.

    Raises
    ------
    SettingsError
        If two sections have the same name, or another process builds into the folder.
    CorpusError
        If the folder holds a corpus of other levels or niches.
    """
    settings = settings or BuildSettings()
    names = [source.sample for source in sources]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"Two sections are named {twice!r}. Name them in a samplesheet (column 'sample').")
    require_same_settings(out, settings)
    (out / "sections").mkdir(parents=True, exist_ok=True)
    run = Scheduler(scheduler, n_workers)
    results = []
    with only_writer_of(out, "build"), lean_memory(n_workers or os.cpu_count() or 1):
        for source in sources:
            result = _build_one(source, out, settings, run, force)
            if result.status == "built":
                register_sections(out, settings)
            results.append(result)
    return BuildResult(out, tuple(results), genes_of_two_names(out) if (out / GENES_FILE).exists() else "")


def _build_one(source: Source, out: Path, settings: BuildSettings, scheduler: Scheduler, force: bool) -> SectionResult:
    try:
        return _build_checked(source, out, settings, scheduler, force)
    except SpatiaError as error:
        logger.error("%s: refused: %s", source.sample, error)
        return SectionResult(source.sample, "refused", str(error))
    except (
        Exception
    ) as error:  # one section's failure must not lose the others; it is reported, and the exit code says so
        logger.error("%s: failed\n%s", source.sample, traceback.format_exc())
        return SectionResult(source.sample, "failed", f"{type(error).__name__}: {error}")


def _build_checked(
    source: Source, out: Path, settings: BuildSettings, scheduler: Scheduler, force: bool
) -> SectionResult:
    with large_blocks_returned():
        slide = read_slide(source)
    give_back()
    info = slide_info(slide)
    place = out / "sections" / source.sample
    folder = building_folder(place)
    fingerprint = _fingerprint(source, info, settings)
    if _stands(place, fingerprint):
        remove_leftovers(place)
        register_sections(out, settings)  # a kill may have come between placing the section and listing it
        return SectionResult(source.sample, "unchanged", n_cells=read_json(place / SECTION_FILE)["n_cells"])
    with large_blocks_returned():
        report = check_open_slide(slide, source, settings=CheckSettings(forecast=Forecast(output=out)))
    report = report.forced() if force else report
    _refuse(source, report)
    give_back()
    facts = build_section(slide, source, settings, folder, fingerprint, scheduler)
    write_json(folder / "section" / SECTION_FILE, _section_json(source, info, report, fingerprint, facts))
    write_manifest(folder / "section", scheduler)
    put_section_in_place(place)
    warnings = tuple(f"{finding.code}: {finding.what}: {finding.found}" for finding in report.of_severity("warning"))
    return SectionResult(source.sample, "built", n_cells=facts["n_cells"], warnings=warnings)


def _refuse(source: Source, report: Report) -> None:
    refusals = report.of_severity("refused")
    if refusals:
        first = refusals[0]
        more = f" (and {len(refusals) - 1} more: `spatia check` lists them)" if len(refusals) > 1 else ""
        raise SlideError(
            f"{source.where}: {first.what}: found {first.found}, expected {first.expected}. {first.remedy}{more}"
        )


def _fingerprint(source: Source, info: SlideInfo, settings: BuildSettings) -> dict[str, Any]:
    """Say what decides the bytes of a section: digests of its input files, what the user said of it, settings, versions."""
    plain = source.to_json()
    plain.update({name: Path(value).name for name, value in plain.items() if isinstance(getattr(source, name), Path)})
    plain["facts"] |= {name: Path(source.facts[name]).name for name in PATH_FACTS if name in source.facts}
    fingerprint = {
        "source": plain,
        "input": {name: input_digest(path) for name, path in sorted(_input_files(source, info).items())},
        "settings": settings.model_dump(),
        "versions": library_versions(),
        "machine": [machine.machine(), machine.python_version()],
    }
    return dict(json.loads(json.dumps(fingerprint, default=str)))  # as it will be read back: lists, not tuples


def _input_files(source: Source, info: SlideInfo) -> dict[str, Path]:
    root = source.path if source.path is not None else Path()
    files: dict[str, Path] = {}
    for name in info.files:
        path = root / name
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        files.update({str(Path(name) / one.relative_to(path)): one for one in inside if one.is_file()})
    return files


def _stands(place: Path, fingerprint: dict[str, Any]) -> bool:
    """Say whether a section is there, of the same input and settings, with each of its files in its size."""
    if not (place / SECTION_FILE).exists() or not (place / MANIFEST_FILE).exists():
        return False
    try:
        facts = read_json(place / SECTION_FILE)
        check_files(place, read_manifest(place))
    except CorpusError as error:
        logger.warning("%s: is built anew, as it is damaged: %s", place.name, error)
        return False
    return all(facts.get(name) == value for name, value in fingerprint.items())


def _section_json(
    source: Source, info: SlideInfo, report: Report, fingerprint: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Any]:
    organism = source.organism or info.details.get("organism")
    return {
        "sample": source.sample,
        "platform": info.platform,
        **{name: getattr(source, name) for name in ("donor", "tissue", "disease", "measure")},
        "organism": organism,
        **facts,
        "panel": {"n_genes": facts["n_genes"]},
        "findings": [finding for finding in report.to_json()["findings"] if finding["severity"] != "ok"],
        "details": dict(info.details),
        **fingerprint,
    }
