"""Prov-GigaPath (Xu et al., Nature 2024), its tile encoder: a ViT of 1.1 B parameters trained by DINOv2 on 1.3 G tiles of H&E slides.

The class token is the embedding. Crops are enlarged to 256 px, bicubic, cut to the middle 224, and normalised with ImageNet's
colours, as published for tiles. The slide encoder reads thousands of tiles of a slide and gives no embedding of a cell: not here.

Source of sizes: the authors' repository prov-gigapath/prov-gigapath, and ``config.json`` beside the weights.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods.method import IMAGE, Embed, Problem
from spatia.bench.published.images import IMAGENET, embed_crops, enlarged
from spatia.bench.published.model import PublishedModel, device, find_file
from spatia.bench.published.vit_timm import VitSizes, VitTimm, read_sizes
from spatia.bench.published.weights import load_strictly, on_meta, read_checkpoint, tensors_of

WEIGHTS = "model.safetensors|pytorch_model.bin"
SIZES = VitSizes(width=1536, depth=40, heads=24, hidden=8192, scaled=True, gated=True)


def load(folder: Path) -> Embed:
    """Read a folder of the tile encoder.

    Raises
    ------
    ModelError, SettingsError
        If a file is missing or damaged, or the weights are not of this architecture.
    """
    path = find_file(folder, WEIGHTS)
    sizes = read_sizes(folder, SIZES)
    tensors = tensors_of(read_checkpoint(path), str(path))
    model = load_strictly(on_meta(lambda: VitTimm(sizes)), tensors, str(path)).to(device())
    whole = round(sizes.side_px * 256 / 224)

    def embed(problem: Problem) -> NDArray[np.floating]:
        return embed_crops(
            problem.cells,
            lambda images: model(images)[:, 0],
            lambda crops: enlarged(crops, whole, IMAGENET, cut=sizes.side_px),
            "GigaPath",
        )

    return embed


GIGAPATH = PublishedModel(
    "gigapath",
    IMAGE,
    "Prov-GigaPath tile encoder: DINOv2 ViT-g of H&E tiles, class token",
    "Xu et al., Nature 2024; weights: prov-gigapath/prov-gigapath (gated)",
    (WEIGHTS,),
    load,
)
