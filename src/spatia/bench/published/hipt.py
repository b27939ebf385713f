"""HIPT (Chen et al., CVPR 2022), its first level: a ViT-S/16 trained by DINO on 256 px patches of H&E slides.

The class token is the embedding. Crops are enlarged to 256 px, bicubic, and normalised to −1…1; positions, trained for 224 px, are
interpolated, as published. The second level reads the 256 patches of a region of 4,096 px, which a crop of a cell is not: not here.

Source of names and sizes: the authors' repository mahmoodlab/HIPT (``vit256_small_dino.pth``, key ``teacher``). The file also holds
the command line it was trained with, an ``argparse.Namespace``: that class is admitted, as it only holds values.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods.method import IMAGE, Embed, Problem
from spatia.bench.published.images import HALVES, embed_crops, enlarged
from spatia.bench.published.model import PublishedModel, device, find_file
from spatia.bench.published.vit_timm import VitSizes, VitTimm, read_sizes
from spatia.bench.published.weights import load_strictly, on_meta, read_checkpoint, tensors_of

WEIGHTS = "model.safetensors|vit256_small_dino.pth"
SIZES = VitSizes(width=384, depth=12, heads=6, hidden=1536)


def load(folder: Path) -> Embed:
    """Read a folder of the first level.

    Raises
    ------
    ModelError, SettingsError
        If a file is missing or damaged, or the weights are not of this architecture.
    """
    path = find_file(folder, WEIGHTS)
    sizes = read_sizes(folder, SIZES)
    content = read_checkpoint(path, allowed=(argparse.Namespace,))
    tensors = tensors_of(content.get("teacher", content), str(path), strip=("module.", "backbone."))
    model = load_strictly(on_meta(lambda: VitTimm(sizes)), tensors, str(path), left_out=("head.",)).to(device())
    side_px = sizes.patch_px * round(sizes.side_px / sizes.patch_px * 8 / 7)  # 256 of 224

    def embed(problem: Problem) -> NDArray[np.floating]:
        return embed_crops(
            problem.cells, lambda images: model(images)[:, 0], lambda crops: enlarged(crops, side_px, HALVES), "HIPT"
        )

    return embed


HIPT = PublishedModel(
    "hipt",
    IMAGE,
    "HIPT level 1: DINO ViT-S/16 of 256 px H&E patches, class token",
    "Chen et al., CVPR 2022; weights: mahmoodlab/HIPT, vit256_small_dino.pth",
    (WEIGHTS,),
    load,
)
