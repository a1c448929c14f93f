"""Candidates as tokens: `split` gives the raw vector of each token, `join` undoes it, `widen` makes it a token.

y (B, ...) -> split (B, N, P) -> widen (B, N, D)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tokens(nn.Module):
    """What all have in common: raw vectors of `size` channels, and a call that does it all."""

    size: int

    def split(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def widen(self, vectors: Tensor) -> Tensor:
        return self.embed(vectors)

    def forward(self, y: Tensor) -> Tensor:
        return self.widen(self.split(y))


class LinearTokens(Tokens):
    """One token per time step of an action chunk y (B, Tp, Da)."""

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.size, self.embed = size, nn.Linear(size, dim)

    def split(self, y: Tensor) -> Tensor:
        return y

    def join(self, vectors: Tensor, shape: torch.Size) -> Tensor:
        """vectors (B, N, P) as a y of this shape."""
        return vectors


class PatchTokens(Tokens):
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


class LogitTokens(Tokens):
    """One token per text position: the expected embedding of a distribution y (B, N, V) over the vocabulary.

    That is its raw vector already, so that heads which multiply raw vectors are D wide and not V.
    """

    def __init__(self, vocabulary: int, dim: int):
        super().__init__()
        self.vocabulary, self.size = vocabulary, dim
        self.embed = nn.Linear(vocabulary, dim, bias=False)

    def split(self, y: Tensor) -> Tensor:
        return self.embed(y)

    def widen(self, vectors: Tensor) -> Tensor:
        return vectors
