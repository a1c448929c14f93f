"""Flow matching (Lipman et al., 2023) on the EBT's trunk: predict the velocity from noise to data, follow it.

y_t = (1 - t) y0 + t y,   loss |v(y_t, t, ctx) - (y - y0)|^2,   t ~ U(0, 1),   Euler steps from t = 0 to 1
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebt_policy import bounds
from ebt_policy.baselines.field import LEVELS, FieldModel, for_each
from ebt_policy.core.descent import like
from ebt_policy.core.model import Loss, Sample


@dataclass(frozen=True)
class EulerConfig:
    """How to sample: `steps` equal Euler steps."""

    steps: int = 10

    def __post_init__(self):
        bounds.whole("steps", self.steps, "[1, inf)")


class Flow(FieldModel):
    """act: EulerConfig."""

    def loss(self, target: Tensor, ctx: Tensor, y0: Tensor, generator=None, weight: Tensor | float = 1.0) -> Loss:
        """target and y0, the noise, (B, N, P); ctx (B, L, D)."""
        t = torch.rand(len(y0), generator=generator, device=y0.device)
        between = torch.lerp(y0, target, like(t, y0))
        error = self.criterion(self.net.bind(ctx)(between, LEVELS * t).float(), target - y0)
        return Loss((weight * error).mean(), {})

    @torch.no_grad()
    def sample(self, ctx: Tensor, y0: Tensor, generator=None) -> Sample:
        """From y0 (B, N, P) under ctx (B, L, D); network evaluations = act.steps."""
        velocity, y, n = self._bind(ctx), y0, self.act.steps
        for k in range(n):
            y = y + self._evaluate(velocity, y, for_each(y, LEVELS * k / n)) / n
        return Sample(y, for_each(y, n))
