"""Diffusion Policy (Chi et al., 2023) on the EBT's trunk: predict the noise, denoise with diffusers' schedulers.

y_t = sqrt(abar_t) y + sqrt(1 - abar_t) eps,   loss |eps_hat(y_t, t, ctx) - eps|^2,   squared-cosine schedule

A trunk narrower than a token's raw vector cannot pass that token's noise on, which fills every direction; data fills
fewer, and `predicts="sample"` asks for it instead (Salimans and Ho, 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.baselines.field import LEVELS, Field, FieldModel, Network, for_each
from ebt_policy.core.descent import like
from ebt_policy.core.model import Loss, Sample
from ebt_policy.core.objectives import Criterion, squared_error
from ebt_policy.core.transformer import Transformer


@dataclass(frozen=True)
class DenoiseConfig:
    """How to sample: DDPM over `steps` of the trained levels, or DDIM with a stride (eta 0)."""

    steps: int = 100
    sampler: Literal["ddpm", "ddim"] = "ddpm"

    def __post_init__(self):
        if self.sampler not in ("ddpm", "ddim"):
            raise ValueError(f"sampler must be ddpm or ddim, got {self.sampler!r}")
        bounds.whole("steps", self.steps, "[1, inf)")


class Diffusion(FieldModel):
    def __init__(
        self,
        tokenize: nn.Module,
        trunk: Transformer,
        act: DenoiseConfig,
        levels: int = LEVELS,
        network: Network = Field,
        predicts: Literal["epsilon", "sample"] = "epsilon",
        criterion: Criterion = squared_error,
    ):
        super().__init__(tokenize, trunk, act, network, criterion)
        if predicts not in ("epsilon", "sample"):
            raise ValueError(f"predicts must be epsilon or sample, got {predicts!r}")
        bounds.whole("levels", levels, "[1, inf)")
        self.levels, self.predicts = levels, predicts
        self._check_steps()
        self.register_buffer("abar", self._scheduler().alphas_cumprod, persistent=False)

    def _check_steps(self) -> None:
        if self.act.steps > self.levels:
            raise ValueError(f"trained with {self.levels} noise levels, cannot take {self.act.steps} steps")

    def _scheduler(self, betas: list[float] | None = None) -> DDPMScheduler | DDIMScheduler:
        """Over the trained levels, or over those that `betas` lead to."""
        common = dict(
            num_train_timesteps=self.levels if betas is None else len(betas),
            beta_schedule="squaredcos_cap_v2",
            trained_betas=betas,
            prediction_type=self.predicts,
            clip_sample=True,
        )
        return DDPMScheduler(**common) if self.act.sampler == "ddpm" else DDIMScheduler(**common)

    def loss(self, target: Tensor, ctx: Tensor, y0: Tensor, generator=None, weight: Tensor | float = 1.0) -> Loss:
        """target and y0, the noise, (B, ...); ctx (B, L, D)."""
        t = torch.randint(self.levels, (len(y0),), generator=generator, device=y0.device)
        abar = like(self.abar[t], y0)
        noised = abar.sqrt() * target + (1 - abar).sqrt() * y0
        asked = y0 if self.predicts == "epsilon" else target
        error = self.criterion(self.net.bind(ctx)(noised, t).float(), asked)
        return Loss((weight * error).mean(), {})

    @torch.no_grad()
    def sample(self, ctx: Tensor, y0: Tensor, generator=None) -> Sample:
        """Denoise y0 (B, ...) under ctx (B, L, D); network evaluations = act.steps."""
        self._check_steps()
        scheduler = self._scheduler()
        scheduler.set_timesteps(self.act.steps, device=y0.device)
        return self._follow(scheduler, torch.arange(self.levels, device=y0.device), ctx, y0, generator)

    @torch.no_grad()
    def denoise(self, ctx: Tensor, noised: Tensor, sigma: float, generator=None) -> Sample:
        """Start at the level whose noise is sigma to 1 of data, and go down in act.steps even strides, if it has those.

        The scheduler knows these levels alone (Nichol and Dhariwal, 2021), so that no stride has to be rounded.
        """
        ratio = ((1 - self.abar) / self.abar).sqrt()
        below = int((ratio - sigma).abs().argmin()) + 1
        steps = min(self.act.steps, below)
        levels = (torch.arange(1, steps + 1, device=noised.device) * below / steps).round().long() - 1  # (steps,)
        abar = self.abar[levels]
        scheduler = self._scheduler((1 - abar / torch.cat([torch.ones_like(abar[:1]), abar[:-1]])).tolist())
        scheduler.set_timesteps(steps, device=noised.device)
        return self._follow(scheduler, levels, ctx, abar[-1].sqrt() * noised, generator)

    def _follow(self, scheduler, levels: Tensor, ctx: Tensor, y: Tensor, generator) -> Sample:
        """All timesteps of the scheduler, which are numbers of `levels`."""
        field = self._bind(ctx)
        for t in scheduler.timesteps:
            answer = self._evaluate(field, y, levels[t].expand(len(y)))
            y = scheduler.step(answer, t, y, generator=generator).prev_sample
        return Sample(y, for_each(y, len(scheduler.timesteps)))
