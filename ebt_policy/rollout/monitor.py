"""Signals per planned chunk that may foretell failure, computed beside acting and without touching it.

    M  plans drawn anew for the same observations    s  control steps since the previous plan
    previous plan  |-- s, executed --|------ rest ------|
    new plan                         |------ rest ------|-- s, new --|

any method     elapsed       control steps so far: what a clock knows, for comparison
               spread        how far the M plans lie from their mean
               overlap       MMD^2 of the M plans of now and those of before, on the steps to come that both plan
                             (STAC; Agia et al., 2024)
               distance      of the observations to the nearest demonstrated ones
with energy    energy        of the plan
               energy_drop   from the start of its descent to its end
               tail_energy   of the rest of the previous plan, completed by the new one, given the new observations
               tail_rise     the same, minus the energy of the new plan: candidates for the same observations
descent        grad_norm     at its last step
               steps_to_tol  until the gradient's norm is at most `tol`, mean over the M starts

Distances are root mean squares over normalised numbers. The first chunk has no signals that need a previous one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ebt_policy import bounds
from ebt_policy.rollout.agent import ChunkedAgent, ChunkLog

if TYPE_CHECKING:
    from ebt_policy.tasks.robot import ActionChunk, Policy


APART = 2**32  # from the agent's seed: else the first plan drawn here would be the one that it executes


@dataclass(frozen=True)
class Watch:
    """How signals are computed."""

    samples: int = 8  # M
    bandwidth: float = 0.1  # of the kernel of `overlap`, in root mean squares of normalised actions
    tol: float = 0.01  # norm of the energy's gradient
    patience: int = 16  # descent steps after which a start counts as not there yet

    def __post_init__(self):
        bounds.whole("watch.samples", self.samples, "[2, inf)")  # to compare with each other
        bounds.number("watch.bandwidth", self.bandwidth, "(0, inf)")
        bounds.number("watch.tol", self.tol, "(0, inf)")
        bounds.whole("watch.patience", self.patience, "[1, inf)")


class Monitor:
    """Computes signals with random numbers of its own."""

    def __init__(self, policy: Policy, watch: Watch, seen: Tensor | None = None):
        """seen: the demonstrated observations (n, F) as `flat_inputs` gives them; without them there is no distance."""
        self.policy, self.watch, self.seen = policy, watch, seen
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Forget the episode."""
        self.generator = torch.Generator(device=self.policy.device).manual_seed(seed + APART)
        self.plan: Tensor | None = None  # (1, Tp, Da), the previous one
        self.plans: Tensor | None = None  # (M, Tp, Da) normalised, for the previous observations

    def __call__(self, obs: dict[str, Tensor], chunk: ActionChunk, since: int = 0) -> dict[str, float]:
        """The signals of a chunk planned for obs[k] (1, To, *shape), `since` control steps after the previous one."""
        many = {k: v.expand(self.watch.samples, *v.shape[1:]) for k, v in obs.items()}
        plans = self.policy.normalizer.action(self.policy.predict_action(many, generator=self.generator).plan)
        signals = {"spread": _rms(plans - plans.mean(0))}
        if self.seen is not None:
            signals["distance"] = self._distance(obs)
        if self.plans is not None:
            now = self.policy.horizon.observe - 1  # a plan's first steps are past
            before, after = self.plans[:, since + now :], plans[:, now : plans.shape[1] - since]
            if before.numel():
                signals["overlap"] = mmd(before, after, self.watch.bandwidth)
        if chunk.energies is not None:
            signals |= self._of_energy(obs, chunk, since)
        if chunk.grad_norm is not None:
            signals["grad_norm"] = chunk.grad_norm[0].item()
        if hasattr(self.policy.model.act, "tol"):
            signals["steps_to_tol"] = self._steps_to_tol(many)
        self.plan, self.plans = chunk.plan, plans
        return signals

    def _distance(self, obs: dict[str, Tensor]) -> float:
        here = flat_inputs(self.policy, obs)
        away = torch.cdist(here, self.seen, compute_mode="donot_use_mm_for_euclid_dist").min()
        return away.item() / here.shape[1] ** 0.5

    def _of_energy(self, obs: dict[str, Tensor], chunk: ActionChunk, since: int) -> dict[str, float]:
        energy = chunk.score()[0].item()
        signals = {"energy": energy, "energy_drop": chunk.energies[0, 0].item() - energy}
        if self.plan is not None and since < self.plan.shape[1]:
            rest = self.plan[:, since:]
            completed = torch.cat([rest, chunk.plan[:, rest.shape[1] :]], dim=1)
            signals["tail_energy"] = self.policy.energy(obs, completed)[0].item()
            signals["tail_rise"] = signals["tail_energy"] - energy
        return signals

    def _steps_to_tol(self, obs: dict[str, Tensor]) -> float:
        model, as_it_acts = self.policy.model, self.policy.model.act
        patient = dict(steps=self.watch.patience, tol=self.watch.tol, accept=False, restarts=1, deadline=None)
        model.act = replace(as_it_acts, **patient)
        try:
            return self.policy.predict_action(obs, generator=self.generator).steps.float().mean().item()
        finally:
            model.act = as_it_acts


class MonitoredAgent:
    """Acts exactly as `agent` does, and adds signals to its logs."""

    def __init__(self, agent: ChunkedAgent, monitor: Monitor):
        self.agent, self.monitor = agent, monitor
        self.reset(0)

    @property
    def policy(self) -> Policy:
        return self.agent.policy

    def reset(self, seed: int) -> None:
        self.agent.reset(seed)
        self.monitor.reset(seed)
        self.chunks: list[ChunkLog] = []
        self.acted, self.planned = 0, 0  # control steps: so far, and when the previous plan was made

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        action = self.agent.act(obs)
        if len(self.agent.chunks) > len(self.chunks):
            signals = self.monitor(self.agent.window(), self.agent.chunk, self.acted - self.planned)
            signals = {"elapsed": float(self.acted)} | signals
            self.chunks.append(replace(self.agent.chunks[-1], signals=signals))
            self.planned = self.acted
        self.acted += 1
        return action


def flat_inputs(policy: Policy, obs: dict[str, Tensor]) -> Tensor:
    """obs[k] (B, To, *shape) in env units -> (B, F), all that the encoder reads in one row."""
    return torch.cat([x.flatten(1) for x in policy.inputs(obs).values()], dim=1)


def mmd(x: Tensor, y: Tensor, bandwidth: float) -> float:
    """Squared maximum mean discrepancy of samples x (n, ...) and y (m, ...) under a Gaussian kernel (Gretton et al.,
    2012, the biased estimate): 0 for equal samples, 2 for points far apart. `bandwidth`: a root mean square."""
    x, y = x.flatten(1), y.flatten(1)

    def kernel(a: Tensor, b: Tensor) -> float:
        apart = (a[:, None] - b).pow(2).mean(-1)
        return (-0.5 * apart / bandwidth**2).exp().mean().item()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def _rms(x: Tensor) -> float:
    return x.pow(2).mean().sqrt().item()
