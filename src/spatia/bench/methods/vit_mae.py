"""ViT-MAE (He et al., CVPR 2022): a masked autoencoder of images, as the image branch of the reference and trained here.

`vit-mae` is the encoder of ViT-MAE-B/16 at 224 px, every patch shown, with random weights or those of a local folder: nothing is
downloaded. `vit-mae trained` is a small one (64 px, patches of 8 px) that learns from the crops of training cells alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spatia.bench.methods.method import IMAGE, Method, Problem
from spatia.bench.methods.vit import encode, given_weights, kept, read_encoder
from spatia.extras import require

WEIGHTS = (
    "SPATIA_VIT_MAE"  # environment: local folder of a ViT-MAE in the transformers format; random weights without it
)

WIDTH, LAYERS, HEADS, PATCH_PX = 192, 4, 3, 8
DECODER_WIDTH, DECODER_LAYERS = 96, 2
CROPS_SEEN, BATCH, RATE, DECAY = 20_000, 64, 1e-3, 0.05


class _AllPatches(nn.Module):
    """The encoder with every patch shown, in the order of the image."""

    def __init__(self, model: nn.Module, n_patches: int) -> None:
        super().__init__()
        self.model, self.n_patches = model, n_patches

    def forward(self, images: Tensor) -> object:
        # the model shuffles patches by this noise even where it masks none, and sums depend on the order in the last digits
        return self.model(images, noise=torch.arange(self.n_patches).expand(len(images), -1))


def make_mae(weights: Path | None = None) -> nn.Module:
    """Return the encoder of ViT-MAE-B/16 for 3 × 224 × 224, nothing masked; random weights of seed 0 unless a folder is given.

    Raises
    ------
    ModelError
        If the folder does not hold exactly the tensors of its encoder.
    """
    transformers = require("transformers", "rivals")
    torch.manual_seed(0)
    if weights is not None:
        model = read_encoder(transformers.ViTMAEModel, weights, mask_ratio=0.0)
    else:
        model = transformers.ViTMAEModel(transformers.ViTMAEConfig(mask_ratio=0.0))
        _set_positions(model.embeddings.position_embeddings)
    return _AllPatches(model.eval(), model.embeddings.patch_embeddings.num_patches)


@torch.no_grad()
def _set_positions(parameter: Tensor) -> None:
    """Fill (1, 1 + patches, width) with the fixed waves of each patch's row and column, zero for the class token.

    A model made from a configuration has zeros there (seen with transformers 5.23), does not train them, and so knows no places.
    """
    side, quarter = round((parameter.shape[1] - 1) ** 0.5), parameter.shape[2] // 4
    angle = torch.arange(side)[:, None] / 10_000 ** (torch.arange(quarter) / quarter)
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    column, row = wave.expand(side, -1, -1), wave[:, None].expand(-1, side, -1)
    parameter[0, 1:] = torch.cat([column, row], dim=2).flatten(0, 1)


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the class token, (n, 768)."""
    weights, called = given_weights(WEIGHTS)

    def make() -> NDArray[np.floating]:
        with torch.autocast("cpu", torch.bfloat16):  # two to three times as fast on a CPU
            return encode(make_mae(weights), problem.cells.images)

    return kept(problem, f"vit_mae-{called}-{problem.cells.corpus.corpus_id}", make)


def embed_trained(problem: Problem) -> NDArray[np.floating]:
    """Return the mean over patches of the small encoder, (n, 192), after training on the crops of training cells."""
    cells = problem.cells
    name = f"vit_mae-trained-{cells.corpus.corpus_id}-{problem.split}-{problem.seed}"
    return kept(problem, name, lambda: train(cells.images[problem.train], problem.seed).embed(cells.images))


@dataclass(frozen=True)
class SmallMae:
    """A small masked autoencoder, and the mean and sd of each channel that its crops are scaled by."""

    model: Any
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]

    def scaled(self, images: NDArray[np.uint8]) -> Tensor:
        """Return (n, channels, y, x) crops with the training crops' mean of 0 and sd of 1."""
        centred = (images - self.mean[:, None, None]) / np.maximum(self.sd, 1e-6)[:, None, None]
        return torch.from_numpy(centred.astype(np.float32))

    @torch.inference_mode()
    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the mean over patches, none of them masked, (n, 192)."""
        self.model.vit.embeddings.config.mask_ratio = 0.0
        n_patches = self.model.vit.embeddings.patch_embeddings.num_patches
        encoder, found = _AllPatches(self.model.vit.eval(), n_patches), []
        for start in range(0, len(images), 256):
            tokens = encoder(self.scaled(images[start : start + 256])).last_hidden_state
            found.append(tokens[:, 1:].mean(dim=1).numpy())
        return np.concatenate(found)


def train(images: NDArray[np.uint8], seed: int, crops_seen: int = CROPS_SEEN) -> SmallMae:
    """Train on (n, channels, y, x) crops, in random batches: three patches in four are masked and predicted from the rest."""
    transformers = require("transformers", "rivals")
    config = transformers.ViTMAEConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=images.shape[2],
        patch_size=PATCH_PX,
        num_channels=images.shape[1],
        decoder_hidden_size=DECODER_WIDTH,
        decoder_num_hidden_layers=DECODER_LAYERS,
        decoder_num_attention_heads=HEADS,
        decoder_intermediate_size=4 * DECODER_WIDTH,
        norm_pix_loss=True,
    )
    mean = np.asarray(images.mean(axis=(0, 2, 3), dtype=np.float64))
    sd = np.asarray(images.std(axis=(0, 2, 3), dtype=np.float64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = SmallMae(transformers.ViTMAEForPreTraining(config).train(), mean, sd)
        _set_positions(made.model.vit.embeddings.position_embeddings)
        _set_positions(made.model.decoder.decoder_pos_embed)
        generator = torch.Generator().manual_seed(seed)
        steps = max(1, crops_seen // BATCH)
        warm_up = max(1, steps // 10)
        optimiser = torch.optim.AdamW(made.model.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.95))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min((step + 1) / warm_up, (1 + np.cos(np.pi * step / steps)) / 2)
        )
        for _ in range(steps):
            rows = torch.randint(len(images), (BATCH,), generator=generator).numpy()
            loss = made.model(_turned(made.scaled(images[rows]), generator)).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return made


def _turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a batch turned and mirrored at random, all alike: a cell lies at any angle."""
    turns, mirror = torch.randint(4, (1,), generator=generator).item(), torch.rand(1, generator=generator).item() < 0.5
    turned = torch.rot90(images, int(turns), (2, 3))
    return turned.flip(3) if mirror else turned


VIT_MAE = Method(
    "vit-mae",
    IMAGE,
    embed,
    f"ViT-MAE-B/16 at 224 px; random weights unless {WEIGHTS} names a folder",
    image_side=embed,
)
VIT_MAE_TRAINED = Method(
    "vit-mae trained", IMAGE, embed_trained, "a small ViT-MAE trained on the training crops", image_side=embed_trained
)
