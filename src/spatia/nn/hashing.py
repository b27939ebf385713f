"""Random numbers that are functions of what they are for, not of when they are drawn.

A cell's mask in an epoch is a hash of (seed, epoch, purpose, section, row). So it does not depend on batch, order, number of
workers or ranks, and a resumed run needs no saved generator to draw what the unbroken run would have drawn.
The mixing function is splitmix64 (Steele, Lea and Flood 2014).
"""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import torch
from jaxtyping import Float32, Int64
from torch import Tensor


def hash_uniform(keys: Int64[Tensor, "rows"], draws: int, *stream: int) -> Float32[Tensor, "rows draws"]:
    """Return uniform numbers in [0, 1), 24 bits each.

    Parameters
    ----------
    keys
        One integer per row.
    draws
        Numbers per row; number j of a row does not depend on how many are drawn.
    stream
        Integers that name the purpose, such as (seed, epoch, purpose).

    Examples
    --------
    >>> keys = torch.arange(1000)
    >>> u = hash_uniform(keys, 2, 7)
    >>> bool(torch.equal(u[5:6], hash_uniform(keys[5:6], 2, 7))), round(u.mean().item(), 1)
    (True, 0.5)
    """
    state = keys
    for number in stream:
        state = _mix(state + _signed(_GOLDEN * (number + 1)))
    columns = torch.arange(1, draws + 1, device=keys.device, dtype=torch.int64) * _GOLDEN
    bits = _mix(state[:, None] + columns[None, :])
    return (_shift_right(bits, 40)).to(torch.float32) / 2**24


def row_keys(section: Int64[Tensor, "rows"], row: Int64[Tensor, "rows"]) -> Int64[Tensor, "rows"]:
    """Return one integer per (section, row)."""
    return section * 2**40 + row


def _signed(number: int) -> int:
    """Wrap an integer to 64 bits with sign, as tensors hold them."""
    return (number + 2**63) % 2**64 - 2**63


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _shift_right(state: Tensor, by: int) -> Tensor:
    return (state >> by) & ((1 << (64 - by)) - 1)  # torch shifts the sign in; splitmix64 shifts zeros


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift_right(state, 30)) * _FIRST
    state = (state ^ _shift_right(state, 27)) * _SECOND
    return state ^ _shift_right(state, 31)
