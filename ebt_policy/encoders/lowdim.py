"""Low-dimensional observations to context tokens: one token per observed step.

obs[k] (B, To, *shape) -> ctx (B, To, D)
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn


class LowdimEncoder(nn.Module):
    """All keys of one step, flattened and joined, through a two-layer perceptron."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], dim: int):
        super().__init__()
        if not shapes:
            raise ValueError("expected at least one observation key, got none: name some in the task's `obs`")
        self.keys = tuple(shapes)
        size = sum(prod(shape) for shape in shapes.values())
        self.net = nn.Sequential(nn.Linear(size, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        return self.net(torch.cat([obs[key].flatten(2) for key in self.keys], dim=-1))
