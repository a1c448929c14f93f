"""Diffusion Policy's other network: a one-dimensional U-Net over time, its features scaled and shifted by the context.

    B batch   N time steps   P action dimensions   L context tokens   D their width   C channels

It takes the place of `Field` (network: in a method's YAML); the EBT's trunk is then not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.baselines.field import FieldFn, LevelEmbedding
from ebt_policy.core.transformer import Transformer

GROUPS, KERNEL = 8, 5


class ConditionalUnet(nn.Module):
    """widths: channels C at each scale, each half as long in time as the one before; multiples of 8.
    context: tokens L of the context, as many as steps are observed.
    """

    def __init__(self, tokenize: nn.Module, trunk: Transformer, widths: Sequence[int], context: int):
        super().__init__()
        bounds.whole("context", context, "[1, inf)")
        for width in widths:
            bounds.whole("width", width, "[1, inf)")
        if any(width % GROUPS for width in widths) or len(widths) < 2:
            raise ValueError(f"expected at least two widths, multiples of {GROUPS}, got {list(widths)}")
        size, dim = tokenize.size, trunk.dim
        self.shrink = 2 ** (len(widths) - 1)
        self.level = LevelEmbedding(dim)
        cond = dim * (1 + context)
        ins, pairs = [size, *widths[:-1]], list(zip(widths[1:], widths[:-1], strict=True))
        self.down = nn.ModuleList(FilmBlock(a, b, cond) for a, b in zip(ins, widths, strict=True))
        self.shorten = nn.ModuleList(nn.Conv1d(c, c, 3, stride=2, padding=1) for c in widths[:-1])
        self.middle = FilmBlock(widths[-1], widths[-1], cond)
        self.lengthen = nn.ModuleList(nn.ConvTranspose1d(a, a, 4, stride=2, padding=1) for a, _ in pairs[::-1])
        self.up = nn.ModuleList(FilmBlock(a + b, b, cond) for a, b in pairs[::-1])
        self.readout = nn.Conv1d(widths[0], size, 1)

    def bind(self, ctx: Tensor) -> FieldFn:
        """Fix the context (B, L, D); returns field(y (B, N, P), t (B,)) -> (B, N, P)."""
        flat = ctx.flatten(1)
        return lambda y, t: self(y, torch.cat([self.level(t), flat], dim=1))

    def forward(self, y: Tensor, cond: Tensor) -> Tensor:
        """y (B, N, P), cond (B, D * (1 + L)) -> (B, N, P)."""
        if y.shape[1] % self.shrink:
            raise ValueError(f"the U-Net halves time: expected a multiple of {self.shrink} steps, got {y.shape[1]}")
        x, skips = y.transpose(1, 2), []  # (B, C, N)
        for block, shorten in zip(self.down, [*self.shorten, None], strict=True):
            x = block(x, cond)
            if shorten is not None:
                skips.append(x)
                x = shorten(x)
        x = self.middle(x, cond)
        for lengthen, block in zip(self.lengthen, self.up, strict=True):
            x = block(torch.cat([lengthen(x), skips.pop()], dim=1), cond)
        return self.readout(x).transpose(1, 2)


class FilmBlock(nn.Module):
    """Two convolutions with a shortcut; between them every channel is scaled and shifted (FiLM, Perez et al., 2018)."""

    def __init__(self, size_in: int, size_out: int, cond: int):
        super().__init__()
        self.first, self.second = _convolution(size_in, size_out), _convolution(size_out, size_out)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(cond, 2 * size_out))
        self.shortcut = nn.Conv1d(size_in, size_out, 1) if size_in != size_out else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """x (B, C, N), cond (B, ...) -> (B, C', N)."""
        scale, shift = self.film(cond)[..., None].chunk(2, dim=1)
        return self.second((1 + scale) * self.first(x) + shift) + self.shortcut(x)


def _convolution(size_in: int, size_out: int) -> nn.Module:
    convolve = nn.Conv1d(size_in, size_out, KERNEL, padding=KERNEL // 2)
    return nn.Sequential(convolve, nn.GroupNorm(GROUPS, size_out), nn.Mish())
