"""What says that a corpus is whole: digests of every file of a section, and the list of sections in ``corpus.json``."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import zarr

from spatia import keys
from spatia.corpus.corpus import (
    CORPUS_FILE,
    FORMAT,
    FORMAT_VERSION,
    GENES_COLUMNS,
    GENES_FILE,
    MANIFEST_FILE,
    SECTION_FILE,
    read_json,
)
from spatia.corpus.files import files_below, sha256, whole_file, write_json
from spatia.corpus.scheduling import Scheduler
from spatia.corpus.settings import BuildSettings
from spatia.errors import CorpusError
from spatia.log import logger
from spatia.version import __version__

VERSIONS_OF = ("anndata", "dask", "imagecodecs", "numpy", "scipy", "spatialdata", "tifffile", "zarr")
LEAST_OF_TWO_NAMES = 0.05  # of all symbols; a few of the human genome's are of two genes


def library_versions() -> dict[str, str]:
    """Return the versions of what decides the bytes of a corpus."""
    return {"spatia": __version__, **{name: version(name) for name in VERSIONS_OF}}


def write_manifest(section: Path, scheduler: Scheduler) -> None:
    """Hash every file of a finished section into its ``manifest.json``."""
    files = [path for path in files_below(section) if path.name != MANIFEST_FILE]
    digests = scheduler.run(f"{section.parent.name}: digests", [(sha256, (path,)) for path in files], "files")
    write_json(
        section / MANIFEST_FILE,
        {
            "algorithm": "sha256",
            "files": {
                path.relative_to(section).as_posix(): {"bytes": path.stat().st_size, "sha256": digest}
                for path, digest in zip(files, digests, strict=True)
            },
        },
    )


def register_sections(corpus: Path, settings: BuildSettings) -> None:
    """Write ``genes.parquet`` and ``corpus.json`` from the sections that stand in the folder.

    Sections and genes keep their place; new ones follow, so that row numbers of the vocabulary stay valid.
    """
    known = list(_standing(corpus).get("sections", ()))
    there = sorted(path.parent.name for path in (corpus / "sections").glob(f"[!.]*/{SECTION_FILE}"))
    samples = [name for name in known if name in there] + [name for name in there if name not in known]
    facts = {name: read_json(corpus / "sections" / name / SECTION_FILE) for name in samples}
    genes = _vocabulary(corpus, facts)
    with whole_file(corpus / GENES_FILE) as aside:
        genes.to_parquet(aside, index=False)
    channels = list(dict.fromkeys(channel for one in facts.values() for channel in one["channels"]))
    write_json(
        corpus / CORPUS_FILE,
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "spatia_version": __version__,
            **corpus_settings(settings),
            "channels": channels,
            "n_genes": len(genes),
            "genes_sha256": sha256(corpus / GENES_FILE),
            "sections": {name: _entry(corpus, name, one) for name, one in facts.items()},
        },
    )


def corpus_settings(settings: BuildSettings) -> dict[str, Any]:
    """Return the settings that all sections of a corpus share, as they stand in ``corpus.json``."""
    return {
        "levels": {level: getattr(settings, level).model_dump() for level in keys.LEVELS},
        "niches": settings.niches.model_dump(),
    }


def require_same_settings(corpus: Path, settings: BuildSettings) -> None:
    """Refuse to add a section to a corpus of other levels or niches.

    Raises
    ------
    CorpusError
        Naming the settings found and those asked for.
    """
    content = _standing(corpus)
    for name, wanted in corpus_settings(settings).items():
        if content and content.get(name) != wanted:
            raise CorpusError(
                f"{corpus}: was built with {name} = {content.get(name)}, asked for {wanted}. All sections of a corpus share "
                "them. Build into another folder, or give the corpus's own settings."
            )


def _standing(corpus: Path) -> dict[str, Any]:
    """Return ``corpus.json``; nothing where there is none, or a damaged one, which is written anew from the sections."""
    if not (corpus / CORPUS_FILE).exists():
        return {}
    try:
        return read_json(corpus / CORPUS_FILE)
    except CorpusError as error:
        logger.warning("%s It is written anew from the sections.", error)
        return {}


def _entry(corpus: Path, sample: str, facts: dict[str, Any]) -> dict[str, Any]:
    names = (
        "n_cells",
        "n_niches",
        "n_tissues",
        "n_genes",
        "channels",
        "donor",
        "tissue",
        "disease",
        "organism",
        "platform",
    )
    digest = sha256(corpus / "sections" / sample / MANIFEST_FILE)
    return {**{name: facts[name] for name in names}, "manifest_sha256": digest}


def _vocabulary(corpus: Path, facts: dict[str, dict[str, Any]]) -> pd.DataFrame:
    parts = _standing_genes(corpus / GENES_FILE)
    for sample, one in facts.items():
        var = ad.io.read_elem(zarr.open_group(corpus / "sections" / sample / keys.STORES["cell"], mode="r")["var"])
        parts.append(
            pd.DataFrame(
                {"gene_id": var.index.astype(str), "symbol": var[keys.SYMBOL].astype(str), "organism": one["organism"]}
            )
        )
    genes = pd.concat([part[list(GENES_COLUMNS)].astype(object) for part in parts], ignore_index=True)
    return genes.drop_duplicates("gene_id", ignore_index=True).astype("string")


def _standing_genes(path: Path) -> list[pd.DataFrame]:
    if not path.exists():
        return []
    try:
        return [pd.read_parquet(path, columns=list(GENES_COLUMNS))]
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        logger.warning("%s: cannot be read (%s). It is written anew from the sections.", path, error)
        return []


def genes_of_two_names(corpus: Path) -> str:
    """Return a warning where many genes go by two ids, as those of a section named by symbol beside one named by Ensembl id; else "".

    Panels are joined by id, so such sections share none of these genes.
    """
    genes = pd.read_parquet(corpus / GENES_FILE).dropna(subset="symbol").astype(str)
    genes = genes[genes["symbol"].str.len() > 0]
    twice = genes[genes.duplicated("symbol", keep=False)]
    n, symbols = twice["symbol"].nunique(), genes["symbol"].nunique()
    if n == 0 or n < LEAST_OF_TWO_NAMES * symbols:
        return ""
    first = twice["symbol"].iloc[0]
    ids = " and ".join(twice.loc[twice["symbol"] == first, "gene_id"])
    return (
        f"{n:,} of {symbols:,} genes go by two ids, the first {first} by {ids}: sections are joined by id, so those that name them differently "
        "do not share them. Give all sections the same ids (a table of counts has them in var_names or in a column gene_id of var)."
    )
