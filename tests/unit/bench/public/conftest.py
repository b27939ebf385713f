"""Stand-ins of the public data: the same files and names, a few kilobytes, with a signal that is known."""

import gzip
import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from PIL import Image

from spatia.data.vocabulary import Vocabulary
from spatia.models.checkpoint import save_model
from spatia.models.config import ModelConfig
from spatia.models.spatia import Spatia

GENES = tuple(f"G{number:02d}" for number in range(50))
SPOTS, SIDE = 40, 224
KINDS = ("SMC", "T cell", "Fibroblast")


def make_hest(folder: Path, *, shuffled: bool = False, sections: tuple[str, ...] = ("A1", "B1", "C1")) -> Path:
    """One task, a fold a section; how red a patch is tells half of the genes, in any section."""
    rng = np.random.default_rng(0)
    task = folder / "IDC"
    for name in ("splits", "patches", "adata"):
        (task / name).mkdir(parents=True)
    (task / "var_50genes.json").write_text(json.dumps({"genes": list(GENES)}))
    for sample in sections:
        red = rng.uniform(0, 1, SPOTS)
        images = rng.integers(0, 40, (SPOTS, 1, 1, 3)) + np.zeros((SPOTS, SIDE, SIDE, 3), int)
        images[..., 0] = (80 + 150 * red)[:, None, None]
        barcodes = [f"{number:03d}x{sample}" for number in range(SPOTS)]
        with h5py.File(task / "patches" / f"{sample}.h5", "w") as file:
            file["img"] = images.astype(np.uint8)
            file["barcode"] = np.array([[one.encode()] for one in barcodes])
            file["coords"] = rng.integers(0, 9000, (SPOTS, 2))
        told = rng.permutation(red) if shuffled else red
        rate = np.full((SPOTS, 60), 20.0)
        rate[:, :25] *= (0.3 + 2 * told)[:, None]
        order = rng.permutation(SPOTS)  # rows in another order than the patches: they must be joined by barcode
        counts = sp.csr_matrix(rng.poisson(rate).astype(np.float32)[order])
        names = [*GENES, *(f"other{number}" for number in range(10))]
        table = ad.AnnData(counts, pd.DataFrame(index=np.array(barcodes)[order]), pd.DataFrame(index=names))
        table.write_h5ad(task / "adata" / f"{sample}.h5ad")
    for number, held_out in enumerate(sections):
        for side, chosen in (("train", [one for one in sections if one != held_out]), ("test", [held_out])):
            rows = [(one, f"patches/{one}.h5", f"adata/{one}.h5ad") for one in chosen]
            table = pd.DataFrame(rows, columns=["sample_id", "patches_path", "expr_path"])
            table.to_csv(task / "splits" / f"{side}_{number}.csv", index=False)
    return folder


def make_bcnb(folder: Path, *, shuffled: bool = False, n_patients: int = 90) -> Path:
    """Patients with three patches of 64 px each; ER-positive ones are redder, and nothing tells the other labels."""
    rng = np.random.default_rng(1)
    patients = [str(number) for number in range(1, n_patients + 1)]
    er = rng.integers(0, 2, n_patients)
    told = rng.permutation(er) if shuffled else er
    for patient, positive in zip(patients, told, strict=True):
        place = folder / "paper_patches" / "patches" / patient
        place.mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(60, 180, (64, 64, 3))
            pixels[..., 0] += 40 * positive
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{patient}_0_{number}_256.jpg")
    words = np.array(["Negative", "Positive"])
    table = pd.DataFrame(
        {
            "Patient ID": [int(one) for one in patients],
            "Age(years)": 50,
            "ER": words[er],
            "PR": words[rng.integers(0, 2, n_patients)],
            "HER2": words[rng.integers(0, 2, n_patients)],
            "ALN status": np.array(["N0", "N+(1-2)", "N+(>2)"])[rng.integers(0, 3, n_patients)],
        }
    )
    table.to_csv(folder / "patient-clinical-data.csv", index=False)
    (folder / "dataset-splitting").mkdir()
    cuts = {"train": (0, 45), "val": (45, 55), "test": (55, n_patients)}
    for part, (first, last) in cuts.items():
        (folder / "dataset-splitting" / f"{part}_id.txt").write_text("\n".join(patients[first:last]) + "\n")
    return folder


def make_cells(*, shuffled: bool = False, n: int = 360, n_genes: int = 60) -> ad.AnnData:
    """Dissociated cells of three types and three donors; twenty genes mark a type, and a donor has its own depth."""
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 3, n)
    donor = rng.integers(0, 3, n)
    rate = np.full((n, n_genes), 1.0)
    for code in range(3):
        rate[kind == code, 20 * code : 20 * code + 20] = 5.0
    counts = rng.poisson(rate * (1 + 0.5 * donor)[:, None])
    names = np.array(KINDS)[rng.permutation(kind) if shuffled else kind]
    obs = pd.DataFrame(
        {"celltype": pd.Categorical(names), "batch": np.array(["Con4", "TAA1", "TAA2"])[donor]},
        index=[f"cell{number}" for number in range(n)],
    )
    return ad.AnnData(
        sp.csr_matrix(counts.astype(np.float32)),
        obs,
        pd.DataFrame(index=list(GENES) + [f"H{i}" for i in range(n_genes - 50)]),
    )


def write_deposit(folder: Path, table: ad.AnnData, *, header_names_genes: bool) -> None:
    """Write the tables of GEO, a sample each, and the labels beside them."""
    rows = []
    for number, sample in enumerate(sorted(set(table.obs["batch"]))):
        some = table[(table.obs["batch"] == sample).to_numpy()]
        dense = pd.DataFrame(some.X.toarray().T.astype(int), index=some.var_names, columns=some.obs_names)
        text = dense.to_csv(sep="\t", index_label="gene")
        if not header_names_genes:
            text = text.removeprefix("gene\t")  # as R writes it: a name fewer than there are columns
        with gzip.open(folder / f"GSM47049{31 + number}_{sample}.txt.gz", "wt") as file:
            file.write(text)
        rows += [(cell, sample, kind) for cell, kind in zip(some.obs_names, some.obs["celltype"], strict=True)]
    pd.DataFrame(rows, columns=["cell_id", "sample", "celltype"]).to_csv(folder / "labels.csv", index=False)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that knows r, g and b and the genes of the stand-ins."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, Spatia(ModelConfig(image_layers=1, width=32, heads=2), Vocabulary(GENES, ("r", "g", "b"))))
    return folder
