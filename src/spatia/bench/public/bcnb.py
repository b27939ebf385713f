"""BCNB: receptor and lymph-node status of a patient from stained patches of a core-needle biopsy.

The embeddings of a patient's patches are averaged, and logistic regression on training patients tells the label of test
patients. Patients, never patches, are on one side of the split: the lists that come with the data.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from spatia.bench.protocols.trial import Score
from spatia.bench.public.encoders import PatchEncoder, chosen_encoders
from spatia.bench.public.protocol import PublicFolder, PublicOptions, PublicProtocol, Recorder
from spatia.errors import SettingsError
from spatia.metrics.classification import balanced_accuracy
from spatia.readout.predictors import fit_logistic

Floats = NDArray[np.floating]

DOWNLOAD = (
    "the BCNB data set (Early Breast Cancer Core-Needle Biopsy WSI, Xu et al. 2021; 1,058 patients, non-commercial licence, after "
    "registration): patient-clinical-data.xlsx, the folder dataset-splitting, and the patches paper_patches.zip, unpacked."
)
LAYOUT = (
    "patient-clinical-data.xlsx or .csv (Patient ID, ER, PR, HER2, ALN status), dataset-splitting/train_id.txt, val_id.txt and "
    "test_id.txt (one id a line), and paper_patches/patches/<id>/<id>_*.jpg (or patches/<id>/, paper_patches/<id>/)."
)
UM_PER_PX = 0.5  # scanned at 20 x; the exact pixel size is not published with the patches
PARTS = ("train", "val", "test")
MOST_PATCHES = 64  # of a patient; they have 10 to 2,915, and the patients with most would take most of the time


@dataclass(frozen=True)
class Biomarker:
    """A label of patients.

    Attributes
    ----------
    name
        As the tables show it.
    column
        Of the clinical table.
    positive, negative
        Beginnings of the values of both classes, lower case; other values are not known.
    """

    name: str
    column: str
    positive: str
    negative: str


BIOMARKERS = (
    Biomarker("ER", "ER", "positive", "negative"),
    Biomarker("PR", "PR", "positive", "negative"),
    Biomarker("HER2", "HER2", "positive", "negative"),
    Biomarker("ALN", "ALN status", "n+", "n0"),  # N+(1-2) and N+(>2) against N0
)


@dataclass(frozen=True)
class Cohort:
    """Patients with patches, labels and parts.

    Attributes
    ----------
    labels
        Index: patient; a column per biomarker, 1.0, 0.0, or NaN where not known.
    parts
        "train", "val", "test" -> patients.
    patches
        Patient -> files, in the order of their names.
    """

    labels: pd.DataFrame
    parts: dict[str, tuple[str, ...]]
    patches: dict[str, tuple[Path, ...]]
    folder: PublicFolder = field(repr=False)


def read_cohort(path: Path) -> Cohort:
    """Read labels, parts and the list of patches; no image is opened.

    Raises
    ------
    SettingsError
        If a file is missing, a patient is in two parts or in none of the tables, or a patch lies with another patient.
    """
    folder = PublicFolder(path, DOWNLOAD, LAYOUT)
    labels = _read_labels(folder)
    parts = {part: _read_ids(folder, part) for part in PARTS}
    for first, second in (("train", "test"), ("val", "test"), ("train", "val")):
        if both := set(parts[first]) & set(parts[second]):
            where = path / "dataset-splitting" / f"{second}_id.txt"
            raise folder.refusal(where, f"patient {min(both)!r} is in {first}_id.txt too", "every patient in one list")
    patches = _list_patches(folder)
    for part, patients in parts.items():
        where = path / "dataset-splitting" / f"{part}_id.txt"
        for patient in patients:
            if patient not in labels.index:
                raise folder.refusal(where, f"patient {patient!r} has no row in the clinical table", "a row for each")
            if patient not in patches:
                raise folder.refusal(where, f"patient {patient!r} has no folder of patches", "patches of every patient")
    return Cohort(labels, parts, patches, folder)


def _patient_id(value: object) -> str:
    """Return an id as text without a decimal point, as spreadsheets add one to whole numbers."""
    return re.sub(r"\.0$", "", str(value).strip())


def _read_labels(folder: PublicFolder) -> pd.DataFrame:
    files = [folder.path / f"patient-clinical-data{ending}" for ending in (".csv", ".xlsx")]
    file = next((one for one in files if one.is_file()), files[1])
    folder.require(file, "the clinical table")
    if file.suffix == ".csv":
        table = pd.read_csv(file)
    else:
        try:
            table = pd.read_excel(file)
        except ImportError as error:
            raise SettingsError(
                f"{file}: reading .xlsx needs the package openpyxl. Install it, or save the sheet as {files[0].name}."
            ) from error
    columns = list(table.columns)
    patients = [_patient_id(one) for one in table[folder.column(columns, ("Patient ID", "p_id", "id"), file, "ids")]]
    if len(set(patients)) < len(patients):
        twice = next(one for one in patients if patients.count(one) > 1)
        raise folder.refusal(file, f"patient {twice!r} stands twice", "one row a patient")
    labels = pd.DataFrame(index=pd.Index(patients, dtype=str))
    for marker in BIOMARKERS:
        column = folder.column(columns, (marker.column,), file, "a column")
        text = table[column].astype(str).str.strip().str.lower().str.replace(" ", "", regex=False)
        known = np.select(
            [text.str.startswith(marker.positive), text.str.startswith(marker.negative)], [1.0, 0.0], np.nan
        )
        if not ((known == 1).any() and (known == 0).any()):
            values = ", ".join(sorted(set(table[column].astype(str)))[:6])
            raise folder.refusal(file, f"{column} reads {values}", f"{marker.positive} and {marker.negative}")
        labels[marker.name] = known
    return labels


def _read_ids(folder: PublicFolder, part: str) -> tuple[str, ...]:
    places = [folder.path / "dataset-splitting", folder.path]
    file = next((one / f"{part}_id.txt" for one in places if (one / f"{part}_id.txt").is_file()), None)
    file = folder.require(file or places[0] / f"{part}_id.txt", "the list of patients of each part")
    patients = tuple(_patient_id(line) for line in file.read_text().replace(",", "\n").split())
    if not patients:
        raise folder.refusal(file, "no patient in it", "one id a line")
    return patients


def _list_patches(folder: PublicFolder) -> dict[str, tuple[Path, ...]]:
    places = [folder.path / "paper_patches" / "patches", folder.path / "patches", folder.path / "paper_patches"]
    root = next((one for one in places if one.is_dir()), None)
    root = folder.require(root or places[0], "the folder of patches")
    patches = {}
    for place in sorted(one for one in root.iterdir() if one.is_dir()):
        files = tuple(sorted(one for one in place.iterdir() if one.suffix.lower() in (".jpg", ".jpeg", ".png")))
        for file in files:  # the name of a patch begins with its patient: one copied into another folder is a leak
            if not file.stem.startswith(f"{place.name}_"):
                raise folder.refusal(
                    file, f"a patch of another patient in the folder of {place.name!r}", f"{place.name}_*.jpg"
                )
        if files:
            patches[place.name] = files
    return patches


def embed_patients(files: Sequence[Sequence[Path]], encoder: PatchEncoder) -> Floats:
    """Return the mean embedding of each patient's patches, (patients, width).

    Parameters
    ----------
    files
        Of each patient; at least one.

    Raises
    ------
    SettingsError
        If a file is no image, or patches differ in size.
    """
    flat = [(patient, file) for patient, own in enumerate(files) for file in own]
    total: Floats | None = None
    for start in range(0, len(flat), encoder.at_once):
        block = flat[start : start + encoder.at_once]
        images = [_read_patch(file) for _, file in block]
        sizes = [one.shape for one in images]
        if other := [file for (_, file), size in zip(block, sizes, strict=True) if size != sizes[0]]:
            raise SettingsError(f"{other[0]}: patches of several sizes; expected one size, as 256 x 256 px.")
        found = encoder.encode(np.stack(images), UM_PER_PX)
        total = np.zeros((len(files), found.shape[1])) if total is None else total
        np.add.at(total, [patient for patient, _ in block], found)
    assert total is not None  # the lists of patients are not empty
    mean: Floats = total / np.array([len(own) for own in files])[:, None]
    return mean


def _read_patch(file: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise SettingsError(
            f"{file}: not a readable image ({error}). Expected a jpg; unpack the patches again."
        ) from error


class _Patients:
    """Mean embeddings of all patients under one encoder and one draw of patches; made on first use."""

    def __init__(self, cohort: Cohort, encoder: PatchEncoder, seed: int) -> None:
        self._cohort, self._encoder, self._seed = cohort, encoder, seed
        self._made: pd.DataFrame | None = None

    def embedding(self) -> pd.DataFrame:
        if self._made is None:
            names = [patient for part in PARTS for patient in self._cohort.parts[part]]
            files = [self._drawn(patient) for patient in names]
            self._made = pd.DataFrame(embed_patients(files, self._encoder), index=names)
        return self._made

    def _drawn(self, patient: str) -> list[Path]:
        files = self._cohort.patches[patient]
        rng = np.random.default_rng([self._seed, *patient.encode()])  # of the patient alone: others change nothing
        chosen = rng.permutation(len(files))[:MOST_PATCHES]
        return [files[one] for one in sorted(chosen)]


def score_biomarker(cohort: Cohort, marker: Biomarker, patients: _Patients, seed: int) -> list[Score]:
    """Fit on training and validation patients (the penalty is chosen within them) and rank test patients.

    Raises
    ------
    SettingsError
        If all test patients with a label are of one class.
    """
    known = cohort.labels[marker.name].dropna()
    train = [one for part in ("train", "val") for one in cohort.parts[part] if one in known.index]
    test = [one for one in cohort.parts["test"] if one in known.index]
    truth = known[test].to_numpy(int)
    if len(set(truth)) < 2:
        raise SettingsError(f"{marker.name}: all {len(truth)} test patients are of one class; expected both.")
    z = patients.embedding()
    model = fit_logistic(z.loc[train].to_numpy(), known[train].astype(int).astype(str), seed=seed)
    probability = model.probability(z.loc[test].to_numpy())[:, model.classes.index("1")]
    told = (probability > 0.5).astype(int)
    return [
        Score("AUROC", float(roc_auc_score(truth, probability)), len(test), len(train)),
        Score("balanced-accuracy", balanced_accuracy(truth, told), len(test), len(train)),
    ]


def run(folder: Path, out: Path, options: PublicOptions) -> pd.DataFrame:
    """Run every biomarker, encoder and seed that has no row yet; a seed draws up to 64 patches of each patient.

    Raises
    ------
    SettingsError
        If the folder is not the data set's, or an encoder is unknown.
    """
    cohort, encoders = read_cohort(folder), chosen_encoders(options)
    recorder = Recorder(out, options.command)
    for encoder in encoders:
        for seed in range(options.seeds):
            patients = _Patients(cohort, encoder, seed)
            for marker in BIOMARKERS:
                recorder.measure(
                    "BCNB", f"BCNB {marker.name}", encoder.name, seed,
                    partial(score_biomarker, cohort, marker, patients, seed),
                )  # fmt: skip
    return recorder.frame()


BCNB = PublicProtocol(
    "bcnb",
    "receptor and lymph-node status of a patient from a stained biopsy, patients held out",
    DOWNLOAD,
    LAYOUT,
    "Xu et al., Frontiers in Oncology 11 (2021) 759007; layout as in public repositories that use the download "
    "(bupt-ai-cz/BALNMP, ptoyip/BCNB-Dataset)",
    run=run,
)
