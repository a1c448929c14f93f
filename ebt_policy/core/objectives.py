"""What training asks of the landscape: (energy_fn, target, y0, walk, generator, weight) -> Loss.

`walk` runs the training descent from a start point; an objective chooses the start points and compares the
states with the target. Only the gradient of the energy is supervised: its value across contexts is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.core.descent import EnergyFn, Step
from ebt_policy.core.model import Loss

Criterion = Callable[[Tensor, Tensor], Tensor]  # (y, target) -> elementwise, e.g. (B, Tp, Da)
Objective = Callable[..., Loss]  # (energy_fn: EnergyFn, target, y0, walk: Callable[[Tensor], list[Step]], ...) -> Loss


def squared_error(y: Tensor, target: Tensor) -> Tensor:
    return (y - target).pow(2)


@dataclass(frozen=True)
class PseudoHuber:
    """sqrt(e^2 + width^2) - width: squares small errors, counts large ones once.

    Few dimensions that nothing foretells (when a gripper closes) then do not drown the millimetres of the others.
    """

    width: float = 0.03  # of normalised data

    def __post_init__(self):
        bounds.number("width", self.width, "[0, inf)")
        if self.width == 0:
            raise ValueError("width must be positive, got 0: for squared errors use no criterion at all")

    def __call__(self, y: Tensor, target: Tensor) -> Tensor:
        return ((y - target).pow(2) + self.width**2).sqrt() - self.width


@dataclass(frozen=True)
class CrossEntropy:
    """Of logits y (B, N, V) against token ids (B, N), in nats for each token: (B, N)."""

    def __call__(self, y: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(y.float().flatten(0, -2), target.flatten(), reduction="none").view_as(target)


@dataclass(frozen=True)
class OwnIterates:
    """The published recipe: walk from noise and ask every differentiable step to land on the target."""

    criterion: Criterion = squared_error

    def __call__(self, energy_fn: EnergyFn, target, y0, walk, generator=None, weight=1.0) -> Loss:
        return _reconstruction(self.criterion, target, walk(y0), weight)


@dataclass(frozen=True)
class NoisedStates:
    """Walk from the target plus Gaussian noise of a random, unnamed strength, or from pure noise; land on the target.

    The gradient field is then right around the data and not only along the path that this network happens to take,
    so that more descent steps than were trained stay good (compare equilibrium matching and denoising energies).
    With one unit step and squared errors it is denoising score matching (Vincent, 2011) of an energy that is not told
    the noise level: |y - dE/dy - target|^2 at y = target + s * noise is |dE/dy - s * noise|^2.
    """

    criterion: Criterion = squared_error
    pure: float = 0.25  # share of samples that start from pure noise
    strength: float = 1.0  # the others: target + s * noise with s ~ U(0, strength)

    def __post_init__(self):
        bounds.number("pure", self.pure, "[0, 1]")
        bounds.number("strength", self.strength, "(0, inf)")

    def __call__(self, energy_fn: EnergyFn, target, y0, walk, generator=None, weight=1.0) -> Loss:
        s, u = torch.rand(2, len(y0), *[1] * (y0.ndim - 1), generator=generator, device=y0.device)
        start = torch.where(u < self.pure, y0, target + self.strength * s * y0)
        return _reconstruction(self.criterion, target, walk(start), weight)


def _reconstruction(criterion: Criterion, target: Tensor, steps: list[Step], weight: Tensor | float) -> Loss:
    losses = torch.stack([(weight * criterion(step.y, target)).mean() for step in steps if step.y.requires_grad])
    metrics = {"energy_grad": steps[-1].grad_norm.mean()}
    if len(steps) > 1:
        fall = (steps[0].energy - steps[-1].energy).mean()
        metrics |= {"loss_last": losses[-1].detach(), "energy_fall": fall.detach()}
    return Loss(losses.mean(), metrics, steps[-1].y.detach())
