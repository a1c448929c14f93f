"""The smallest thing that `fit` can train: a line through noisy points, with a buffer and its own noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebt_policy.core.model import Loss


@dataclass
class Points:
    x: Tensor
    y: Tensor

    def to(self, device):
        return self


class Examples:
    """24 points; remembers which were asked for."""

    def __init__(self, count: int = 24):
        generator = torch.Generator().manual_seed(0)
        self.x, self.y = (torch.randn(count, 3, generator=generator) for _ in range(2))
        self.asked: list[list[int]] = []

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        self.asked.append(index.tolist())
        return Points(self.x[index], self.y[index])


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(3, 3)
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch) -> Loss:
        self.seen += len(batch.x)
        error = (self.net(batch.x) + 0.1 * torch.randn_like(batch.y) - batch.y).pow(2).mean()
        return Loss(error, {"error": error.detach()})


class Rows:
    """A log in memory; `stop_at` raises once that update is written."""

    def __init__(self, stop_at: int | None = None):
        self.rows: list[dict] = []
        self.stop_at = stop_at

    def write(self, row):
        self.rows.append(dict(row))
        if row["update"] == self.stop_at:
            raise KeyboardInterrupt

    def progress(self, done, row):
        pass
