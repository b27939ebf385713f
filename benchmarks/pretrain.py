"""Make the `tiny` model that ships with the package: trained on every real slide that may be used, and on simulated ones.

    python benchmarks/pretrain.py --work WORK --out src/spatia/weights/tiny
    python benchmarks/pretrain.py --work WORK --out OUT --without xenium_breast     for numbers on that slide
    python benchmarks/pretrain.py --work WORK --out OUT --cells-only     no training: the sketches of the cells that the model at OUT saw

May be used: slides under a permissive licence (MIT). Left out: STARmap (GPL-3) and osmFISH (no licence stated), the two
tables whose licence does not say so; MELC, as intensities and counts are not one likelihood; the Xenium bundle of 23 cells,
whose panel of 5,006 genes would make most of the file. Corpora stay in WORK and are not made again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import model_data as data
import torch

from spatia.bench.suites import simulated_corpus
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import sha256, write_json
from spatia.errors import ModelError
from spatia.io.source import Source
from spatia.log import configure
from spatia.models.checkpoint import MODEL_FILE, WEIGHTS_FILE, read_description, read_tensors, save_tensors
from spatia.training.settings import read_settings
from spatia.training.train import train

SIMULATED = {"n_cells": 5_000, "n_sections": 2, "n_donors": 2}
SIMULATED_SEEDS = (20, 21)  # the benchmark takes 0, 1 and 2
PRESENTATIONS = 100_000
MOST_BYTES = 15_000_000  # of what a package should carry


def corpora(work: Path) -> dict[str, Path]:
    """Build what is not there yet; by name."""
    real = data.REAL
    sources = {
        "xenium_breast": [Source("xenium_breast", real / "xenium_breast" / "outs")],
        "merscope_brain": [
            Source(
                "merscope_brain",
                counts=real / "merscope_brain" / "cells_derived.h5ad",
                image=real / "merscope_brain" / "images" / "mini_dataset_dapi_z0.jpg",
                um_per_px=0.1086266,
                image_origin_um=(6400.029, 4699.967),
                channels=("DAPI",),
            )
        ],
        "xenium_lung_he": [
            Source(
                "xenium_lung_he",
                counts=real / "xenium_lung_he" / "cells_derived.h5ad",
                image=real / "xenium_lung_he" / "NCBI858.jpg",
                um_per_px=0.2738,
            )
        ],
        "xenium_mouse_brain": [Source("xenium_mouse_brain", real / "tables" / "xenium_mouse_brain_36k")],
        "cosmx_lung": [Source("cosmx_lung", real / "tables" / "cosmx_lung9_p9s1", um_per_px=0.18)],
    }
    found = {name: data.built(work / name, of) for name, of in sources.items()}
    for seed in SIMULATED_SEEDS:
        found[f"simulated_{seed}"] = simulated_corpus(work, f"simulated_{seed}", seed=seed, **SIMULATED)
    return found


def write_shipped(model: Path, out: Path, names: Sequence[str]) -> dict[str, Any]:
    """Copy a trained model with half the bytes, and without paths of this machine.

    Returns
    -------
    ``bytes`` of the weights, and the largest ``rounding`` of a weight, as a share of the largest weight of its tensor.

    Raises
    ------
    ModelError
        If the file is larger than a package should carry, or a weight does not fit 16 bits.
    """
    content = read_description(model)
    weights = read_tensors(model / WEIGHTS_FILE)
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    rounding = 0.0
    for name, value in weights.items():
        if not torch.isfinite(half[name]).all():
            raise ModelError(f"{model}: {name} does not fit 16-bit floats.")
        if value.is_floating_point() and value.numel():
            off = (half[name].float() - value).abs().max() / value.abs().max().clamp(min=1e-12)
            rounding = max(rounding, float(off))
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / WEIGHTS_FILE, half)
    size = (out / WEIGHTS_FILE).stat().st_size
    if size > MOST_BYTES:
        raise ModelError(
            f"{out / WEIGHTS_FILE}: {size / 1e6:.1f} MB; a package carries {MOST_BYTES / 1e6:.0f} at most."
        )
    content["weights_sha256"] = sha256(out / WEIGHTS_FILE)
    content["facts"]["corpora"] = [
        {"name": name, **{kept: one[kept] for kept in ("corpus_id", "n_cells", "cells")}}
        for name, one in zip(names, content["facts"]["corpora"], strict=True)
    ]
    content["facts"]["split"] = None  # all cells of each: a benchmark on one of these corpora refuses the model
    write_json(out / MODEL_FILE, content)
    return {"bytes": size, "rounding": rounding}


def write_cells(folder: Path, made: Mapping[str, Path]) -> dict[str, int]:
    """Write the sketches of the corpora that a model saw into its description, as a training records them; the weights stay.

    For a model that was trained before trainings recorded them. The corpora may have been built anew: a sketch is of ids and counts.

    Returns
    -------
    How many cells each corpus has in the sketches of its sections.

    Raises
    ------
    ModelError
        If a corpus is not there or has another number of cells, or if the genes of all are not those of the model, in their order.
    """
    content = read_description(folder)
    genes: dict[str, None] = {}
    for one in content["facts"]["corpora"]:
        name = one["name"]
        if name not in made:
            raise ModelError(f"{folder}: was trained on {name}, which is not made here. There are {', '.join(made)}.")
        corpus = Corpus.open(made[name])
        if corpus.n_cells != one["n_cells"]:
            raise ModelError(f"{made[name]}: {corpus.n_cells:,} cells; {folder} saw {one['n_cells']:,} of {name}.")
        genes |= dict.fromkeys(corpus.genes["gene_id"])
        one["cells"] = {section: of.sketch for section, of in corpus.sections.items()}
    if list(genes) != content["vocabulary"]["genes"]:
        raise ModelError(f"{folder}: knows other genes than these corpora have, or in another order: not what it saw.")
    write_json(folder / MODEL_FILE, content)
    return {one["name"]: sum(map(len, one["cells"].values())) for one in content["facts"]["corpora"]}


def main() -> None:
    """Train, and write the folder that ships."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="cache of corpora and of the training run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model to make")
    parser.add_argument("--without", default="", help="names of corpora to leave out, comma-separated")
    parser.add_argument(
        "--cells-only",
        action="store_true",
        help="train nothing: write the sketches of the cells that the model at --out saw",
    )
    parser.add_argument("--presentations", type=int, default=PRESENTATIONS, help="cells that each stage sees")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="training setting")
    arguments = parser.parse_args()
    configure()
    arguments.work.mkdir(parents=True, exist_ok=True)
    left_out = {name for name in arguments.without.split(",") if name}
    made = corpora(arguments.work)
    if unknown := left_out - set(made):
        parser.error(f"--without {sorted(unknown)[0]}: there are {', '.join(made)}")
    chosen = {name: path for name, path in made.items() if name not in left_out}
    if arguments.cells_only:
        print(json.dumps(write_cells(arguments.out, chosen)))
        return
    most = str(arguments.presentations)
    settings = read_settings(
        None, [f"presentations.cells={most}", f"presentations.context={most}", *arguments.set], {"seed": 0}
    )
    run = arguments.work / "runs" / ("-".join(["without", *sorted(left_out)]) if left_out else "all")
    folder = train(list(chosen.values()), run, settings, resume=True)
    print(json.dumps(write_shipped(folder, arguments.out, list(chosen))))


if __name__ == "__main__":
    main()
