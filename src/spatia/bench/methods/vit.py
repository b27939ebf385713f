"""ViT-B/16 at 224 px on blown-up crops: the image branch of the reference, with random weights or those of a local folder.

Slow (4–5 crops a second on two cores), so its embedding is kept in the results folder: it depends on the corpus alone.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from spatia.bench.methods.method import IMAGE, Method, Problem
from spatia.corpus.files import whole_file
from spatia.extras import require

SIDE_PX = 224
AT_ONCE = 16
WEIGHTS = "SPATIA_VIT"  # environment: local folder of a ViT in the transformers format; random weights without it


def make_vit(weights: Path | None = None) -> nn.Module:
    """Return a ViT-B/16 for 3 × 224 × 224, in evaluation mode; random weights of seed 0 unless a folder is given."""
    transformers = require("transformers", "rivals")
    torch.manual_seed(0)
    if weights is not None:
        model = transformers.ViTModel.from_pretrained(weights, local_files_only=True, add_pooling_layer=False)
    else:
        model = transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False)
    return model.eval()


@torch.no_grad()
def encode(model: Callable[[Tensor], Any], images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the class token of (n, channels, y, x) crops, each blown up to 224 px; the first three channels, or the one thrice."""
    found = []
    for start in range(0, len(images), AT_ONCE):
        block = torch.from_numpy(images[start : start + AT_ONCE]).float() / 255
        block = block[:, :3] if block.shape[1] >= 3 else block[:, :1].expand(-1, 3, -1, -1)
        large = interpolate(block, size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
        found.append(model((large - 0.5) / 0.5).last_hidden_state[:, 0].float().numpy())
    return np.concatenate(found)


def kept(problem: Problem, name: str, make: Callable[[], NDArray[np.floating]]) -> NDArray[np.floating]:
    """Return what ``make`` gives, from the results folder where it stands there already; ``name`` is that of the file."""
    if problem.work is None:
        return make()
    path = problem.work / "embeddings" / f"{name}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False)
    found = make()
    with whole_file(path) as aside, aside.open("wb") as file:
        np.save(file, found)
    return found


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the class token, (n, 768)."""
    given = os.environ.get(WEIGHTS)
    name = f"vit-{'given' if given else 'random'}-{problem.cells.corpus.corpus_id}"
    return kept(problem, name, lambda: encode(make_vit(Path(given) if given else None), problem.cells.images))


VIT = Method(
    "vit-b/16", IMAGE, embed, f"ViT-B/16 at 224 px; random weights unless {WEIGHTS} names a folder", image_side=embed
)
