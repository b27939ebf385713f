"""Check a corpus against its own manifest: every file, every number of rows, every split."""

from dataclasses import dataclass
from pathlib import Path

from spatia import keys
from spatia.corpus.corpus import CORPUS_FILE, GENES_FILE, MANIFEST_FILE, Corpus, Section
from spatia.corpus.files import files_below, sha256
from spatia.corpus.scheduling import Scheduler
from spatia.corpus.splits import prove
from spatia.errors import CorpusError

_REMEDY = "Restore the file, or remove the section's folder and run `spatia build` with its slide again."


@dataclass(frozen=True)
class Verified:
    """What was checked and found right."""

    n_sections: int
    n_cells: int
    n_files: int
    n_bytes: int
    splits: tuple[str, ...]


def verify(path: Path) -> Verified:
    """Re-check digests, numbers of rows and splits of a corpus.

    Raises
    ------
    CorpusError
        Naming the first bad file, section or split.
    """
    corpus = Corpus.open(path)
    if not (path / GENES_FILE).is_file() or sha256(path / GENES_FILE) != corpus.entry.genes_sha256:
        raise CorpusError(
            f"{path / GENES_FILE}: missing, or its digest is not the one in {CORPUS_FILE}. Remove it and run `spatia build` with any of the slides "
            "again: it is written anew from the sections."
        )
    unlisted = [
        one.name
        for one in sorted((path / "sections").iterdir())
        if not one.name.startswith(".") and one.name not in corpus.sections
    ]
    if unlisted:
        raise CorpusError(f"{path / 'sections' / unlisted[0]}: not listed in {CORPUS_FILE}. Run `spatia build` again.")
    n_files = n_bytes = 0
    for section in corpus.sections.values():
        files, size = _verify_files(section)
        _verify_rows(section)
        n_files, n_bytes = n_files + files, n_bytes + size
    for name in corpus.split_names():
        prove(corpus, corpus.split(name))
    return Verified(len(corpus.sections), corpus.n_cells, n_files, n_bytes, tuple(corpus.split_names()))


def _verify_files(section: Section) -> tuple[int, int]:
    manifest = section.path / MANIFEST_FILE
    if not manifest.is_file() or sha256(manifest) != section.entry.manifest_sha256:
        raise CorpusError(f"{manifest}: missing, or its digest is not the one in {CORPUS_FILE}. {_REMEDY}")
    section.check_files()
    records = section.manifest
    digests = Scheduler().run(
        f"{section.sample}: verifying", [(sha256, (section.path / name,)) for name in records], "files"
    )
    for (name, record), digest in zip(records.items(), digests, strict=True):
        if digest != record.sha256:
            raise CorpusError(f"{section.path / name}: its digest is not the one in {MANIFEST_FILE}. {_REMEDY}")
    there = {path.relative_to(section.path).as_posix() for path in files_below(section.path)} - {MANIFEST_FILE}
    stray = sorted(there - set(records))
    if stray:
        raise CorpusError(f"{section.path / stray[0]}: not in {MANIFEST_FILE}. Remove it, or build the section again.")
    return len(records), sum(record.bytes for record in records.values())


def _verify_rows(section: Section) -> None:
    for level, name in keys.STORES.items():
        table, expected = section.table(level), section.n_rows(level)
        for key in (
            "X",
            f"obsm/{keys.SPATIAL}",
            f"obsm/{keys.CELL_IMAGES}",
            f"obsm/{keys.CELL_MASKS}",
            f"obsm/{keys.IMAGES}",
        ):
            if table.has(key) and table.n_rows(key) != expected:
                raise CorpusError(
                    f"{section.path / name / key}: {table.n_rows(key):,} rows, expected {expected:,} as in {CORPUS_FILE}. {_REMEDY}"
                )
