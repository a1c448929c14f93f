"""Low-dimensional observations to context tokens: one token per observed step.

obs[k] (B, To, *shape) -> ctx (B, To, D)
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from ebt_policy import bounds


class LowdimEncoder(nn.Module):
    """All keys of one step, flattened and joined, through a perceptron of `layers` hidden layers, `hidden` (dim) wide.

    It reads a step once for all steps of descent: width is cheaper here than in the trunk.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], dim: int, hidden: int | None = None, layers: int = 1):
        super().__init__()
        if not shapes:
            raise ValueError("expected at least one observation key, got none: name some in the task's `obs`")
        bounds.whole("hidden", hidden, "[1, inf) or null")
        bounds.whole("layers", layers, "[0, inf)")
        self.keys = tuple(shapes)
        sizes = [sum(prod(shape) for shape in shapes.values())] + [hidden or dim] * layers
        read = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.GELU(approximate="tanh"))]
        self.net = nn.Sequential(*read, nn.Linear(sizes[-1], dim))

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        return self.net(torch.cat([obs[key].flatten(2) for key in self.keys], dim=-1))
