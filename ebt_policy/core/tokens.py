"""Candidates as tokens: `split` gives the raw vector of each token, the call embeds it.

y (B, ...) -> split (B, N, P) -> tokens (B, N, D)
"""

from __future__ import annotations

from torch import Tensor, nn


class LinearTokens(nn.Module):
    """One token per time step of an action chunk y (B, Tp, Da)."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.size, self.embed = size, nn.Linear(size, dim)

    def split(self, y: Tensor) -> Tensor:
        return y

    def forward(self, y: Tensor) -> Tensor:
        return self.embed(self.split(y))


class PatchTokens(nn.Module):
    """One token per square patch of an image y (B, C, height, width)."""

    def __init__(self, channels: int, patch: int, dim: int):
        super().__init__()
        self.patch, self.size = patch, channels * patch * patch
        self.embed = nn.Linear(self.size, dim)

    def split(self, y: Tensor) -> Tensor:
        p = self.patch
        if y.shape[-1] % p or y.shape[-2] % p:
            raise ValueError(f"image sides must be multiples of the patch size {p}, got {tuple(y.shape[-2:])}")
        y = y.unfold(2, p, p).unfold(3, p, p)  # (B, C, h, w, p, p)
        return y.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def forward(self, y: Tensor) -> Tensor:
        return self.embed(self.split(y))


class LogitTokens(nn.Module):
    """One token per text position: the expected embedding of a distribution y (B, N, V) over the vocabulary."""

    def __init__(self, vocabulary: int, dim: int):
        super().__init__()
        self.size, self.embed = vocabulary, nn.Linear(vocabulary, dim, bias=False)

    def split(self, y: Tensor) -> Tensor:
        return y

    def forward(self, y: Tensor) -> Tensor:
        return self.embed(self.split(y))
