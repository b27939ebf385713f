"""A layer that passes values on and turns gradients round (Ganin and Lempitsky 2015)."""

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return -gradient


def reverse_gradient(values: Tensor) -> Tensor:
    """Return the values; what stands before is trained *against* the loss that stands behind."""
    result: Tensor = _Reverse.apply(values)
    return result
