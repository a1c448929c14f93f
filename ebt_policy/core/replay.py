"""Persistent candidates: training walks that go on where an earlier update left them.

Part of a batch starts where its objective says, the rest from the candidate that the same training example ended
with the last time it was drawn. One second-order step per update then trains late descent steps as well as first ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.core.descent import like


class ReplayBuffer(nn.Module):
    """Last candidates of `size` training examples; its state is in buffers and so in every checkpoint."""

    def __init__(self, size: int, shape: tuple[int, ...], share: float = 0.5, longest: int = 10):
        """share: part of a batch that continues; longest: continuations after which a candidate starts afresh."""
        super().__init__()
        bounds.whole("size", size, "[1, inf)")
        bounds.number("share", share, "(0, 1]")
        bounds.whole("longest", longest, "[1, inf)")
        self.share, self.longest = share, longest
        self.register_buffer("candidate", torch.zeros(size, *shape))
        self.register_buffer("age", torch.zeros(size, dtype=torch.long))  # 0: nothing stored

    def mix(self, index: Tensor, start: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Start points for the examples `index` (B,): start (B, ...), some rows replaced by kept candidates."""
        drawn = torch.rand(len(index), generator=generator, device=start.device) < self.share
        age = self.age[index]
        goes_on = drawn & (age > 0) & (age < self.longest)
        self.age[index] = torch.where(goes_on, age, 0)
        return torch.where(like(goes_on, start), self.candidate[index], start)

    def store(self, index: Tensor, y: Tensor) -> None:
        """Keep where the walks of examples `index` (B,) ended: y (B, ...)."""
        self.candidate[index] = y.to(self.candidate.dtype)
        self.age[index] += 1
