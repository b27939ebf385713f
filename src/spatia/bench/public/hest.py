"""HEST-bench: the 50 most variable genes of a spot from its stained patch, on fixed folds of patients.

Patches are embedded by a fixed encoder, standardised and reduced to 256 principal components on training patches, and read out
by ridge regression (the penalty chosen on training patches) or by XGBoost with the settings of the publication.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.bench.methods.pca import principal_components
from spatia.bench.protocols.trial import Score
from spatia.bench.public.encoders import PatchEncoder, chosen_encoders
from spatia.bench.public.hest_predictors import PREDICTORS, Predict, Training
from spatia.bench.public.protocol import PublicFolder, PublicOptions, PublicProtocol, Recorder
from spatia.metrics.regression import pearson_per_gene
from spatia.readout.predictors import Standardiser
from spatia.tasks.cells import read_cells

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]

DOWNLOAD = (
    "the data set 'hest-bench' of the Mahmood Lab (HEST-1k, Jaume et al. 2024): one folder a task (IDC, PRAD, PAAD and so on), "
    "without its folder of encoder weights (fm_v1)."
)
LAYOUT = (
    "TASK/splits/train_K.csv and test_K.csv (sample_id, patches_path, expr_path), TASK/var_50genes.json, TASK/patches/*.h5 "
    "(img, barcode, coords), TASK/adata/*.h5ad; the table HEST_v*.csv (id, patient, dataset_title) beside them is checked too."
)
UM_PER_PX = 0.5  # patches of 224 px are 112 µm wide
COMPONENTS = 256


@dataclass(frozen=True)
class Fold:
    """Sections to train and to test on.

    Attributes
    ----------
    number
        k of ``train_k.csv``.
    train, test
        Names of sections.
    """

    number: int
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class HestTask:
    """One organ: its genes, folds, and where the files of each section are.

    Attributes
    ----------
    patches, expression
        Section -> file.
    """

    name: str
    genes: tuple[str, ...]
    folds: tuple[Fold, ...]
    patches: dict[str, Path]
    expression: dict[str, Path]
    folder: PublicFolder = field(repr=False)


def read_tasks(path: Path) -> list[HestTask]:
    """Read the folds of every task below ``path`` (or of ``path``, if it is one) and check that they are all there.

    Raises
    ------
    SettingsError
        If nothing is found, a file is missing, or a section or patient stands on both sides of a fold.
    """
    folder = PublicFolder(path, DOWNLOAD, LAYOUT)
    found = [path] if (path / "splits").is_dir() else sorted(one.parent for one in path.glob("*/splits"))
    if not found:
        raise folder.refusal(path, f"{_names(path)} in it", "a folder 'splits' in each task")
    return [_read_task(folder, one) for one in found]


def _names(path: Path) -> str:
    return ", ".join(sorted(one.name for one in path.iterdir())[:8]) or "nothing"


def _read_task(folder: PublicFolder, place: Path) -> HestTask:
    genes_file = folder.require(place / "var_50genes.json", "the names of the 50 genes")
    genes = json.loads(genes_file.read_text()).get("genes", [])
    if not genes:
        raise folder.refusal(genes_file, "no list 'genes' in it", '{"genes": [...]}')
    patient = _patients(folder, place)
    numbers = sorted(int(one.stem.split("_")[1]) for one in (place / "splits").glob("train_*.csv"))
    if not numbers:
        raise folder.refusal(place / "splits", f"{_names(place / 'splits')} in it", "train_0.csv, test_0.csv and so on")
    folds = []
    patches: dict[str, Path] = {}
    expression: dict[str, Path] = {}
    for number in numbers:
        sides: dict[str, pd.DataFrame] = {}
        for side in ("train", "test"):
            file = folder.require(place / "splits" / f"{side}_{number}.csv", "both sides of every fold")
            table = pd.read_csv(file, dtype=str)
            for name in ("sample_id", "patches_path", "expr_path"):
                folder.column(list(table.columns), (name,), file, "a column")
            for sample, image, counts in table[["sample_id", "patches_path", "expr_path"]].to_numpy(str):
                patches[str(sample)] = folder.require(place / str(image), f"the patches of {sample}")
                expression[str(sample)] = folder.require(place / str(counts), f"the counts of {sample}")
            sides[side] = table
        _check_apart(folder, place / "splits" / f"test_{number}.csv", sides, patient)
        folds.append(Fold(number, tuple(sides["train"]["sample_id"]), tuple(sides["test"]["sample_id"])))
    return HestTask(place.name, tuple(genes), tuple(folds), patches, expression, folder)


def _patients(folder: PublicFolder, place: Path) -> dict[str, str]:
    """Return the patient of each section where the table of HEST-1k stands beside the tasks; empty without it."""
    tables = [*place.glob("HEST_v*.csv"), *folder.path.glob("HEST_v*.csv")]
    if not tables:
        return {}
    table = pd.read_csv(tables[0], dtype=str)
    for name in ("id", "patient", "dataset_title"):
        folder.column(list(table.columns), (name,), tables[0], "a column")
    # a study numbers its own patients; where it names none, its sections are taken as one patient's, as HEST does
    names = table["dataset_title"].fillna("") + ": " + table["patient"].fillna("Patient 1")
    return dict(zip(table["id"], names, strict=True))


def _check_apart(folder: PublicFolder, where: Path, sides: dict[str, pd.DataFrame], patient: dict[str, str]) -> None:
    """Refuse a fold with a section, a file or a patient on both sides."""
    for what in ("sample_id", "patches_path", "expr_path"):
        if both := set(sides["train"][what]) & set(sides["test"][what]):
            raise folder.refusal(where, f"{what} {min(both)!r} is in the training part too", "folds without overlap")
    owners = {side: {patient[one] for one in table["sample_id"] if one in patient} for side, table in sides.items()}
    if both := owners["train"] & owners["test"]:
        raise folder.refusal(where, f"patient {min(both)!r} is in the training part too", "folds apart by patient")


@dataclass(frozen=True, eq=False)
class Section:
    """Spots of one section.

    Attributes
    ----------
    position_px
        (n, 2) place of each patch in pixels of its slide.
    expression
        (n, genes) log1p of the counts, as deposited; depth is not scaled, as in the publication.
    """

    position_px: NDArray[np.float64]
    expression: Floats


def read_section(task: HestTask, sample: str) -> Section:
    """Read what is known of the spots that have a patch, in the order of the patches.

    Raises
    ------
    SettingsError
        If a gene or a barcode is not in the table of counts.
    """
    file = task.expression[sample]
    with h5py.File(task.patches[sample], "r") as content:
        barcodes = _barcodes(task, sample, content)
        position = np.asarray(content["coords"][:], np.float64).reshape(len(barcodes), -1)[:, :2]
    table = read_cells(file, written_by="HEST-bench")
    if missing := [gene for gene in task.genes if gene not in table.var_names]:
        raise task.folder.refusal(
            file, f"no gene {missing[0]!r} ({len(missing)} of 50)", "the genes of var_50genes.json"
        )
    rows = pd.Index(table.obs_names.astype(str)).get_indexer(pd.Index(barcodes))
    if (rows < 0).any():
        first = barcodes[int(np.argmax(rows < 0))]
        raise task.folder.refusal(file, f"no spot {first!r} ({(rows < 0).sum():,} missing)", "a spot for every patch")
    values = table[rows, list(task.genes)].X
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return Section(position, np.log1p(dense.astype(np.float64)))


def _barcodes(task: HestTask, sample: str, content: h5py.File) -> list[str]:
    name = next((one for one in ("barcode", "barcodes") if one in content), None)
    if name is None or "img" not in content or "coords" not in content:
        raise task.folder.refusal(task.patches[sample], f"{sorted(content)} in it", "img, barcode and coords")
    values = np.asarray(content[name][:]).reshape(-1)
    return [one.decode() if isinstance(one, bytes) else str(one) for one in values]


def embed_section(task: HestTask, sample: str, encoder: PatchEncoder) -> Floats:
    """Return (n, width), a block of patches in memory at a time."""
    with h5py.File(task.patches[sample], "r") as content:
        images = content["img"]
        starts = range(0, len(images), encoder.at_once)
        return np.concatenate([encoder.encode(images[one : one + encoder.at_once], UM_PER_PX) for one in starts])


class _Spots:
    """Embeddings and targets of the sections of one task under one encoder; each made on first use."""

    def __init__(self, task: HestTask, encoder: PatchEncoder, read: dict[str, Section]) -> None:
        self._task, self._encoder, self._read = task, encoder, read
        self._made: dict[str, Floats] = {}

    def embedding(self, samples: tuple[str, ...]) -> Floats:
        for sample in samples:
            if sample not in self._made:
                self._made[sample] = embed_section(self._task, sample, self._encoder)
        return np.concatenate([self._made[sample] for sample in samples])

    def sections(self, samples: tuple[str, ...]) -> list[Section]:
        for sample in samples:
            if sample not in self._read:
                self._read[sample] = read_section(self._task, sample)
        return [self._read[sample] for sample in samples]


def score_fold(fold: Fold, spots: _Spots, predict: Predict) -> list[Score]:
    """Return the mean over genes of the correlation over all test spots."""
    train, test = spots.sections(fold.train), spots.sections(fold.test)
    x = np.concatenate([spots.embedding(fold.train), spots.embedding(fold.test)])
    y = np.concatenate([one.expression for one in train])
    n = len(y)
    standard = Standardiser.of(x[:n]).apply(x)
    z = principal_components(standard, np.arange(n), seed=fold.number, components=COMPONENTS)
    position = np.concatenate([one.position_px for one in train])
    names = np.repeat(np.asarray(fold.train), [len(one.expression) for one in train])
    predicted = predict(Training(z[:n], y, position, names), z[n:])
    truth = np.concatenate([one.expression for one in test])
    return [Score("Pearson", pearson_per_gene(truth, predicted).mean, len(truth), n)]


def run(folder: Path, out: Path, options: PublicOptions) -> pd.DataFrame:
    """Run every task, encoder, predictor and fold that has no row yet; the seed of a row is the number of its fold.

    Raises
    ------
    SettingsError
        If the folder is not the benchmark's, or an encoder is unknown.
    """
    tasks, encoders = read_tasks(folder), chosen_encoders(options)
    recorder = Recorder(out, options.command)
    for task in tasks:
        read: dict[str, Section] = {}
        for encoder in encoders:
            spots = _Spots(task, encoder, read)
            for fold in task.folds:
                for name, predict in PREDICTORS.items():
                    recorder.measure(
                        "HEST-bench", f"HEST {task.name}", f"{encoder.name}, {name}", fold.number,
                        partial(score_fold, fold, spots, predict),
                    )  # fmt: skip
    return recorder.frame()


HEST = PublicProtocol(
    "hest",
    "the 50 most variable genes of a spot from its stained patch, patients held out",
    DOWNLOAD,
    LAYOUT,
    "Jaume et al., HEST-1k (NeurIPS 2024); layout and settings as in the public repository mahmoodlab/HEST, src/hest/bench",
    run=run,
)
