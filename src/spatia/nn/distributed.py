"""Sums and gathers over ranks that are the identity in a single process."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

import warnings

import torch
from jaxtyping import Float
from torch import Tensor
from torch import distributed as dist
from torch.distributed.nn.functional import all_gather


def world() -> tuple[int, int]:
    """Return (rank, number of ranks)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_rows(rows: Float[Tensor, "rows width"]) -> Float[Tensor, "all width"]:
    """Return the rows of all ranks, rank by rank, with gradients; every rank has the same number.

    Without gradients, in validation, a rank keeps to its own rows: there are not as many on each.
    """
    if world()[1] == 1 or not torch.is_grad_enabled():
        return rows
    with warnings.catch_warnings():
        # torch announces that this function will move; it is the one that passes gradients between processes
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed.*")
        return torch.cat(list(all_gather(rows.contiguous())), dim=0)
