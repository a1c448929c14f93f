"""Implicit behavioural cloning (Florence et al., 2021): the EBT's energy, trained by InfoNCE, searched by sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebt_policy import bounds
from ebt_policy.core.ebt import EBT
from ebt_policy.core.model import Sample


@dataclass(frozen=True)
class DerivativeFree:
    """How to search: `steps` rounds of resampling `candidates` by their energy and moving them by shrinking noise."""

    steps: int = 3
    candidates: int = 256
    sigma: float = 0.33  # of the first round, normalised units
    shrink: float = 0.5  # sigma of a round over that of the one before
    box: float = 1.0  # candidates start uniform in [-box, box] and are kept there

    def __post_init__(self):
        for name in ("steps", "candidates"):
            bounds.whole(name, getattr(self, name), "[1, inf)")
        for name, within in (("sigma", "(0, inf)"), ("shrink", "(0, 1]"), ("box", "(0, inf)")):
            bounds.number(name, getattr(self, name), within)


class ImplicitBC(EBT):
    """act: DerivativeFree."""

    _state = "free"

    @torch.no_grad()
    def sample(self, ctx: Tensor, y0: Tensor, generator=None) -> Sample:
        """Search under ctx (B, L, D); y0 (B, ...) gives the shape of the answer, its noise moves the best candidate."""
        act, B = self.act, len(y0)
        energy_fn = self._bind(ctx.repeat_interleave(act.candidates, dim=0))
        draw = dict(generator=generator, device=y0.device)
        y = act.box * (2 * torch.rand(B * act.candidates, *y0.shape[1:], **draw) - 1)
        sigma, energies = act.sigma, []
        for k in range(act.steps):
            energy = energy_fn(y, k).view(B, -1)
            energies.append(energy.amin(1))
            picked = torch.multinomial((-energy).softmax(1), act.candidates, replacement=True, generator=generator)
            rows = picked + act.candidates * torch.arange(B, device=y0.device)[:, None]
            y = y[rows.flatten()]
            y = (y + sigma * torch.randn(y.shape, **draw)).clamp(-act.box, act.box)
            sigma *= act.shrink
        energy = energy_fn(y, act.steps).view(B, -1)
        lowest, best = energy.min(1)
        y = y.view(B, act.candidates, *y0.shape[1:])[torch.arange(B, device=y0.device), best]
        taken = torch.full((B,), act.steps, device=y0.device)
        return Sample(y, taken, torch.stack(energies), score=lambda: lowest)
