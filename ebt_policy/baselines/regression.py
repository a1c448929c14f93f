"""Plain regression on the EBT's trunk: one pass from zeros to the action, squared error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebt_policy.baselines.field import FieldModel, for_each
from ebt_policy.core.model import Loss, Sample


@dataclass(frozen=True)
class OnePass:
    """One network evaluation: nothing to set."""


class Regression(FieldModel):
    """act: OnePass. The noise y0 gives the shape of the answer and nothing else."""

    def loss(self, target: Tensor, ctx: Tensor, y0: Tensor, generator=None, weight: Tensor | float = 1.0) -> Loss:
        """target (B, N, P), ctx (B, L, D)."""
        error = self.criterion(self.net.bind(ctx)(torch.zeros_like(y0), for_each(y0, 0.0)).float(), target)
        return Loss((weight * error).mean(), {})

    @torch.no_grad()
    def sample(self, ctx: Tensor, y0: Tensor, generator=None) -> Sample:
        y = self._evaluate(self._bind(ctx), torch.zeros_like(y0), for_each(y0, 0.0))
        return Sample(y, for_each(y0, 1))
