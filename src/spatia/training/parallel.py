"""One module on one or many devices: Fabric for devices, precision and launch, DDP, and sharded parameters (FSDP2)."""

import atexit
import copy
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from spatia.errors import SettingsError
from spatia.training.settings import LoopSettings
from spatia.training.stage import LossTerm

INTERACTIVE_JOBS: Final = ("bash", "interactive")  # SLURM jobs in which the user starts processes by hand


class Held:
    """A batch and the epoch, as one object that the wrappers pass on untouched.

    Fabric converts the tensors in what it is given, and takes dataclasses apart for that; batches are frozen, and
    their dtypes are part of their contract.
    """

    __slots__ = ("batch", "epoch")

    def __init__(self, batch: Any, epoch: int) -> None:
        self.batch = batch
        self.epoch = epoch


class TermTotals(nn.Module):
    """Give the terms of a stage's module as one tensor: what DDP and FSDP hang their hooks on.

    Parameters
    ----------
    module
        ``forward(batch, epoch)`` returns terms by name.
    names
        All terms there may be, in the order of the columns.
    """

    def __init__(self, module: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(names)
        self.always: list[tuple[nn.Module, str]] = []  # parameters (owner, name) that get a gradient from every batch

    def forward(self, held: Held) -> Tensor:
        """Return (2, terms): totals and counts, 0 for a term that the batch does not have."""
        terms: Mapping[str, LossTerm] = self.module(held.batch, held.epoch)
        if unknown := set(terms) - set(self.names):
            raise ValueError(f"{type(self.module).__name__} returned terms without a weight: {sorted(unknown)}.")
        nothing = torch.zeros((), device=next(self.module.parameters()).device)
        totals = [terms[name].total.float() if name in terms else nothing for name in self.names]
        counts = [terms[name].count.to(nothing) if name in terms else nothing for name in self.names]
        if self.always:
            totals[0] = totals[0] + 0 * torch.stack([getattr(owner, name).sum() for owner, name in self.always]).sum()
        return torch.stack([torch.stack(totals), torch.stack(counts)])

    def embedding(self, held: Held) -> Tensor:
        """Return the embedding (rows, width) of the rows of a batch."""
        embed: Any = self.module.embedding
        result: Tensor = embed(held.batch)
        return result


class Parallel:
    """A stage's module, spread over the devices as the strategy says.

    Attributes
    ----------
    module
        The module whose weights are trained. Under ``fsdp`` a sharded copy: the given one stays whole, for the next
        stage and for writing.
    trained
        Its parameters that learn, by name.
    """

    def __init__(self, module: nn.Module, names: Iterable[str], fabric: Fabric, *, sharded: bool) -> None:
        self._fabric, self._given, self.sharded = fabric, module, sharded
        self.module = copy.deepcopy(module) if sharded else module
        self._terms = TermTotals(self.module, names)
        self._whole: list[nn.Parameter] = []  # parameters that learn and cannot be sharded
        if sharded:
            self._shard()
            self._forward: nn.Module = self._terms
        else:
            self._forward = fabric.setup_module(self._terms)
        self.trained = {name: value for name, value in self.module.named_parameters() if value.requires_grad}

    def __call__(self, held: Held) -> Tensor:
        """Return (2, terms) for training."""
        with self._fabric.autocast(), warnings.catch_warnings():
            # whether a batch uses every parameter depends on the batch, so DDP must look each time
            warnings.filterwarnings("ignore", message=r"find_unused_parameters=True was specified")
            result: Tensor = self._forward(held)
            return result

    def evaluate(self, held: Held) -> Tensor:
        """Return (2, terms) without gradients. Under DDP ranks may call this different numbers of times."""
        with torch.no_grad(), self._fabric.autocast():
            result: Tensor = self._terms(held)
            return result

    @property
    def has_embedding(self) -> bool:
        """Whether the module has an embedding to watch."""
        return hasattr(self.module, "embedding")

    def embedding(self, held: Held) -> Tensor:
        """Return (rows, width) without gradients, of a module that has an embedding."""
        with torch.no_grad(), self._fabric.autocast():
            return self._terms.embedding(held)

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, averaged over the ranks."""
        self._fabric.backward(loss)
        for parameter in self._whole:
            # every rank takes part, also one whose batch did not use the parameter
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= self._fabric.world_size

    def return_weights(self) -> None:
        """Copy the weights into the module that was given."""
        if self.sharded:
            self._given.load_state_dict({name: whole(value).cpu() for name, value in self.module.state_dict().items()})

    def _shard(self) -> None:
        """Shard every block of a module list alone, so that one block at a time is whole, then what is left."""
        self._terms.to(self._fabric.device)
        # FSDP takes no scalars, and nothing of size 0 (a vocabulary without morphology features, say). What stands still stays whole:
        # stage `context` asks the cell encoder as often as it meets new cells, another number of times on each rank.
        unfit = {
            value
            for value in self._terms.parameters()
            if value.ndim == 0 or not value.numel() or not value.requires_grad
        }
        self._whole = [value for value in self._terms.parameters() if value in unfit and value.requires_grad]
        lists = [part for part in self.module.modules() if isinstance(part, nn.ModuleList)]
        blocks = [block for part in lists for block in part if any(value.requires_grad for value in block.parameters())]
        for block in reversed(blocks):  # inner ones first
            fully_shard(block, ignored_params=unfit)
        # A parameter that one rank's batch leaves unused would be missing in the exchange of gradients. Blocks are used by
        # every batch; what is left is the root's.
        inside = {part for block in blocks for part in block.modules()}
        self._terms.always = [
            (owner, name)
            for owner in self._terms.modules()
            if owner not in inside
            for name, value in owner.named_parameters(recurse=False)
            if value.requires_grad and value not in unfit
        ]
        # resharded after the forward pass too: weights are exchanged for averaged ones between two passes
        fully_shard(self._terms, reshard_after_forward=True, ignored_params=unfit)
        register_fsdp_forward_method(self._terms, "embedding")


@contextmanager
def processes(settings: LoopSettings) -> Iterator[Fabric]:
    """Run what is inside on all processes of the settings, which leave together.

    Raises
    ------
    SettingsError
        As :func:`make_fabric`.
    """
    fabric = make_fabric(settings)
    fabric.launch()
    atexit.unregister(_end_communication)
    yield fabric
    # Not reached after an error: what the other processes never answer would be waited for.
    fabric.barrier()
    # A thread of gloo that is still alive while Python ends can abort its process. The group is left only at exit, as
    # the next training of this process uses it again.
    atexit.register(_end_communication)


def _end_communication() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def make_fabric(settings: LoopSettings) -> Fabric:
    """Make the Fabric of a run; under torchrun or SLURM with the processes that these have started.

    Raises
    ------
    SettingsError
        If the processes or the device that the settings ask for are not there.
    """
    started = _started_processes()
    devices, num_nodes = started or (1, 1)
    for name, wanted, found in (("devices", settings.devices, devices), ("num_nodes", settings.num_nodes, num_nodes)):
        if started is not None and wanted not in {"auto", found}:
            raise SettingsError(
                f"{name}={wanted}, but torchrun or SLURM started {devices} process(es) on each of {num_nodes} machine(s). "
                f"Leave {name} at 'auto', or start as many."
            )
    devices = devices if settings.devices == "auto" else settings.devices
    num_nodes = num_nodes if settings.num_nodes == "auto" else settings.num_nodes
    distributed = settings.strategy != "auto" or devices * num_nodes > 1
    try:
        return Fabric(
            accelerator=settings.accelerator,
            devices=devices,
            num_nodes=num_nodes,
            # a batch without images does not use the image encoder: DDP must not wait for its gradients
            strategy=DDPStrategy(find_unused_parameters=True) if distributed else "auto",
            precision=settings.precision,
        )
    except (ValueError, RuntimeError) as error:  # Fabric's own words for a device that is not there
        asked = f"accelerator={settings.accelerator}, devices={devices}, strategy={settings.strategy}"
        raise SettingsError(f"{asked}: {error}") from error


def _started_processes() -> tuple[int, int] | None:
    """Return (processes on each machine, machines) of torchrun or SLURM; None where the user started one process."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        here = int(environment["LOCAL_WORLD_SIZE"])
        return here, int(environment["WORLD_SIZE"]) // here
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in INTERACTIVE_JOBS:
        nodes = int(environment.get("SLURM_NNODES", "1"))
        return int(environment.get("SLURM_NTASKS_PER_NODE", int(environment["SLURM_NTASKS"]) // nodes)), nodes
    return None


def local(value: Tensor) -> Tensor:
    """Return this rank's part of a tensor, sharing its memory; a tensor that is not sharded is its own part."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """Return all of a tensor; every rank must call this for a sharded one."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def cut_like(value: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor that every rank holds, in the way of ``like``, and move it to its device."""
    moved = value.to(like.device)
    if not isinstance(like, DTensor):
        return moved
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


def clip_gradients(parameters: Iterable[nn.Parameter], greatest: float) -> float:
    """Scale gradients down to a norm of at most ``greatest``; returns the norm before, over all parts of all of them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    parts = [local(gradient) for gradient in gradients]
    # torch's own function refuses sharded and whole gradients together
    squares = torch.stack([norm.square() for norm in torch._foreach_norm(parts)])
    sharded = torch.tensor([isinstance(gradient, DTensor) for gradient in gradients], device=squares.device)
    of_shards = squares[sharded].sum()
    if bool(sharded.any()):
        torch.distributed.all_reduce(of_shards)
    norm = float((of_shards + squares[~sharded].sum()).sqrt())
    if norm > greatest:
        torch._foreach_mul_(parts, greatest / norm)
    return norm


def sum_over_ranks(values: Tensor, fabric: Fabric) -> Tensor:
    """Return the sum of a tensor over ranks, on each."""
    result: Any = fabric.all_reduce(values, reduce_op="sum")
    summed: Tensor = result
    return summed


def gather_objects(value: Any, fabric: Fabric) -> list[Any]:
    """Return the value of every rank, in the order of ranks."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def padded(batches: Iterable[Any], n_batches: int, make_filler: Callable[[], Any]) -> Iterator[tuple[Any, bool]]:
    """Yield exactly ``n_batches``, each with whether it is one of ``batches`` and not a filler.

    Under FSDP every rank must compute as many batches as the others, whatever it has.
    """
    number = 0
    for batch in batches:
        number += 1
        yield batch, True
    filler = make_filler() if number < n_batches else None
    for _ in range(n_batches - number):
        yield filler, False
