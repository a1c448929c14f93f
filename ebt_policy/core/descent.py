"""Descent on an energy landscape: the one loop that every task shares.

    start = enter(y, noise)                       free | unit_rms | simplex | box
    g     = dE/dy at start + momentum * velocity  (Nesterov's look-ahead)
    y     = start + velocity,   velocity <- momentum * velocity - step_size * g

A gradient that parameters learn from is taken with `torch.func`, which both eager autograd and `torch.compile` can
differentiate again; one that only moves y comes from plain autograd, which costs a third less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ebt_policy import bounds

EnergyFn = Callable[[Tensor, int], Tensor]  # (y (B, ...), step k) -> energy (B,) or (B, N)
MAX_SCALE = 10.0  # bound on the energy-scaled step factor: unbounded exp(E) diverges on a plain bowl


@dataclass(frozen=True)
class DescentConfig:
    """How to walk downhill. Training and acting are two values of this one type."""

    steps: int = 6
    extra_steps: int = 0  # walk steps + U{0..extra_steps}, both ends included
    momentum: float = 0.0  # Nesterov look-ahead; 0 is plain gradient descent
    noise: tuple[float, float] = (0.0, 0.0)  # Langevin sigma at the first and last step, cosine in between
    step_jitter: float = 1.0  # one factor per sample and walk on the step size, U[1/j, j]
    energy_temp: float | None = None  # if set, each step is scaled by min(exp(E) / temp, 10), per sample or token
    state: Literal["free", "unit_rms", "simplex", "box"] = "free"  # where y lives before each step
    tol: float = 0.0  # a sample stops once its gradient norm is at most tol
    accept: bool = False  # undo a sample's step that raised its energy, and halve its next one
    backprop: Literal["none", "last", "each", "through"] = "none"  # which steps parameters learn from

    def __post_init__(self):
        bounds.whole("steps", self.steps, "[1, inf)")
        bounds.whole("extra_steps", self.extra_steps, "[0, inf)")
        bounds.number("momentum", self.momentum, "[0, 1)")
        bounds.numbers("noise", self.noise, "[0, inf)", 2)
        bounds.number("step_jitter", self.step_jitter, "[1, inf)")
        bounds.number("energy_temp", self.energy_temp, "(0, inf) or null")
        bounds.number("tol", self.tol, "[0, inf)")
        bounds.flag("accept", self.accept)
        if self.state not in _ENTER:
            raise ValueError(f"state must be one of {list(_ENTER)}, got {self.state!r}")
        if self.backprop not in ("none", "last", "each", "through"):
            raise ValueError(f"backprop must be none, last, each or through, got {self.backprop!r}")
        if (self.tol or self.accept) and self.backprop != "none":
            raise ValueError(
                "tol and accept branch on values, which training cannot: set backprop='none', or drop them"
            )


@dataclass(frozen=True)
class Step:
    """The state after one step, with the energy and gradient that caused it."""

    y: Tensor  # (B, ...) after the step
    at: Tensor  # (B, ...) where energy and gradient were taken
    energy: Tensor  # (B,) or (B, N) at `at`
    grad_norm: Tensor  # (B,) at `at`
    moved: Tensor  # (B,) bool: False once a sample has stopped by tol


def energy_and_grad(energy_fn: EnergyFn, y: Tensor, k: int, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Energy (B,) or (B, N) and its gradient (B, ...) at y; with a graph to the parameters if asked for."""

    def total(y: Tensor) -> tuple[Tensor, Tensor]:
        energy = energy_fn(y, k)
        if energy.ndim not in (1, 2) or len(energy) != len(y):
            raise ValueError(f"energy_fn must return (B,) or (B, N) with B={len(y)}, got {tuple(energy.shape)}")
        return energy.sum(), energy

    if create_graph or torch.compiler.is_compiling():  # which cannot trace plain autograd
        with torch.set_grad_enabled(create_graph):
            grad, energy = torch.func.grad(total, has_aux=True)(y)
        return energy, grad
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        summed, energy = total(y)
        (grad,) = torch.autograd.grad(summed, y)
        return energy.detach(), grad


def walk(
    energy_fn: EnergyFn,
    y0: Tensor,
    step_size: Tensor | float,
    cfg: DescentConfig,
    generator: torch.Generator | None = None,
    evaluate: Callable[[EnergyFn, Tensor, int, bool], tuple[Tensor, Tensor]] = energy_and_grad,
) -> Iterator[Step]:
    """Walk y0 (B, ...) downhill, one Step at a time; stop iterating to stop early.

    Samples never see each other: row i of the result depends on row i of y0 alone.
    evaluate: `energy_and_grad`, or what a compiler made of it.
    """
    n = cfg.steps + _randint(cfg.extra_steps, generator)
    factor = _jitter(y0, cfg.step_jitter, generator)
    y, velocity = y0, torch.zeros_like(y0)
    active = torch.ones(len(y0), dtype=torch.bool, device=y0.device)
    guard = _Guard() if cfg.accept else None
    for k in range(n):
        keep = cfg.backprop in ("each", "through") or (cfg.backprop == "last" and k == n - 1)
        if cfg.backprop != "through":
            y, velocity = y.detach(), velocity.detach()
        start = _ENTER[cfg.state](y, _noise(y, cfg.noise, k, n, generator))
        energy, grad = evaluate(energy_fn, start + cfg.momentum * velocity, k, keep)
        if guard is not None:
            start, velocity, energy, grad = guard.keep_lowest(start, velocity, energy, grad)
        with torch.set_grad_enabled(keep):
            scale = step_size * factor * (guard.shrink if guard is not None else 1.0)
            if cfg.energy_temp is not None:
                scale = scale * like((energy.exp() / cfg.energy_temp).clamp(max=MAX_SCALE), y)
            new_velocity = cfg.momentum * velocity - scale * grad
            new_y = start + new_velocity
            if cfg.tol:  # who has stopped stays
                moved = like(active, y)
                new_y, new_velocity = torch.where(moved, new_y, y), torch.where(moved, new_velocity, velocity)
            y, velocity = new_y, new_velocity
        norm = grad.detach().flatten(1).norm(dim=1)
        yield Step(y, start, energy, norm, active)
        if cfg.tol:
            active = active & (norm > cfg.tol)
            if not active.any():
                return


def descend(*args, **kwargs) -> list[Step]:
    """The whole walk at once; the answer is the last step's y."""
    return list(walk(*args, **kwargs))


def enter(y: Tensor, state: str) -> Tensor:
    """Where a walk would take the energy of y (B, ...), without noise."""
    return _ENTER[state](y, 0.0)


def leave(at: Tensor, state: str) -> Tensor:
    """A y (B, ...) that enters at `at`, where an energy was taken."""
    return at.clamp_min(torch.finfo(at.dtype).tiny).log() if state == "simplex" else at


class _Guard:
    """Remembers each sample's lowest point and takes back the steps that climbed (backtracking line search)."""

    def __init__(self):
        self.best: tuple[Tensor, Tensor, Tensor] | None = None  # state, energy, gradient
        self.shrink: Tensor | float = 1.0

    def keep_lowest(self, y, velocity, energy, grad):
        if self.best is None:
            self.best = (y, energy, grad)
            self.shrink = torch.ones_like(like(energy, y))
            return y, velocity, energy, grad
        worse = ~(energy <= self.best[1])  # also when energy is NaN
        climbed = like(worse, y)
        self.shrink = torch.where(climbed, self.shrink / 2, self.shrink)
        self.best = (
            torch.where(climbed, self.best[0], y),
            torch.where(worse, self.best[1], energy),
            torch.where(climbed, self.best[2], grad),
        )
        return self.best[0], torch.where(climbed, 0.0, velocity), self.best[1], self.best[2]


def _unit_rms(y: Tensor) -> Tensor:
    return y * like(y.flatten(1).pow(2).mean(1).add(1e-6).rsqrt(), y)


def _reflect(y: Tensor) -> Tensor:
    """Into [-1, 1], whose faces are mirrors: noise alone fills the box evenly, and nothing gathers at its faces."""
    return ((y - 1).remainder(4) - 2).abs() - 1


_ENTER = {  # how y and this step's noise become the state that the gradient is taken at
    "free": lambda y, noise: y + noise,
    "unit_rms": lambda y, noise: _unit_rms(y) + noise,  # EBT-Policy, per sample instead of per batch
    "simplex": lambda y, noise: (y + noise).softmax(-1),  # EBT text
    "box": lambda y, noise: _reflect(y + noise),  # reflected Langevin dynamics, normalised actions
}


def _noise(y: Tensor, sigmas: tuple[float, float], k: int, n: int, generator) -> Tensor | float:
    sigma = sigma_at(sigmas, k, n)
    if sigma == 0:
        return 0.0
    return sigma * torch.randn(y.shape, generator=generator, device=y.device, dtype=y.dtype)


def _jitter(y: Tensor, j: float, generator) -> Tensor | float:
    if j == 1:
        return 1.0
    u = torch.rand(len(y), generator=generator, device=y.device, dtype=y.dtype)
    return like(1 / j + (j - 1 / j) * u, y)


def _randint(high: int, generator) -> int:
    if not high:
        return 0
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(high + 1, (), generator=generator, device=device))


def sigma_at(noise: tuple[float, float], k: int, n: int) -> float:
    """Standard deviation of the noise at step k of n: a cosine from the first to the last."""
    first, last = noise
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * k / max(n - 1, 1)))


def like(x: Tensor, y: Tensor) -> Tensor:
    """View x (B,) or (B, N) so that it broadcasts against y (B, ...)."""
    return x.view(*x.shape, *[1] * (y.ndim - x.ndim))


def per_sample(energy: Tensor) -> Tensor:
    """Energies (B,) of samples from those of samples or of tokens (B, N): summed, never averaged."""
    return energy if energy.ndim == 1 else energy.sum(1)
