"""Layers written out from the formulas of their papers, to compare loaded models with."""

import math

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


def linear(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """x Wᵀ + b."""
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def norm(tensors: Tensors, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Layer norm over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, used: Tensor | None = None) -> Tensor:
    """Softmax attention of (tokens, width) to (context, width), head by head; ``used`` says which of the context count."""
    parts = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        weight = q @ k.T / math.sqrt(q.shape[-1])
        if used is not None:
            weight = weight.masked_fill(~used, -torch.inf)
        parts.append(weight.softmax(-1) @ v)
    return torch.cat(parts, -1)


def torch_layer(
    tensors: Tensors,
    name: str,
    x: Tensor,
    heads: int,
    used: Tensor | None = None,
    *,
    eps: float = 1e-5,
    joint: str = "in_proj_",
) -> Tensor:
    """Post-norm transformer layer with ReLU, over the tokens of one cell, (tokens, width)."""
    weight, bias = tensors[f"{name}.self_attn.{joint}weight"], tensors[f"{name}.self_attn.{joint}bias"]
    query, key, value = (x @ weight.T + bias).chunk(3, -1)
    read = linear(tensors, f"{name}.self_attn.out_proj", attention(query, key, value, heads, used))
    x = norm(tensors, f"{name}.norm1", x + read, eps)
    return norm(
        tensors,
        f"{name}.norm2",
        x + linear(tensors, f"{name}.linear2", linear(tensors, f"{name}.linear1", x).relu()),
        eps,
    )
