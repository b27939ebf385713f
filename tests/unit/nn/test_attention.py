"""Blocks: closed gates are the identity, tokens that are not in use are read by none, sets have no order."""

import torch

from spatia.nn.attention import CrossBlock, SelfBlock, SetBlock


def tokens(rows: int = 2, length: int = 5, width: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, length, width, generator=torch.Generator().manual_seed(seed))


def test_a_closed_block_is_the_identity() -> None:
    torch.manual_seed(0)
    block = CrossBlock(16, 2, 2.0, closed=True)
    x = tokens()
    assert torch.equal(block(x, tokens(seed=1)), x)


def test_a_closed_block_can_open() -> None:
    torch.manual_seed(0)
    block = CrossBlock(16, 2, 2.0, closed=True)
    (block(tokens(), tokens(seed=1)) * tokens(seed=2)).sum().backward()
    assert block.gate_attention.grad is not None
    assert block.gate_attention.grad.abs().min() > 0


def test_tokens_that_are_not_in_use_change_nothing() -> None:
    torch.manual_seed(0)
    used = torch.tensor([[True, True, False, True, False]] * 2)
    x, other = tokens(), tokens()
    other[:, [2, 4]] = 100.0
    for block in (SelfBlock(16, 2, 2.0), SetBlock(16, 2, 2.0, latents=3)):
        one, two = block(x, used), block(other, used)
        torch.testing.assert_close(one[used], two[used], rtol=1e-5, atol=1e-6)


def test_a_set_has_no_order() -> None:
    torch.manual_seed(0)
    block, x, order = SetBlock(16, 2, 2.0, latents=3), tokens(), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(block(x)[:, order], block(x[:, order]), rtol=1e-5, atol=1e-6)
