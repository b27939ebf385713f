"""A small ViT-MAE with random weights in the transformers format, and what it makes of a picture."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

MEAN, SD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SIDE, PATCH, WIDTH = 16, 4, 32


def random_vit_mae() -> Any:
    """Return a ViTMAEForPreTraining of which every part takes part, with nothing masked."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        image_size=SIDE,
        patch_size=PATCH,
        mask_ratio=0.0,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    model = transformers.ViTMAEForPreTraining(config).eval()
    # some versions take the projection for initialised and leave the positions at zero, which no trained model has
    model.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    model.vit.embeddings.initialize_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "pos" not in name:
                parameter += torch.randn_like(parameter) * 0.1
    return model


def save_vit_mae(model: Any, folder: Path) -> Path:
    """Write it as transformers does, with its normalisation."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": SD}))
    return folder


@torch.no_grad()
def output_of(model: Any, rgb: Tensor) -> Tensor:
    """Return its class token and patches, in order; ``rgb`` (rows, 3, y, x) 0…255."""
    values = (rgb / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(SD).view(3, 1, 1)
    noise = torch.arange((SIDE // PATCH) ** 2).float().expand(len(rgb), -1)
    output: Tensor = model.vit(values, noise=noise).last_hidden_state
    return output
