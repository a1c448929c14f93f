"""Candidates as tokens: `split` gives the raw vector of each token, `join` undoes it, the call embeds it.

y (B, ...) -> split (B, N, P) -> tokens (B, N, D)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearTokens(nn.Module):
    """One token per time step of an action chunk y (B, Tp, Da)."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.size, self.embed = size, nn.Linear(size, dim)

    def split(self, y: Tensor) -> Tensor:
        return y

    def join(self, vectors: Tensor, shape: torch.Size) -> Tensor:
        """vectors (B, N, P) as a y of this shape."""
        return vectors

    def forward(self, y: Tensor) -> Tensor:
        return self.embed(self.split(y))


class PatchTokens(nn.Module):
    """One token per square patch of an image y (B, C, height, width)."""

    def __init__(self, channels: int, patch: int, dim: int):
        super().__init__()
        self.patch, self.size = patch, channels * patch * patch
        self.embed = nn.Linear(self.size, dim)

    def split(self, y: Tensor) -> Tensor:
        B, C, height, width = y.shape
        p = self.patch
        if height % p or width % p:
            raise ValueError(f"image sides must be multiples of the patch size {p}, got {(height, width)}")
        return y.view(B, C, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * p * p)

    def join(self, vectors: Tensor, shape: torch.Size) -> Tensor:
        """vectors (B, N, P) of the patches, row by row, as an image y of this shape."""
        B, C, height, width = shape
        p = self.patch
        return vectors.view(B, height // p, width // p, C, p, p).permute(0, 3, 1, 4, 2, 5).reshape(shape)

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
