"""Diffusion Policy (Chi et al., 2023) on the EBT's trunk: predict the noise, denoise with diffusers' schedulers.

y_t = sqrt(abar_t) y + sqrt(1 - abar_t) eps,   loss |eps_hat(y_t, t, ctx) - eps|^2,   squared-cosine schedule
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from ebt_policy.core.model import ConditionalModel, Loss, Sample
from ebt_policy.core.transformer import Transformer

NoiseFn = Callable[[Tensor, Tensor], Tensor]  # (y_t (B, N, P), level t (B,)) -> predicted noise (B, N, P)


@dataclass(frozen=True)
class DenoiseConfig:
    """How to sample: DDPM over `steps` of the trained levels, or DDIM with a stride (eta 0)."""

    steps: int = 100
    sampler: Literal["ddpm", "ddim"] = "ddpm"

    def __post_init__(self):
        if self.sampler not in ("ddpm", "ddim"):
            raise ValueError(f"sampler must be ddpm or ddim, got {self.sampler!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


class NoisePredictor(nn.Module):
    """eps(y_t, t | ctx): the trunk with the noise level added to every candidate token."""

    def __init__(self, tokenize: nn.Module, trunk: Transformer, levels: int):
        super().__init__()
        dim = trunk.dim
        self.tokenize, self.trunk = tokenize, trunk
        self.level = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))
        self.readout = nn.Linear(dim, tokenize.size)
        self.register_buffer("waves", _sinusoids(levels, dim), persistent=False)

    def bind(self, ctx: Tensor) -> NoiseFn:
        """Fix the context (B, L, D); returns noise(y (B, N, P), t (B,)) -> (B, N, P)."""
        features = self.trunk.bind(ctx)
        return lambda y, t: self.readout(features(self.tokenize(y) + self.level(self.waves[t])[:, None]))


class Diffusion(ConditionalModel):
    def __init__(self, tokenize: nn.Module, trunk: Transformer, act: DenoiseConfig, levels: int = 100):
        super().__init__()
        self.act, self.levels = act, levels
        self.net = NoisePredictor(tokenize, trunk, levels)
        self.register_buffer("abar", self._scheduler().alphas_cumprod, persistent=False)

    def _scheduler(self) -> DDPMScheduler | DDIMScheduler:
        common = dict(
            num_train_timesteps=self.levels,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="epsilon",
            clip_sample=True,
        )
        return DDPMScheduler(**common) if self.act.sampler == "ddpm" else DDIMScheduler(**common)

    def loss(self, target: Tensor, ctx: Tensor, y0: Tensor, generator=None, weight: Tensor | float = 1.0) -> Loss:
        """target and y0, the noise, (B, N, P); ctx (B, L, D)."""
        t = torch.randint(self.levels, (len(y0),), generator=generator, device=y0.device)
        abar = self.abar[t].view(-1, *[1] * (y0.ndim - 1))
        noised = abar.sqrt() * target + (1 - abar).sqrt() * y0
        error = (self.net.bind(ctx)(noised, t).float() - y0).pow(2)
        return Loss((weight * error).mean(), {})

    def compile_for_acting(self) -> None:
        self._bind, self._predict = torch.compile(self._bind), torch.compile(self._predict)

    @torch.no_grad()
    def sample(self, ctx: Tensor, y0: Tensor, generator=None) -> Sample:
        """Denoise y0 (B, N, P) under ctx (B, L, D); network evaluations = act.steps."""
        if self.act.steps > self.levels:
            raise ValueError(f"trained with {self.levels} noise levels, cannot take {self.act.steps} steps")
        scheduler, noise, y = self._scheduler(), self._bind(ctx), y0
        scheduler.set_timesteps(self.act.steps, device=y0.device)
        for t in scheduler.timesteps:
            eps = self._predict(noise, y, t.expand(len(y)))
            y = scheduler.step(eps, t, y, generator=generator).prev_sample
        return Sample(y, torch.full((len(y),), self.act.steps, device=y.device))

    def _bind(self, ctx: Tensor) -> NoiseFn:
        return self.net.bind(ctx)

    @staticmethod
    def _predict(noise: NoiseFn, y: Tensor, t: Tensor) -> Tensor:
        return noise(y, t)


def _sinusoids(levels: int, dim: int) -> Tensor:
    frequency = torch.exp(-torch.arange(0, dim, 2) / dim * torch.tensor(1e4).log())
    angle = torch.arange(levels)[:, None] * frequency  # (levels, dim / 2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
