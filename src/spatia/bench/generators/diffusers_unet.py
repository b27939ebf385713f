"""Diffusion with the U-Net of the package diffusers, told the expression: what others would take from the shelf.

Trained from noise on all training cells, each told the principal components of its log-normalised counts. For a transition the
wanted cell's components are moved by the difference of the states' training means, as for the nearest cell.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spatia.bench.generators.flow import asked_of
from spatia.bench.generators.generator import GenerationProblem, Generator, Images
from spatia.bench.methods.pca import principal_components
from spatia.corpus.files import whole_file
from spatia.extras import require
from spatia.log import logger, progress

COMPONENTS: Final = 30
WIDTHS: Final = (16, 32, 64, 128)  # about the size and the cost of our network
STEPS: Final = 1000
EVALUATIONS: Final = 20  # as ours
BATCH: Final = 16
RATE: Final = 4e-4
DECAY: Final = 0.995
AT_ONCE: Final = 64


def draw(problem: GenerationProblem) -> Images:
    """Train where it was not trained yet, and draw the wanted cells."""
    require("diffusers", "rivals")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    told = conditions(problem)
    torch.manual_seed(problem.seed)
    network = Conditioned(problem.cells.images.shape[1], problem.cells.images.shape[-1], told.shape[1]).to(device)
    _train(network, problem, told)
    wanted = told[problem.wanted]
    if problem.transition is not None:
        wanted = wanted + told[problem.transition.targets].mean(axis=0) - told[problem.transition.sources].mean(axis=0)
    return _sample(network.eval(), wanted.astype(np.float32), problem.seed)


def conditions(problem: GenerationProblem) -> NDArray[np.float32]:
    """Return what is told of every cell: components of its expression, at the spread of the training cells."""
    cells = problem.cells
    place = principal_components(cells.expression(cells.shared_genes), problem.train, problem.seed, COMPONENTS)
    spread = place[problem.train].std(axis=0)
    return (place / np.where(spread > 1e-9, spread, 1)).astype(np.float32)


class Conditioned(nn.Module):
    """The U-Net of diffusers with a linear map of the conditions beside the time."""

    def __init__(self, channels: int, px: int, width: int) -> None:
        super().__init__()
        diffusers = require("diffusers", "rivals")
        levels = max(1, min(len(WIDTHS), int(np.log2(px)) - 2))
        down, up = (
            ["DownBlock2D"] * (levels - 1) + ["AttnDownBlock2D"],
            ["AttnUpBlock2D"] + ["UpBlock2D"] * (levels - 1),
        )
        self.told = nn.Linear(width, WIDTHS[0] * 4)
        self.network = diffusers.UNet2DModel(
            sample_size=px,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=WIDTHS[:levels],
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            norm_num_groups=8,
            class_embed_type="identity",
        )

    def forward(self, images: Tensor, step: Tensor, told: Tensor) -> Tensor:
        """Return the velocity that the network predicts, (rows, channels, y, x)."""
        result: Tensor = self.network(images, step, class_labels=self.told(told)).sample
        return result


def _train(network: Conditioned, problem: GenerationProblem, told: NDArray[np.float32]) -> None:
    training, _ = asked_of(problem)
    path = _weights(problem)
    if path.is_file():
        network.load_state_dict(load_file(path))
        return
    diffusers = require("diffusers", "rivals")
    device, schedule = network.told.weight.device, _schedule(diffusers.DDPMScheduler)
    rng, draws = np.random.default_rng(problem.seed), torch.Generator().manual_seed(problem.seed)
    passes = max(1, -(-training.images // len(problem.train)))
    size = min(BATCH, len(problem.train))
    steps = passes * (len(problem.train) // size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + 1, pct_start=0.05)
    mean = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    done = 0
    with progress("diffusers U-Net", steps * size, "images") as advance:
        for _ in range(passes):
            order = rng.permutation(problem.train)
            for start in range(0, len(order) - size + 1, size):
                rows = order[start : start + size]
                x = _scaled(problem.cells.images[rows])
                noise = torch.randn(x.shape, generator=draws)
                step = torch.randint(0, STEPS, (size,), generator=draws)
                given = torch.from_numpy(told[rows])
                noisy, wanted = schedule.add_noise(x, noise, step), schedule.get_velocity(x, noise, step)
                predicted = network(noisy.to(device), step.to(device), given.to(device))
                loss = (predicted - wanted.to(device)).square().mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                rate.step()
                done += 1
                decay = min(DECAY, (1 + done) / (10 + done))  # a short training must not keep where it began
                with torch.no_grad():
                    for name, value in network.state_dict().items():
                        mean[name].lerp_(value, 1 - decay)
                advance(size)
    network.load_state_dict(mean)
    logger.info("diffusers U-Net: %d images, last loss %.3f", steps * size, loss.item())
    with whole_file(path) as aside:
        save_file({name: value.cpu().contiguous() for name, value in mean.items()}, aside)


@torch.inference_mode()
def _sample(network: Conditioned, told: NDArray[np.float32], seed: int) -> Images:
    """Walk from noise with DDIM; the noise is a function of seed and row."""
    diffusers = require("diffusers", "rivals")
    # from the last time of all, at which nothing but noise is left
    solver, device = _schedule(diffusers.DDIMScheduler, timestep_spacing="trailing"), network.told.weight.device
    draws, parts = torch.Generator().manual_seed(seed), []
    channels, px = network.network.config.in_channels, network.network.config.sample_size
    for start in range(0, len(told), AT_ONCE):
        given = torch.from_numpy(told[start : start + AT_ONCE]).to(device)
        x = torch.randn(len(given), channels, px, px, generator=draws).to(device)
        solver.set_timesteps(EVALUATIONS)
        for step in solver.timesteps:
            predicted = network(x, step.expand(len(x)).to(device), given)
            x = solver.step(predicted, step, x).prev_sample
        parts.append(((x.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy())
    return np.concatenate(parts)


def _scaled(images: Images) -> Tensor:
    return torch.from_numpy(images).float() / 127.5 - 1


def _schedule(kind: Any, **options: Any) -> Any:
    return kind(num_train_timesteps=STEPS, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", **options)


def _weights(problem: GenerationProblem) -> Path:
    """Return the file of the weights, named by all that decides what is learnt; a transition does not."""
    training, work = asked_of(problem)
    corpus = problem.cells.corpus.corpus_id  # rows are the same where a corpus was built anew
    content = repr((corpus, training.images, COMPONENTS, WIDTHS, BATCH, RATE, DECAY, problem.seed)).encode()
    digest = hashlib.sha256(content + problem.train.tobytes()).hexdigest()
    return work / "generators" / f"diffusers-{digest[:16]}.safetensors"


DIFFUSERS_UNET = Generator(
    "diffusion (diffusers U-Net)",
    draw,
    f"diffusion from noise with the U-Net of diffusers, told {COMPONENTS} components of expression",
    learns=True,
)
