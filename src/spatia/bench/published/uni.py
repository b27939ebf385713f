"""UNI (Chen et al., Nature Medicine 2024): ViT-L/16 trained by DINOv2 on 100 M patches of H&E slides; UNI2-h: ViT-H/14 with registers.

Which of the two a folder holds is told by its registers. The class token is the embedding. Crops are enlarged to 224 px, bicubic,
and normalised with ImageNet's colours; the model was trained at 20×, about 0.5 µm a pixel, which a crop of one cell is not.

Source of sizes: the authors' repository mahmoodlab/UNI (encoder presets).
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
UNI_SIZES = VitSizes(width=1024, depth=24, heads=16, hidden=4096, scaled=True)
UNI2_H_SIZES = VitSizes(
    width=1536, depth=24, heads=24, hidden=8192, patch_px=14, scaled=True, gated=True, registers=8, class_position=False
)


def load(folder: Path) -> Embed:
    """Read a folder of UNI or UNI2-h.

    Raises
    ------
    ModelError, SettingsError
        If a file is missing or damaged, or the weights are not of this architecture.
    """
    path = find_file(folder, WEIGHTS)
    tensors = tensors_of(read_checkpoint(path), str(path))
    sizes = read_sizes(folder, UNI2_H_SIZES if "reg_token" in tensors else UNI_SIZES)
    model = load_strictly(on_meta(lambda: VitTimm(sizes)), tensors, str(path)).to(device())

    def embed(problem: Problem) -> NDArray[np.floating]:
        return embed_crops(
            problem.cells,
            lambda images: model(images)[:, 0],
            lambda crops: enlarged(crops, sizes.side_px, IMAGENET),
            "UNI",
        )

    return embed


UNI = PublishedModel(
    "uni",
    IMAGE,
    "UNI or UNI2-h: DINOv2 ViT of H&E patches, class token",
    "Chen et al., Nature Medicine 2024; weights: MahmoodLab/UNI, MahmoodLab/UNI2-h (gated)",
    (WEIGHTS,),
    load,
)
