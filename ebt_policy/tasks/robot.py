"""One manipulation policy for every method: normalise, encode the observations, sample an action chunk, un-normalise.

To observed, Tp predicted, Ta executed steps   Da action dimensions

plan        t-To+1 ... t ............................. t-To+Tp
executed               t ... t+Ta-1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.core.energies import Extra, in_units
from ebt_policy.core.model import ConditionalModel, Loss
from ebt_policy.core.replay import ReplayBuffer
from ebt_policy.core.transformer import MAX_TOKENS
from ebt_policy.data.normalizer import Normalizer
from ebt_policy.data.spec import Spec
from ebt_policy.data.windows import Batch
from ebt_policy.encoders.rotations import Rotations
from ebt_policy.tasks.relative import RelativePlans


@dataclass(frozen=True)
class Horizon:
    observe: int = 2
    predict: int = 16
    execute: int = 8

    def __post_init__(self):
        for name in ("observe", "predict", "execute"):
            bounds.whole(f"horizon.{name}", getattr(self, name), "[1, inf)")
        if self.observe + self.predict > MAX_TOKENS:
            raise ValueError(
                f"horizon.predict={self.predict} beside horizon.observe={self.observe} is more than a net can read: "
                f"set it to at most {MAX_TOKENS - self.observe}"
            )
        if self.observe - 1 + self.execute > self.predict:
            past = self.observe - 1
            raise ValueError(
                f"cannot execute {self.execute} of {self.predict} predicted steps, the first {past} are already past: "
                f"set execute to at most {self.predict - past}"
            )

    @property
    def run(self) -> slice:
        """The executed part of a plan."""
        return slice(self.observe - 1, self.observe - 1 + self.execute)


@dataclass(frozen=True)
class ActionChunk:
    actions: Tensor  # (B, Ta, Da) env units, to execute
    plan: Tensor  # (B, Tp, Da) env units
    steps: Tensor  # (B,) int: descent or denoising steps
    energies: Tensor | None = None  # (K, B) before each step; None for methods without an energy
    grad_norm: Tensor | None = None  # (B,) at the last step
    score: Callable[[], Tensor] | None = None  # -> (B,) energy of the plan; a call, as acting need not wait for it

    @property
    def finite(self) -> Tensor:
        """(B,) bool: whether plan and energies are numbers. A plan may be finite although nothing judged it: if every
        energy is NaN, the lowest is where the descent began."""
        finite = self.plan.isfinite().flatten(1).all(1)
        return finite if self.energies is None else finite & self.energies.isfinite().all(0)


class Policy(nn.Module):
    """Knows units, keys and horizons, and nothing of the method behind `model`."""

    def __init__(
        self,
        spec: Spec,
        horizon: Horizon,
        features: Rotations,
        normalizer: Normalizer,
        encoder: nn.Module,
        model: ConditionalModel,
        replay: ReplayBuffer | None = None,
        relative: RelativePlans | None = None,
    ):
        """relative: how the model has its plans; None: as the environment has them, normalised."""
        super().__init__()
        self.spec, self.horizon = spec, horizon
        self.features, self.normalizer, self.encoder = features, normalizer, encoder
        self.model, self.replay, self.relative = model, replay, relative

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """batch.obs[k] (B, To, *shape), batch.action (B, Tp, Da), env units."""
        target = self._normalised(batch.action, batch.obs)
        y0 = self._noise(len(target), generator)
        weight = batch.foreseen[..., None].to(target.dtype)  # (B, Tp, 1)
        if self.replay is None:
            return self.model.loss(target, self._context(batch.obs), y0, generator, weight)
        go_on = partial(self.replay.mix, batch.index, generator=generator)
        loss = self.model.loss(target, self._context(batch.obs), y0, generator, weight, go_on)
        self.replay.store(batch.index, loss.final)
        return loss

    def compile_for_acting(self) -> None:
        """Compile what `predict_action` computes: the first chunks then wait for the compiler, later ones go faster."""
        self._context = torch.compile(self._context)
        self.model.compile_for_acting()

    @torch.no_grad()
    def predict_action(
        self,
        obs: dict[str, Tensor],
        generator: torch.Generator | None = None,
        start: Tensor | None = None,
        extra: Sequence[Extra] = (),
    ) -> ActionChunk:
        """obs[k] (B, To, *shape) in env units -> actions (B, Ta, Da) in env units.

        start: a plan (B, Tp, Da) in env units to warm-start from, instead of noise.
        extra: energies on plans in env units that are added to the policy's own (EBT only).
        """
        obs = {key: value.to(self.device, torch.float32) for key, value in obs.items()}
        self._check(obs)
        ctx = self._context(obs)
        y0 = self._noise(len(ctx), generator) if start is None else self._normalised(start.to(self.device), obs)
        in_env_units = partial(self._in_env_units, obs=obs)
        terms = [in_units(term, in_env_units) for term in extra]
        sample = self.model.sample(ctx, y0, generator, **({"extra": terms} if terms else {}))
        plan = in_env_units(sample.y)
        return ActionChunk(
            plan[:, self.horizon.run], plan, sample.steps, sample.energies, sample.grad_norm, sample.score
        )

    @torch.no_grad()
    def energy(self, obs: dict[str, Tensor], plan: Tensor) -> Tensor:
        """Energy (B,) of plans (B, Tp, Da) given obs[k] (B, To, *shape), env units; ValueError without an energy."""
        if not hasattr(self.model, "energy"):
            raise ValueError(f"expected a method with an energy, got {type(self.model).__name__}: use an EBT")
        self._check(obs)
        return self.model.energy(self._context(obs), self._normalised(plan, obs))

    def complete(self, rest: Tensor) -> Tensor:
        """The rest of a plan (B, m, Da), m <= Tp, its last action repeated -> (B, Tp, Da)."""
        return torch.cat([rest, rest[:, -1:].expand(-1, self.horizon.predict - rest.shape[1], -1)], dim=1)

    def warm_start(self, rest: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
        """The rest of a plan (B, m, Da), completed, plus noise of this strength in normalised actions -> a `start`."""
        plan = self.complete(rest)
        limits = self.relative.limits if self.relative else self.normalizer.action_limits
        return plan + strength * limits.half_range * self._noise(len(plan), generator)

    def inputs(self, obs: dict[str, Tensor]) -> dict[str, Tensor]:
        """obs[k] (B, To, *shape) in env units -> what the encoder reads: features in [-1, 1] on the training data."""
        return self.normalizer.obs(self.features(obs))

    def _normalised(self, plan: Tensor, obs: dict[str, Tensor]) -> Tensor:
        """Plans (B, Tp, Da) that answer obs[k] (B, To, *shape), env units, as the model has them."""
        return self.relative(plan, obs) if self.relative else self.normalizer.action(plan)

    def _in_env_units(self, y: Tensor, obs: dict[str, Tensor]) -> Tensor:
        return self.relative.inverse(y, obs) if self.relative else self.normalizer.unaction(y)

    def _noise(self, count: int, generator: torch.Generator | None) -> Tensor:
        shape = (count, self.horizon.predict, self.spec.action.dim)
        return torch.randn(shape, generator=generator, device=self.device)

    def _context(self, obs: dict[str, Tensor]) -> Tensor:
        return self.encoder(self.inputs(obs))

    def _check(self, obs: dict[str, Tensor]) -> None:
        """ValueError or KeyError for observations that are missing, of another shape, or no numbers in float32."""
        for key, shape in self.spec.obs.items():
            expected = (self.horizon.observe, *shape)
            if key not in obs:
                raise KeyError(f"the policy reads {list(self.spec.obs)}, the observation has {list(obs)}")
            if tuple(obs[key].shape[1:]) != expected:
                raise ValueError(f"{key}: expected (B, {', '.join(map(str, expected))}), got {tuple(obs[key].shape)}")
            if not obs[key].isfinite().all():
                raise ValueError(
                    f"{key}: expected finite numbers, got NaN or infinite ones: look at where they come from"
                )
