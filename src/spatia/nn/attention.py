"""Attention and transformer blocks. Tensors in, tensors out; PyTorch's fused attention, pre-normalisation.

A block may start *closed*: its output gate is zero, so that at step 0 it is the identity and what stands before it is
unchanged (pretrained features, a linear summary). References: Vaswani et al. 2017; Lee et al. 2019 for the set layer.
"""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to a context.

    Parameters
    ----------
    width
        Features of a token.
    heads
        Number of heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Float[Tensor, "rows tokens width"],
        context: Float[Tensor, "rows context width"],
        context_used: Bool[Tensor, "rows context"] | None = None,
    ) -> Float[Tensor, "rows tokens width"]:
        """Let each token read from the context tokens that are in use (each row needs at least one)."""
        query, key, value = self.query(tokens), self.key(context), self.value(context)
        mask = None if context_used is None else context_used[:, None, None, :]
        read = F.scaled_dot_product_attention(self._split(query), self._split(key), self._split(value), attn_mask=mask)
        return self.out(read.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        rows, length, width = tokens.shape
        return tokens.view(rows, length, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, ratio: float) -> None:
        hidden = int(width * ratio)
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def close(self) -> "FeedForward":
        """Let it start at zero."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)
        return self


class SelfBlock(nn.Module):
    """A transformer layer: ``x += MHA(LN(x)); x += FF(LN(x))``.

    Parameters
    ----------
    norm_eps
        ε of the layer norms (ViT-MAE's weights were trained with 1e-12).

    Examples
    --------
    >>> SelfBlock(16, heads=2, ratio=2.0)(torch.zeros(3, 5, 16)).shape
    torch.Size([3, 5, 16])
    """

    def __init__(self, width: int, heads: int, ratio: float, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads)
        self.norm_feed = nn.LayerNorm(width, eps=norm_eps)
        self.feed = FeedForward(width, ratio)

    def forward(
        self, tokens: Float[Tensor, "rows tokens width"], used: Bool[Tensor, "rows tokens"] | None = None
    ) -> Float[Tensor, "rows tokens width"]:
        """Return the tokens after one layer; tokens that are not in use are read by none."""
        normed = self.norm_attention(tokens)
        tokens = tokens + self.attention(normed, normed, used)
        return tokens + self.feed(self.norm_feed(tokens))


class CrossBlock(nn.Module):
    r"""Tokens read from a context through gates that start closed.

    .. math:: x \mathrel{+}= g_1 \cdot \mathrm{MHA}(\mathrm{LN}(x), \mathrm{LN}(y)); \quad x \mathrel{+}= g_2 \cdot \mathrm{FF}(\mathrm{LN}(x))

    Parameters
    ----------
    closed
        Start with both gates at zero (the identity); otherwise at one, an ordinary cross-attention layer.
    """

    def __init__(self, width: int, heads: int, ratio: float, *, closed: bool) -> None:
        super().__init__()
        self.norm_tokens, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = FeedForward(width, ratio)
        start = torch.zeros(width) if closed else torch.ones(width)
        self.gate_attention, self.gate_feed = nn.Parameter(start.clone()), nn.Parameter(start.clone())

    def forward(
        self,
        tokens: Float[Tensor, "rows tokens width"],
        context: Float[Tensor, "rows context width"],
        context_used: Bool[Tensor, "rows context"] | None = None,
    ) -> Float[Tensor, "rows tokens width"]:
        """Return the tokens after they have read from the context."""
        read = self.attention(self.norm_tokens(tokens), self.norm_context(context), context_used)
        tokens = tokens + self.gate_attention * read
        return tokens + self.gate_feed * self.feed(self.norm_feed(tokens))


class SetBlock(nn.Module):
    """A layer over a set whose cost is linear in its size: members write to a few latents and read back.

    The induced set attention of Lee et al. (2019), "Set Transformer": no order, any number of members.

    Parameters
    ----------
    latents
        Number of latent tokens.
    """

    def __init__(self, width: int, heads: int, ratio: float, latents: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.write = CrossBlock(width, heads, ratio, closed=False)
        self.read = CrossBlock(width, heads, ratio, closed=False)

    def forward(
        self, members: Float[Tensor, "rows members width"], used: Bool[Tensor, "rows members"] | None = None
    ) -> Float[Tensor, "rows members width"]:
        """Return the members after one layer; members that are not in use are read by none."""
        latents = self.write(self.latents.expand(len(members), -1, -1), members, used)
        return self.read(members, latents)
