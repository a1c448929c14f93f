"""The Minimal Iterative Policy (Pan et al., 2025, arXiv 2512.01809): two regressions, noise between them in training.

pass 1    y1 = g(0, 0, ctx)               loss |g(0, 0, ctx) - y|^2 / t*^2
pass 2    y2 = g(y1, t*, ctx)             loss |g(y + (1 - t*) eps, t*, ctx) - y|^2 / (1 - t*)^2

As in the authors' code, the second pass reads the first one's answer unscaled, and as noised data in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.baselines.field import LEVELS, Field, FieldModel, Network, for_each
from ebt_policy.core.model import Loss, Sample
from ebt_policy.core.objectives import Criterion, squared_error
from ebt_policy.core.transformer import Transformer


@dataclass(frozen=True)
class TwoPasses:
    """Passes to act with: 2, or 1 to see what the second is worth."""

    steps: int = 2

    def __post_init__(self):
        bounds.whole("steps", self.steps, "[1, inf)")
        if self.steps > 2:
            raise ValueError(f"MIP takes 1 or 2 steps, got {self.steps}")


class Mip(FieldModel):
    def __init__(
        self,
        tokenize: nn.Module,
        trunk: Transformer,
        act: TwoPasses,
        t_star: float = 0.9,
        network: Network = Field,
        criterion: Criterion = squared_error,
    ):
        super().__init__(tokenize, trunk, act, network, criterion)
        bounds.number("t_star", t_star, "(0, 1)")
        self.t_star = t_star

    def loss(self, target: Tensor, ctx: Tensor, y0: Tensor, generator=None, weight: Tensor | float = 1.0) -> Loss:
        """target and y0, the noise, (B, N, P); ctx (B, L, D)."""
        field, t = self.net.bind(ctx), self.t_star
        first = field(torch.zeros_like(y0), for_each(y0, 0.0)).float()
        second = field(target + (1 - t) * y0, for_each(y0, LEVELS * t)).float()
        losses = [
            (weight * self.criterion(y / scale, target / scale)).mean() for y, scale in ((first, t), (second, 1 - t))
        ]
        return Loss(losses[0] + losses[1], {"loss_first": losses[0].detach()})

    @torch.no_grad()
    def sample(self, ctx: Tensor, y0: Tensor, generator=None) -> Sample:
        """Under ctx (B, L, D); y0 (B, N, P) gives the shape of the answer and nothing else."""
        field, y = self._bind(ctx), torch.zeros_like(y0)
        for t in (0.0, self.t_star)[: self.act.steps]:
            y = self._evaluate(field, y, for_each(y, LEVELS * t))
        return Sample(y, for_each(y, self.act.steps))
