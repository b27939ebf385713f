"""SPATCH, hepatocellular carcinoma: two platforms on neighbouring sections, as corpora with types for ``spatia bench``."""

from pathlib import Path

import numpy as np
import pandas as pd

from spatia import keys
from spatia.bench.dataset import DataSet, write_dataset
from spatia.bench.public.protocol import PublicFolder, PublicProtocol
from spatia.corpus.build import build
from spatia.corpus.settings import BuildSettings, NicheSettings
from spatia.errors import CorpusError
from spatia.io.source import Source
from spatia.tasks.cells import read_cells

DOWNLOAD = (
    "the SPATCH resource (Ren et al. 2025, 'Systematic benchmarking of high-throughput subcellular spatial transcriptomics "
    "platforms across human tumors'), hepatocellular carcinoma: the annotated cells of Xenium 5K and of CosMx 6K as h5ad."
)
LAYOUT = (
    "*xenium*.h5ad and *cosmx*.h5ad (one of them will do; Xenium_10K.h5ad, for instance) with raw counts, obs 'annotation' (or "
    "cell_type, celltype, major) and obsm 'spatial' in µm."
)
PLATFORMS = {"xenium": "SPATCH HCC Xenium 5K", "cosmx": "SPATCH HCC CosMx 6K"}
TYPE_COLUMNS = ("annotation", "cell_type", "celltype", "major")
BLOCK_UM = 435.2  # one tissue window
UNKNOWN = ("", "nan", "none", "unknown", "unassigned")


def prepare(folder: Path, work: Path) -> list[Path]:
    """Build a corpus for each platform in ``work`` (once), and write the JSON files that ``spatia bench`` takes.

    Parameters
    ----------
    folder
        Holds one h5ad file a platform.
    work
        Gets corpora, labels and JSON files.

    Raises
    ------
    SettingsError
        If no file is found, or types or positions are missing.
    CorpusError
        If the doctor refuses the cells; its reason is in the message.
    """
    place = PublicFolder(folder, DOWNLOAD, LAYOUT)
    files = {name: _find(place, name) for name in PLATFORMS}
    if not any(files.values()):
        names = ", ".join(sorted(one.name for one in folder.iterdir())[:8]) or "nothing"
        raise place.refusal(folder, f"{names} in it", "an h5ad file of either platform")
    return [_prepare(place, name, file, work) for name, file in files.items() if file is not None]


def _find(place: PublicFolder, platform: str) -> Path | None:
    files = [one for one in sorted(place.path.rglob("*.h5ad")) if platform in one.name.lower()]
    if len(files) > 1:
        raise place.refusal(place.path, f"{', '.join(one.name for one in files)}", f"one h5ad file of {platform}")
    return files[0] if files else None


def _prepare(place: PublicFolder, platform: str, file: Path, work: Path) -> Path:
    table = read_cells(file, written_by="the authors of SPATCH")
    column = place.column(list(table.obs.columns), TYPE_COLUMNS, file, "a column of types")
    if keys.SPATIAL not in table.obsm:
        raise place.refusal(file, f"obsm {sorted(table.obsm) or 'empty'}", "obsm 'spatial', (x, y) in µm")
    kinds = table.obs[column].astype(str)
    kinds = kinds.where(~kinds.str.strip().str.lower().isin(UNKNOWN), other=np.nan)
    labels = work / f"spatch_{platform}_labels.parquet"
    labels.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"cell_id": table.obs_names.astype(str), "cell_type": kinds.to_numpy(object)}).to_parquet(labels)
    del table
    corpus = work / f"spatch_{platform}"
    source = Source(
        f"hcc_{platform}", counts=file, tissue="liver", disease="hepatocellular carcinoma", organism="human"
    )
    built = build([source], corpus, BuildSettings(niches=NicheSettings(definition="knn")))  # as `spatia run` does
    if built.exit_code:
        raise CorpusError(f"{file}: {'; '.join(one.message for one in built.sections if one.message)}")
    # one section of one patient a platform, so blocks of tissue are held out: this says nothing of another patient
    data = DataSet(name=PLATFORMS[platform], corpus=corpus, labels=labels, cell_type="cell_type", block_um=BLOCK_UM)
    return write_dataset(data, work / f"spatch_{platform}.json")


SPATCH = PublicProtocol(
    "spatch",
    "types of cells of hepatocellular carcinoma, by clustering and by labels, on two platforms",
    DOWNLOAD,
    LAYOUT,
    "Ren et al., Nature Communications 16 (2025) 9232; names of the files and of the column as in public code that uses them",
    prepare=prepare,
)
