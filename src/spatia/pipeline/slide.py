"""The first steps: check the slides, build the corpus, hold cells out, draw the crops."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.build import build
from spatia.corpus.corpus import Corpus, Section
from spatia.corpus.manifest import register_sections, require_same_settings
from spatia.corpus.splits import SplitSettings, make_split
from spatia.errors import CorpusError, SettingsError, SlideError
from spatia.io.check import CheckSettings, check_slide
from spatia.io.check_forecast import Forecast
from spatia.io.findings import Finding, Report
from spatia.io.read import read_slide
from spatia.io.source import PATH_FACTS, PATHS, Source
from spatia.pipeline.steps import Job, Skipped, files_seen
from spatia.plotting.crop_sheet import plot_crop_sheet
from spatia.plotting.slide_qc import plot_slide_qc
from spatia.report.contents import CHECK_FILE, write_result
from spatia.report.schema import CheckFinding, LeftOut, SectionCheck, SectionFacts, SlideResult, SplitFacts

SPLIT = "held-out"
BLOCKS = 24  # a section is cut into about so many blocks, unless they would be larger than a window
LEAST_TRAIN = 0.5  # of the cells: the margin is made smaller until so many are left to learn from


def slide_inputs(job: Job) -> Any:
    """Return what the slides are, for the digest: what was said of each, and its files' sizes and times."""
    return [(_said(one), files_seen([getattr(one, name) for name in PATHS])) for one in job.sources]


def _said(source: Source) -> dict[str, Any]:
    """Return what was said of a slide, with whole paths."""
    plain = source.to_json()
    plain["facts"] = {k: str(Path(v).resolve()) if k in PATH_FACTS else v for k, v in source.facts.items()}
    return plain | {name: str(path.resolve()) for name in PATHS if (path := getattr(source, name)) is not None}


def check(job: Job) -> str:
    """Judge every slide; refuse in one sentence where none is left."""
    for old in job.out.glob("qc*.png"):
        old.unlink()
    forecast = CheckSettings(forecast=Forecast(output=job.out))
    reports = [check_slide(source, settings=forecast) for source in job.sources]
    reports = [report.forced() if job.settings.force else report for report in reports]
    write_result(job.out / CHECK_FILE, tuple(_plain(report) for report in reports))
    for source, report in zip(job.sources, reports, strict=True):
        _draw_qc(job, source, report)
    refused = [(source, report) for source, report in zip(job.sources, reports, strict=True) if report.refused]
    for source, report in refused:
        job.leave_out(source.sample, "refused")
        job.warn(f"{source.sample} is left out: {_sentence(report.of_severity('refused')[0])}")
    if len(refused) == len(job.sources):
        source, report = refused[0]
        more = len(report.of_severity("refused")) - 1
        others = f" ({more} more: see {job.out / CHECK_FILE})" if more else ""
        raise SlideError(f"{source.where}: {_sentence(report.of_severity('refused')[0])}{others}")
    warned = sum(len(report.of_severity("warning")) for report in reports)
    return f"{len(reports) - len(refused)} of {len(reports)} sections fit to use, {warned} warnings"


def _sentence(finding: Finding) -> str:
    if finding.code == "slide-readable":  # its own message says all
        return finding.found
    return f"{finding.what}: found {finding.found}, expected {finding.expected}. {finding.remedy}".strip()


def _plain(report: Report) -> SectionCheck:
    findings = tuple(CheckFinding(**finding) for finding in report.to_json()["findings"])
    return SectionCheck(sample=report.sample, refused=report.refused, findings=findings)


def _draw_qc(job: Job, source: Source, report: Report) -> None:
    readable = report.find("slide-readable")
    if readable is None or readable.severity != "ok":
        return
    name = "qc.png" if len(job.sources) == 1 else f"qc-{source.sample}.png"
    plot_slide_qc(read_slide(source), report, job.out / name)


def build_corpus(job: Job) -> str:
    """Build the corpus; sections that stand are kept, those of other slides and those that are left out are removed."""
    _remove_what_does_not_belong(job)
    result = build(job.sources, job.corpus, job.settings.build, force=job.settings.force)
    if result.warning:
        job.warn(result.warning)
    left_out: dict[str, LeftOut] = {}
    for section in result.sections:
        if section.status in ("refused", "failed"):
            left_out[section.sample] = "failed" if section.status == "failed" else "refused"
            job.leave_out(section.sample, left_out[section.sample])
            job.warn(f"{section.sample} is left out: {section.status}: {section.message}")
    built = [section for section in result.sections if section.sample not in left_out]
    if not built:
        first = result.sections[0]
        kind = CorpusError if first.status == "failed" else SlideError
        raise kind(f"{first.sample}: {first.message}")
    if _remove_sections(job, lambda name: name in left_out):  # of an earlier run
        register_sections(job.corpus, job.settings.build)
    return f"{len(built)} sections, {sum(section.n_cells for section in built):,} cells"


def _remove_what_does_not_belong(job: Job) -> None:
    try:
        require_same_settings(job.corpus, job.settings.build)
    except CorpusError:
        shutil.rmtree(job.corpus)  # of other levels or niches: none of it can be kept
    samples = {source.sample for source in job.sources}
    _remove_sections(job, lambda name: name.removeprefix(".").removesuffix(".building") not in samples)


def _remove_sections(job: Job, unwanted: Callable[[str], bool]) -> bool:
    """Remove folders of sections, and the splits that were made with them; say whether there were any."""
    folders = [folder for folder in (job.corpus / "sections").glob("*") if unwanted(folder.name)]
    for folder in folders:
        shutil.rmtree(folder)
    if folders:
        shutil.rmtree(job.corpus / "splits", ignore_errors=True)
    return bool(folders)


def hold_out(job: Job) -> str:
    """Hold out blocks of tissue, as far from the training cells as the slide's size allows."""
    corpus = Corpus.open(job.corpus)
    chosen = _split_settings(corpus)
    made = _make_split(corpus, chosen, job.settings.seed)
    sections = tuple(_section_facts(section) for section in corpus.sections.values())
    write_result(job.results / "slide.json", SlideResult(sections=sections, split=made))
    if made is None:
        shutil.rmtree(job.corpus / "splits", ignore_errors=True)
        raise Skipped(
            f"With {corpus.n_cells:,} cells the slide is too small to hold blocks of tissue out, so nothing can be evaluated."
        )
    window = corpus.levels["tissue"].size_um
    margin = made.margin_um
    if margin < window:
        job.warn(
            f"The slide is small, so held-out blocks are {margin:g} µm from the training cells and not one tissue window "
            f"({window:g} µm): no crop is shared, but the surroundings of some held-out cells were seen in training."
        )
    return made.rule


@dataclass(frozen=True)
class _Blocks:
    block_um: float
    margins_um: tuple[float, ...]


def _split_settings(corpus: Corpus) -> _Blocks:
    window, crop = corpus.levels["tissue"].size_um, corpus.levels["cell"].size_um
    areas = [np.prod(_extent_um(section)) for section in corpus.sections.values()]
    block = float(np.clip(np.sqrt(max(areas) / BLOCKS), 1.5 * crop, window))
    margins = [window / 2**k for k in range(4) if window / 2**k > crop]
    return _Blocks(round(block, 1), (*margins, crop))


def _make_split(corpus: Corpus, blocks: _Blocks, seed: int) -> SplitFacts | None:
    for margin in blocks.margins_um:
        block = max(blocks.block_um, margin) if margin > 2 * blocks.margins_um[-1] else blocks.block_um
        settings = SplitSettings(block_um=block, margin_um=margin)
        try:
            make_split(corpus, "block", name=SPLIT, seed=seed, settings=settings, replace=True)
        except SettingsError:
            continue  # a part without cells: try nearer
        split = corpus.split(SPLIT)
        n_cells = {part: _n_rows(split.parts[part]) for part in ("train", "validation", "test", "margin")}
        if n_cells["train"] >= LEAST_TRAIN * corpus.n_cells or margin == blocks.margins_um[-1]:
            rule = f"Blocks of tissue of {block:g} µm; cells of different parts are at least {margin:g} µm apart."
            return SplitFacts(rule=rule, margin_um=margin, n_cells=n_cells)
    return None


def _n_rows(ranges: Any) -> int:
    return sum(stop - start for of_sample in ranges.values() for start, stop in of_sample)


def _extent_um(section: Section) -> NDArray[np.float64]:
    position = section.cells.read(f"obsm/{keys.SPATIAL}", 0, section.entry.n_cells)
    return np.ptp(np.asarray(position, np.float64), axis=0)


def _section_facts(section: Section) -> SectionFacts:
    entry, details = section.entry, section.details
    extent = _extent_um(section)
    image = details.get("image") or {}
    return SectionFacts(
        sample=section.sample,
        platform=entry.platform or "unknown",
        n_cells=entry.n_cells,
        n_niches=entry.n_niches,
        n_windows=entry.n_tissues,
        n_genes=entry.n_genes,
        channels=entry.channels,
        median_counts=float(details["median_counts"]),
        extent_um=(float(extent[0]), float(extent[1])),
        um_per_px=_um_per_px(image.get("um_per_px")),
        image_absence=details.get("image_absence"),
        donor=entry.donor,
        tissue=entry.tissue,
        organism=entry.organism,
        disease=entry.disease,
        warnings=tuple(str(finding.get("found", "")) for finding in details.get("findings", ())),
    )


def _um_per_px(stored: Any) -> float | None:
    return float(np.mean(stored)) if stored is not None else None


def draw(job: Job) -> str:
    """Draw a sheet of crops of every section with an image."""
    corpus = Corpus.open(job.corpus)
    drawn = []
    job.figures.mkdir(parents=True, exist_ok=True)
    for old in job.figures.glob("crops*.png"):
        old.unlink()
    for sample, section in corpus.sections.items():
        if section.cells.has(f"obsm/{keys.CELL_IMAGES}"):
            name = "crops.png" if len(corpus.sections) == 1 else f"crops-{sample}.png"
            drawn.append(plot_crop_sheet(job.corpus, sample, job.figures / name))
    if not drawn:
        raise Skipped(_no_image(corpus))
    return f"{len(drawn)} sheets of crops"


def _no_image(corpus: Corpus) -> str:
    first = next(iter(corpus.sections.values()))
    return f"The slide has no image ({first.details.get('image_absence') or 'none was given'})."


def has_image(corpus: Path) -> bool:
    """Say whether any section of a corpus has an image."""
    sections = Corpus.open(corpus).sections.values()
    return any(section.cells.has(f"obsm/{keys.CELL_IMAGES}") for section in sections)


def require_image(corpus: Path) -> None:
    """Skip the step where no section has an image, with the reason."""
    if not has_image(corpus):
        raise Skipped(_no_image(Corpus.open(corpus)))
