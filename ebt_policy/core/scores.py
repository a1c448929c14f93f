"""Denoising score matching over levels of noise, and annealed Langevin sampling down the same levels.

    train     | dE_k/dy - noise |^2  at  y = target + sigma_k * noise         (Vincent, 2011; Song and Ermon, 2019)
    act       y <- y + sigma_k * xi - 1/2 * sigma_k * dE_k/dy                 from the widest level to the narrowest

The gradient learns which noise was added, as a diffusion model does: -dE_k/dy / sigma_k is the score of the data under
noise of sigma_k, whose density is exp(-E_k / sigma_k). A step of acting is one of Langevin dynamics on that density
with step size sigma_k^2 / 2, which is what `walk` does with step_size 1/2, noise as the levels, and sigma_k * E_k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.core.descent import EnergyFn, energy_and_grad, like, sigma_at
from ebt_policy.core.ebt import EBT
from ebt_policy.core.model import Loss
from ebt_policy.core.transformer import Trunk


@dataclass(frozen=True)
class DenoisingScores:
    """Ask the gradient of each level's energy, the k-th landscape, for the noise that was added to the target."""

    levels: int = 20
    noise: tuple[float, float] = (1.0, 0.05)  # sigma of the first and the last level, normalised units, as of a walk

    def __post_init__(self):
        bounds.whole("levels", self.levels, "[1, inf)")
        bounds.numbers("noise", self.noise, "(0, inf)", 2)
        if self.noise[0] < self.noise[1]:
            raise ValueError(f"expected noise that falls, got {self.noise}")

    def sigma(self, level: int) -> float:
        return sigma_at(self.noise, level, self.levels)

    def __call__(self, energy_fn: EnergyFn, target, y0, walk, generator=None, weight=1.0) -> Loss:
        level = torch.randint(self.levels, (len(target),), generator=generator, device=target.device)
        sigmas = torch.tensor([self.sigma(k) for k in range(self.levels)], device=target.device)
        _, grad = energy_and_grad(energy_fn, target + like(sigmas[level], target) * y0, level, create_graph=True)
        loss = (weight * (grad - y0).pow(2)).mean()
        return Loss(loss, {"energy_grad": grad.detach().flatten(1).norm(dim=1).mean()})


class AnnealedEBT(EBT):
    """objective: DenoisingScores, whose levels the steps of acting visit, evenly spread if they are not as many."""

    @classmethod
    def on_trunk(
        cls,
        tokenize: nn.Module,
        trunk: Trunk,
        head: Callable[[int, int], nn.Module],
        objective: DenoisingScores,
        **settings,
    ) -> AnnealedEBT:
        return super().on_trunk(tokenize, trunk, head, objective.levels, objective=objective, **settings)

    def _bind(self, ctx: Tensor) -> EnergyFn:
        if self._returns_lowest:
            raise ValueError("energies of different levels do not compare: act without lowest, accept and deadline")
        energy_fn, objective, steps = super()._bind(ctx), self.objective, self.act.steps

        def energy(y: Tensor, k: int) -> Tensor:
            level = round(min(k / max(steps - 1, 1), 1.0) * (objective.levels - 1))
            return objective.sigma(level) * energy_fn(y, level)

        return energy
