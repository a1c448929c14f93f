"""The trunk of language models: rotary positions, SwiGLU, no biases (Llama 2); any number of tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ebt_policy.core.transformer import Attention, Block, Trunk, Turn, check_size

BASE = 1e4  # of the wavelengths


class SwiGLU(nn.Module):
    """w2(silu(w1 x) * w3 x), with as many hidden units as channels, as published for EBTs."""

    def __init__(self, dim: int):
        super().__init__()
        self.w1, self.w2, self.w3 = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


class RotaryTransformer(Trunk):
    """Positions turn queries and keys, so that only distances count."""

    def __init__(self, dim: int, depth: int, heads: int, look: Literal["all", "past"] = "past"):
        check_size(dim, depth, heads)
        if dim % (2 * heads):
            raise ValueError(f"dim must be a multiple of twice the heads, got dim {dim} and {heads} heads")
        super().__init__(dim, (Block(dim, Attention(dim, heads, bias=False), SwiGLU(dim)) for _ in range(depth)), look)
        channels = torch.arange(0, dim // heads, 2) / (dim // heads)
        self.register_buffer("frequency", BASE**-channels, persistent=False)  # (D/H/2,) radians a token

    def place(self, x: Tensor, at: slice) -> tuple[Tensor, Turn]:
        position = torch.arange(at.start, at.stop, device=x.device)
        angle = position[:, None] * self.frequency  # (N or 1, D/H/2)
        return x, (angle.cos(), angle.sin())
