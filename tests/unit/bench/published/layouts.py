"""Names and shapes that published files of weights share, and ways to write the files beside them."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], None]
Writer = Callable[[Path, Change], Path]


def as_it_is(tensors: Tensors) -> None:
    """Change nothing."""


def linear(name: str, n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a linear layer."""
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def torch_layer(name: str, width: int, hidden: int, joint: str = "in_proj_") -> dict[str, tuple[int, ...]]:
    """Shapes of torch's transformer encoder layer."""
    return {
        f"{name}.self_attn.{joint}weight": (3 * width, width),
        f"{name}.self_attn.{joint}bias": (3 * width,),
        **linear(f"{name}.self_attn.out_proj", width, width),
        **linear(f"{name}.linear1", width, hidden),
        **linear(f"{name}.linear2", hidden, width),
        **norm(f"{name}.norm1", width),
        **norm(f"{name}.norm2", width),
    }


def write_json(path: Path, content: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_pickle(path: Path, content: Any) -> None:
    """Write a pickle, as Geneformer's dictionaries are."""
    path.write_bytes(pickle.dumps(content))
