"""ViT-B/16 at 224 px on blown-up crops: the image branch of the reference, with random weights or those of a local folder.

Slow (4–5 crops a second on two cores), so its embedding is kept in the results folder: it depends on the corpus and the weights.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import interpolate

from spatia.bench.methods.method import IMAGE, Method, Problem
from spatia.bench.published.files import short_digest
from spatia.corpus.files import whole_file
from spatia.errors import ModelError
from spatia.extras import require

SIDE_PX = 224
AT_ONCE = 16
WEIGHTS = "SPATIA_VIT"  # environment: local folder of a ViT in the transformers format; random weights without it
# of no use for the class token: the folder may hold them or not
LEFT_OUT = ("pooler.", "classifier.", "decoder.", "embeddings.mask_token")
NAMED = 4  # tensors of each kind that an error names


def make_vit(weights: Path | None = None) -> nn.Module:
    """Return a ViT-B/16 for 3 × 224 × 224, in evaluation mode; random weights of seed 0 unless a folder is given.

    Raises
    ------
    ModelError
        If the folder does not hold exactly the tensors of its encoder.
    """
    transformers = require("transformers", "rivals")
    torch.manual_seed(0)
    if weights is not None:
        return read_encoder(transformers.ViTModel, weights, add_pooling_layer=False)
    model: nn.Module = transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False)
    return model.eval()


def read_encoder(kind: Any, folder: Path, **options: object) -> Any:
    """Read an encoder that transformers saved, in evaluation mode, with every one of its tensors from the file.

    transformers itself fills what is missing with random numbers and passes over what it does not know.

    Parameters
    ----------
    kind
        A model class of transformers.

    Raises
    ------
    ModelError
        If the folder cannot be read, or tensors are missing, unknown (but for heads, pooler and decoder) or of another shape.
    """
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: no such folder. Expected a {kind.__name__} as transformers' save_pretrained writes it."
        )
    try:
        model, told = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be read as a {kind.__name__} of transformers ({error}).") from error
    unknown = [name for name in told["unexpected_keys"] if not name.removeprefix("vit.").startswith(LEFT_OUT)]
    shapes = [f"{name} {tuple(found)} instead of {tuple(own)}" for name, found, own in told["mismatched_keys"]]
    said = [
        f"{len(names)} {what}: {', '.join(sorted(names)[:NAMED])}{', …' if len(names) > NAMED else ''}"
        for what, names in (("missing", told["missing_keys"]), ("unknown", unknown), ("of another shape", shapes))
        if names
    ]
    if said:
        raise ModelError(
            f"{folder}: not the tensors of a {kind.__name__} ({len(model.state_dict())} expected). {'; '.join(said)}. Expected what "
            "transformers' save_pretrained writes: where names bear another prefix, save the tensors without it."
        )
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


def given_weights(variable: str) -> tuple[Path | None, str]:
    """Return the folder that an environment variable names, and what its embeddings go by: other files, another name."""
    given = os.environ.get(variable)
    return (Path(given), f"given-{short_digest(Path(given))}") if given else (None, "random")


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the class token, (n, 768)."""
    weights, called = given_weights(WEIGHTS)
    name = f"vit-{called}-{problem.cells.corpus.corpus_id}"
    return kept(problem, name, lambda: encode(make_vit(weights), problem.cells.images))


VIT = Method(
    "vit-b/16", IMAGE, embed, f"ViT-B/16 at 224 px; random weights unless {WEIGHTS} names a folder", image_side=embed
)
