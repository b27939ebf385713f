"""The tables of `docs/generation.md`: token merging, quality by evaluations, and images a second.

    python benchmarks/generation_speed.py merging                                   time and memory of random networks
    python benchmarks/generation_speed.py merging --generator GEN --corpus CORPUS   and what it does to images (at GEN's size)
    python benchmarks/generation_speed.py evaluations --generator GEN --corpus CORPUS [--split block --part test]
    python benchmarks/generation_speed.py images --generator GEN --corpus CORPUS
    python benchmarks/generation_speed.py training --device cuda                    training steps beside the rate of matrix products

On a processor, times are seconds of processor (`time.process_time`) on one thread, the least of some repetitions, so that other work on the machine
counts little. On a GPU (`--device cuda`, also `--precision bf16-mixed`) they are seconds of the clock, waited for. The distance is the squared Fréchet distance of 16 principal components of the crops, components of the real ones; "real" is
that of one half of the real crops to the other, which no generator can be asked to beat. In brackets the 95 % interval over
resampled cells, a drawn image and the real one of its cell together, around the value itself (`spatia.metrics.bootstrap.interval` says why).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spatia.corpus.corpus import Corpus
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.settings import LEAST_ADAPTIVE, GeneratorConfig, NetworkSettings, Precision, SolverSettings
from spatia.generation.transformer import DiffusionTransformer
from spatia.inference.asked import Asked
from spatia.inference.asking import asking
from spatia.inference.drawing import Drawing
from spatia.inference.generator import Generator
from spatia.inference.wanted import choose_rows
from spatia.io.memory import peak_memory_bytes
from spatia.metrics.bootstrap import draw_resamples
from spatia.metrics.frechet import frechet_estimate

SIZES = (64, 128, 256)
RATIOS = (0.0, 0.25, 0.5, 0.75)
EVALUATIONS = (4, 6, 10, 20, 50, 100, 200)
SOLVERS = ("euler", "midpoint", "heun", "adaptive")
COMPONENTS = 16
N_CHANNELS = 4
RESAMPLES = 200

Floats = NDArray[np.float64]
Inputs = tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]


def now(device: str) -> float:
    """Return seconds: of this process on a processor; of the clock on a GPU, once it has done what it was given."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object], repeats: int, device: str = "cpu") -> float:
    """Return the least time of some runs, after one to warm up (on a GPU three)."""
    for _ in range(1 if device == "cpu" else 3):
        work()
    took = []
    for _ in range(repeats):
        began = now(device)
        work()
        took.append(now(device) - began)
    return min(took)


class Distance:
    """Distance of drawn images to real ones, on principal components of the real ones."""

    def __init__(self, real: NDArray[np.uint8]) -> None:
        flat = _flat(real)
        self._mean = flat.mean(axis=0)
        _, spread, directions = np.linalg.svd(flat - self._mean, full_matrices=False)
        k = min(COMPONENTS, len(real) // 8)
        self._directions = directions[:k].T / (spread[0] / np.sqrt(len(real)))
        self._real = self._project(real)
        cells = np.arange(len(real))
        self.floor = _with_interval(self._real[::2], self._real[1::2], cells[::2], cells[1::2])

    def __call__(self, drawn: NDArray[np.uint8]) -> str:
        """Return the distance and its interval, to print."""
        cells = np.arange(len(self._real))
        return _with_interval(self._project(drawn), self._real, cells, cells)

    def _project(self, images: NDArray[np.uint8]) -> Floats:
        return (_flat(images) - self._mean) @ self._directions


def _with_interval(one: Floats, other: Floats, cells: NDArray[np.int64], other_cells: NDArray[np.int64]) -> str:
    found = frechet_estimate(one, other, draw_resamples(cells, other_cells, RESAMPLES))
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _flat(images: NDArray[np.uint8]) -> Floats:
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(images).float() / 255, min(32, images.shape[-1]))
    return pooled.flatten(1).double().numpy()


def real_and_asked(args: argparse.Namespace) -> tuple[Generator, NDArray[np.uint8], Asked]:
    """Return the generator, real crops of some cells and what is known of them."""
    maker, corpus = Generator.load(args.generator, device=args.device), Corpus.open(args.corpus)
    wanted = choose_rows(corpus, maker, list(corpus.sections), split=args.split, part=args.part).at_most(args.images)
    with asking(corpus, maker, wanted, device=args.device) as asker:
        asked = asker(wanted)
    crops = [
        corpus.section(str(sample)).cells.read("obsm/single_cell_images", int(row), int(row) + 1)[0]
        for sample, row in zip(wanted.sample, wanted.row, strict=True)
    ]
    return maker, np.stack(crops), asked


def merging(args: argparse.Namespace) -> None:
    """Time one evaluation, and one step of training, at each share; memory in a process of its own."""
    print("| px | tokens | merged | evaluation, s | faster | training step, s | faster | peak memory, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for px in args.sizes:
        base: tuple[float, float] | None = None
        for ratio in RATIOS:
            network, inputs = random_network(px, args.rows, args.device)
            transformer_of(network).set_merging(ratio)
            with autocast(args):
                with torch.no_grad():
                    forward = seconds(partial(network, *inputs), args.repeats, args.device)
                step = seconds(partial(descend, network, inputs), args.repeats, args.device)
            base = base or (forward, step)
            memory = memory_of(args, px, ratio)
            print(
                f"| {px} | {(px // 8) ** 2} | {ratio:.0%} | {forward:.4f} | {base[0] / forward:.2f} × | {step:.4f} "
                f"| {base[1] / step:.2f} × | {memory:.0f} |",
                flush=True,
            )
    if args.generator is not None:
        maker, real, asked = real_and_asked(args)
        distance = Distance(real)
        print(f"\n{maker.space.px} px, {len(real)} images; real to real (halves): {distance.floor}\n")
        print("| merged | distance | seconds |\n|---|---|---|")
        for ratio in RATIOS:
            maker.set_merging(ratio)
            began = now(args.device)
            drawn = maker.draw(asked, Drawing(precision=args.precision)).images[:, 0]
            took = now(args.device) - began
            print(f"| {ratio:.0%} | {distance(drawn)} | {took:.1f} |", flush=True)


def autocast(args: argparse.Namespace, precision: str | None = None) -> torch.autocast:
    """Compute in the precision asked for."""
    return torch.autocast(args.device, torch.bfloat16, enabled=(precision or args.precision) == "bf16-mixed")


def descend(network: Callable[..., Tensor], inputs: Inputs, optimiser: torch.optim.Optimizer | None = None) -> None:
    """Take one step of training, or only its gradient."""
    network(*inputs).float().square().mean().backward()
    if optimiser is not None:
        optimiser.step()
        optimiser.zero_grad()


def random_network(px: int, rows: int, device: str, **sizes: Any) -> tuple[CellGenerator, Inputs]:
    """Return a transformer of the default sizes, or another network, and inputs for it."""
    space = ImageSpace(tuple("abcd"[:N_CHANNELS]), px, 0.425, (0.2,) * N_CHANNELS, (0.2,) * N_CHANNELS)
    torch.manual_seed(0)
    settings = NetworkSettings.model_validate({"kind": "transformer", **sizes})
    network = CellGenerator(GeneratorConfig(conditions=("genes",), network=settings), space, {"genes": 64}).to(device)
    x, t = torch.randn(rows, N_CHANNELS, px, px, device=device), torch.rand(rows, device=device)
    told = torch.ones(rows, dtype=torch.bool, device=device)
    return network, (x, t, {"genes": torch.randn(rows, 64, device=device)}, {"genes": told})


def transformer_of(generator: CellGenerator) -> DiffusionTransformer:
    """Return the network that merges tokens."""
    assert isinstance(generator.network, DiffusionTransformer)
    return generator.network


def memory_of(args: argparse.Namespace, px: int, ratio: float) -> float:
    """Return the peak memory of a training step above that before it, MB; on a processor of a process of its own."""
    if args.no_memory:
        return float("nan")
    if args.device == "cpu":
        command = [sys.executable, __file__, "memory", "--sizes", str(px), "--ratio", str(ratio), "--rows"]
        done = subprocess.run([*command, str(args.rows)], check=True, capture_output=True, text=True)
        return float(done.stdout)
    network, inputs = random_network(px, args.rows, args.device)
    transformer_of(network).set_merging(ratio)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with autocast(args):
        descend(network, inputs)
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def training(args: argparse.Namespace) -> None:
    """Steps of training a U-Net at 64 px: images a second, and the share of what matrix products reach."""
    side = 8192 if args.device == "cuda" else 2048
    rates = {}
    for name, kind in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        a, b = (torch.randn(side, side, device=args.device, dtype=kind) for _ in range(2))
        rates[name] = 2 * side**3 / seconds(partial(torch.matmul, a, b), 10, args.device)
        print(f"matrix product {side}³, {kind}: {rates[name] / 1e12:.4g} TFLOP/s", flush=True)
    print(
        "\n| width | images of a step | precision | compiled | images a second | TFLOP/s | of matrix products | drawing: images a second for one evaluation |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for width, rows, precision in product(args.widths, args.batches, args.precisions):
        for compiled in (False, True) if args.compile else (False,):
            network, inputs = random_network(64, rows, args.device, kind="unet", width=width)
            asked = torch.compile(network) if compiled else network
            optimiser = torch.optim.AdamW(network.parameters(), fused=args.device == "cuda")
            with autocast(args, precision), FlopCounterMode(display=False) as counter:
                descend(network, inputs, optimiser)
            with autocast(args, precision):
                took = seconds(partial(descend, asked, inputs, optimiser), args.repeats, args.device)
                with torch.no_grad():
                    forward = seconds(partial(asked, *inputs), args.repeats, args.device)
            rate = counter.get_total_flops() / took
            print(
                f"| {width} | {rows} | {precision} | {'yes' if compiled else 'no'} | {rows / took:,.0f} "
                f"| {rate / 1e12:.3g} | {rate / rates[precision]:.1%} | {rows / forward:,.0f} |",
                flush=True,
            )


def memory(args: argparse.Namespace) -> None:
    """Print the peak memory of one training step."""
    network, inputs = random_network(args.sizes[0], args.rows, "cpu")
    transformer_of(network).set_merging(args.ratio)
    before = peak_memory_bytes()
    descend(network, inputs)
    print((peak_memory_bytes() - before) / 1e6)


def evaluations(args: argparse.Namespace) -> None:
    """Distance by solver and number of evaluations."""
    maker, real, asked = real_and_asked(args)
    distance = Distance(real)
    print(f"{len(real)} images, guidance 1; real to real (halves): {distance.floor}\n")
    kinds = args.solvers
    print("| evaluations | " + " | ".join(kinds) + " |\n|---|" + "---|" * len(kinds))
    for number in args.evaluations:
        found = []
        for kind in kinds:
            if kind == "adaptive" and number < LEAST_ADAPTIVE:
                found.append("")
                continue
            how = Drawing(1, 0, SolverSettings(kind=kind, evaluations=number), precision=args.precision)
            drawn = maker.draw(asked, how)
            used = "" if drawn.evaluations == number else f" ({drawn.evaluations})"
            found.append(f"{distance(drawn.images[:, 0])}{used}")
        print(f"| {number} | " + " | ".join(found) + " |", flush=True)


def images(args: argparse.Namespace) -> None:
    """Images a second: the default solver beside 200 midpoint steps with guidance, through the same network."""
    maker, real, asked = real_and_asked(args)
    distance = Distance(real)
    print(f"{len(real)} images; real to real (halves): {distance.floor}\n")
    print("| how | evaluations | images a second | faster | distance |\n|---|---|---|---|---|")
    slow = Drawing(1, 0, SolverSettings(kind="midpoint", evaluations=400), guidance=1.5, precision=args.precision)
    base = None
    for name, how in (("200 midpoint steps, guidance 1.5", slow), ("default", Drawing(precision=args.precision))):
        if args.device != "cpu":
            maker.draw(asked, how)  # chooses kernels
        began = now(args.device)
        drawn = maker.draw(asked, how)
        rate = len(real) / (now(args.device) - began)
        base = base or rate
        print(
            f"| {name} | {drawn.evaluations} | {rate:.2f} | {rate / base:.1f} × | {distance(drawn.images[:, 0])} |",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["merging", "evaluations", "images", "training", "memory"])
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--part")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rows", type=int, default=8, help="images of one evaluation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--evaluations", type=int, nargs="+", default=EVALUATIONS)
    parser.add_argument("--solvers", nargs="+", default=SOLVERS)
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory: a process for each line")
    parser.add_argument("--ratio", type=float, default=0.0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=get_args(Precision), default="32-true")
    parser.add_argument("--precisions", choices=get_args(Precision), nargs="+", default=get_args(Precision))
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 128, 512], help="of `training`")
    parser.add_argument("--widths", type=int, nargs="+", default=[192], help="of `training`: network.width")
    parser.add_argument("--compile", action="store_true", help="of `training`: compiled as well")
    args = parser.parse_args(arguments)
    if args.what in ("evaluations", "images") and (args.generator is None or args.corpus is None):
        parser.error(f"{args.what} needs --generator and --corpus")
    torch.set_num_threads(1)
    suites = {"merging": merging, "evaluations": evaluations, "images": images, "training": training, "memory": memory}
    suites[args.what](args)


if __name__ == "__main__":
    main()
