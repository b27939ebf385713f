"""Say what is in a corpus, for people and for programs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spatia.corpus.corpus import Corpus, Section


@dataclass(frozen=True)
class SectionSummary:
    """One section in numbers; sizes are bytes on disk."""

    sample: str
    platform: str | None
    donor: str | None
    tissue: str | None
    n_cells: int
    n_niches: int
    n_tissues: int
    n_genes: int
    median_counts: float
    channels: tuple[str, ...]
    image: str
    bytes_on_disk: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class CorpusSummary:
    """A corpus in numbers."""

    path: str
    corpus_id: str
    levels: dict[str, dict[str, float]]
    niches: dict[str, Any]
    n_genes: int
    n_cells: int
    splits: tuple[str, ...]
    sections: tuple[SectionSummary, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        return asdict(self)


def inspect(path: Path) -> CorpusSummary:
    """Summarise a corpus from its metadata (no array is read).

    Raises
    ------
    CorpusError
        If it cannot be opened.
    """
    corpus = Corpus.open(path)
    return CorpusSummary(
        path=str(path),
        corpus_id=corpus.corpus_id,
        levels={name: {"size_um": level.size_um, "px": level.px} for name, level in corpus.levels.items()},
        niches=corpus.entry.niches,
        n_genes=corpus.entry.n_genes,
        n_cells=corpus.n_cells,
        splits=tuple(corpus.split_names()),
        sections=tuple(_summary(section) for section in corpus.sections.values()),
    )


def _summary(section: Section) -> SectionSummary:
    entry, details = section.entry, section.details
    image = details["image"]
    return SectionSummary(
        sample=section.sample,
        platform=entry.platform,
        donor=entry.donor,
        tissue=entry.tissue,
        n_cells=entry.n_cells,
        n_niches=entry.n_niches,
        n_tissues=entry.n_tissues,
        n_genes=entry.n_genes,
        median_counts=details["median_counts"],
        channels=entry.channels,
        image=f"{image['um_per_px']:.4g} µm/px" if image else f"none: {details['image_absence']}",
        bytes_on_disk=sum(record.bytes for record in section.manifest.values()),
        warnings=tuple(f"{finding['code']}: {finding['found']}" for finding in details["findings"]),
    )
