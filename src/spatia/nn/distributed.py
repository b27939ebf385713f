"""Sums and gathers over ranks that are the identity in a single process."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

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
    """Return the rows of all ranks, rank by rank, with gradients; every rank has the same number."""
    if world()[1] == 1:
        return rows
    return torch.cat(list(all_gather(rows.contiguous())), dim=0)
