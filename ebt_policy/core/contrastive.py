"""Objectives that train the energy's value: low at the target, high at other candidates.

They need no second derivative. The objectives of `objectives` instead train where a descent step lands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ebt_policy.core.descent import EnergyFn, per_sample
from ebt_policy.core.model import Loss


@dataclass(frozen=True)
class InfoNCE:
    """Pick the target out of a line-up by its energy (Florence et al., 2021, implicit behavioural cloning).

    The others are uniform points in a box, whose half side is `box`; normalised actions fill [-1, 1].
    """

    negatives: int = 8
    box: float = 1.0

    def __post_init__(self):
        if self.negatives < 1 or self.box <= 0:
            raise ValueError(f"expected negatives >= 1 and box > 0, got {self.negatives} and {self.box}")

    def __call__(self, energy_fn: EnergyFn, target, y0, walk, generator=None, weight=1.0) -> Loss:
        line_up = [target] + [self._other(target, generator, weight) for _ in range(self.negatives)]
        energy = torch.stack([per_sample(energy_fn(y, 0)) for y in line_up], dim=1)  # (B, 1 + negatives)
        loss = cross_entropy(-energy, torch.zeros(len(target), dtype=torch.long, device=target.device))
        return Loss(loss, {"energy_gap": (energy[:, 1:].mean() - energy[:, 0].mean()).detach()})

    def _other(self, target: Tensor, generator, weight: Tensor | float) -> Tensor:
        """A negative; where the target says nothing, the two must not differ."""
        y = self.box * (2 * torch.rand(target.shape, generator=generator, device=target.device) - 1)
        return torch.where(torch.as_tensor(weight, device=target.device) == 0, target, y)
