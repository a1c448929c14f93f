"""The trunk: a transformer that reads [context; candidate] with the context encoded once.

The context never looks at the candidates, so its keys and values are computed in `bind` and reused for every
descent (or denoising) step and every candidate.

    B batch   L context tokens   N candidate tokens   D width   H heads
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

MAX_TOKENS = 512
KeysValues = tuple[Tensor, Tensor]  # of one block, each (B, H, L, D/H)


class Attention(nn.Module):
    """Softmax attention, plain where training needs a second derivative, which fused kernels lack."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, prefix: KeysValues | None, mask: Tensor | None, fused: bool
    ) -> tuple[Tensor, KeysValues]:
        """x (B, N, D) attends to prefix, 2 x (B, H, L, D/H), and itself; mask (N, L+N) is True where it may look.

        Returns the output (B, N, D) and x's own keys and values, 2 x (B, H, N, D/H).
        """
        q, k, v = self.project(x)
        own = (k, v)
        if prefix is not None:
            k, v = (torch.cat(pair, dim=-2) for pair in zip(prefix, own, strict=True))  # (B, H, L+N, D/H)
        mix = nn.functional.scaled_dot_product_attention if fused else _attend
        return self.out(mix(q, k, v, mask).transpose(1, 2).reshape(x.shape)), own

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> its queries, keys and values, each (B, H, N, D/H)."""
        B, N, D = x.shape
        return self.qkv(x).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind()


class Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1, self.attn = nn.RMSNorm(dim, eps=1e-5), Attention(dim, heads)
        self.norm2 = nn.RMSNorm(dim, eps=1e-5)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))

    def forward(
        self, x: Tensor, prefix: KeysValues | None, mask: Tensor | None, fused: bool
    ) -> tuple[Tensor, KeysValues]:
        h, own = self.attn(self.norm1(x), prefix, mask, fused)
        x = x + h
        return x + self.mlp(self.norm2(x)), own


class Transformer(nn.Module):
    """look="all": every candidate token sees all context and all candidates (actions, images).
    look="past": candidate i sees context <= i and itself alone (text, all positions at once).
    """

    def __init__(self, dim: int, depth: int, heads: int, look: Literal["all", "past"] = "all"):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim {dim} and {heads} heads")
        self.dim, self.look = dim, look
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        self.pos = nn.Parameter(torch.randn(MAX_TOKENS, dim) * 0.02)

    def bind(self, ctx: Tensor) -> Callable[[Tensor], Tensor]:
        """Fix the context (B, L, D); returns features(tokens (B, N, D)) -> (B, N, D).

        Bound without grad mode nobody can ask for a second derivative, so attention is fused there.
        """
        L, fused = ctx.shape[1], not torch.is_grad_enabled()
        x = ctx + self.pos[:L]
        mask = torch.ones(L, L, dtype=torch.bool, device=x.device).tril() if self.look == "past" else None
        prefixes = []
        for i, block in enumerate(self.blocks):
            if i + 1 < len(self.blocks):
                x, own = block(x, None, mask, fused)
            else:  # of the last block only keys and values are read
                _, *own = block.attn.project(block.norm1(x))
            prefixes.append(own)
        return lambda tokens: self(tokens, prefixes, fused)

    def forward(self, tokens: Tensor, prefixes: list[KeysValues], fused: bool) -> Tensor:
        """tokens (B, N, D) and the context's keys and values per block -> features (B, N, D)."""
        N, L, device = tokens.shape[1], prefixes[0][0].shape[-2], tokens.device
        first, mask = (L, None) if self.look == "all" else (1, _past(N, L, device))
        x = tokens + self.pos[first : first + N]
        for block, prefix in zip(self.blocks, prefixes, strict=True):
            x, _ = block(x, prefix, mask, fused)
        return self.norm(x)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    score = q @ k.transpose(-1, -2) / k.shape[-1] ** 0.5  # (B, H, N, L+N)
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf)
    return score.softmax(-1) @ v


def _past(n: int, past: int, device) -> Tensor:
    """(N, L+N): candidate i may look at context <= i and at itself."""
    see_ctx = torch.ones(n, past, dtype=torch.bool, device=device).tril()
    return torch.cat([see_ctx, torch.eye(n, dtype=torch.bool, device=device)], dim=1)
