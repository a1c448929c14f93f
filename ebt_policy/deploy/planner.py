"""A trained policy as a planner: numpy in, numpy out, in the process that has the weights."""

from __future__ import annotations

import inspect
import math
import time
from dataclasses import fields

import numpy as np
import torch

from ebt_policy import bounds
from ebt_policy.core.energies import continuity, weight
from ebt_policy.deploy.plan import Plan, PlanError, Request, Terms
from ebt_policy.tasks.robot import Policy

GOOD_ROUND_TRIP = 1e-3  # in units of an action


class LocalPlanner:
    """Plans with a policy; how a plan joins the one before it is set here, as far as the method allows it.

    continuity: weight, below 1, of the energy that draws a plan to what is decided already; 0 for methods without an
    energy.
    warm: start from the tail, its last action repeated, plus noise of this strength (of the normalised action's) and
    not from noise alone; None starts from noise.
    """

    def __init__(self, policy: Policy, model: str = "", continuity: float = 0.0, warm: float | None = None):
        bounds.number("policy.continuity", continuity, "[0, inf)")
        bounds.number("policy.warm", warm, "[0, 1000] or null")
        if continuity and "extra" not in inspect.signature(policy.model.sample).parameters:
            kind = type(policy.model).__name__
            raise ValueError(f"expected a method with an energy for continuity={continuity}, got {kind}: set it to 0")
        if not 0 <= continuity < 1:
            raise ValueError(
                f"expected continuity in [0, 1), got {continuity}: a unit step on more overshoots, and plans diverge"
            )
        if policy.spec.hz is None:
            raise ValueError("expected a policy whose data says its rate, got none: state it with policy.hz=<its Hz>")
        self.policy, self.continuity, self.warm = policy, continuity, warm
        past, horizon = policy.horizon.observe - 1, policy.horizon
        self.terms = Terms(policy.spec.to_dict(), horizon.observe, horizon.execute, horizon.predict - past, model)
        self._offsets = np.arange(self.terms.plan) / policy.spec.hz
        self.reset(0)

    def reset(self, seed: int) -> None:
        """What follows samples with `seed`."""
        self._generator = torch.Generator(device=self.policy.device).manual_seed(seed)

    def __call__(self, request: Request) -> Plan:
        """PlanError for observations that do not fit the policy."""
        start = time.perf_counter()
        try:
            obs = {k: torch.from_numpy(np.array(request.obs[k])[None]) for k in self.policy.spec.obs}
            chunk = self.policy.predict_action(obs, self._generator, **self._joining(request.tail))
        except (KeyError, ValueError) as error:
            raise PlanError(f"the observations do not fit the policy: {error.args[0]}") from error
        if not chunk.finite.all():
            raise PlanError("the plan or its energy is not finite: the sampler diverged, lower its step size")
        actions = chunk.plan[0, self.policy.horizon.observe - 1 :].float().cpu().numpy()  # (n, Da)
        energy = None if chunk.score is None else float(chunk.score()[0])
        if energy is not None and not math.isfinite(energy):
            raise PlanError(f"the energy of the plan is {energy}: the sampler diverged, lower its step size")
        norm = None if chunk.grad_norm is None else float(chunk.grad_norm[0])
        steps = int(chunk.steps[0])
        seconds = time.perf_counter() - start  # with the energy's, which the reply waits for
        return Plan(request.id, actions, self._offsets, steps, self._why(steps), seconds, energy, norm)

    def round_trip(self, actions: np.ndarray) -> float:
        """Largest error of (N, Da) actions after normalising and back; ValueError if it is not negligible."""
        given, normalizer = torch.from_numpy(np.asarray(actions, np.float32)), self.policy.normalizer
        error = (normalizer.unaction(normalizer.action(given)) - given).abs().max().item()
        if not error <= GOOD_ROUND_TRIP:
            raise ValueError(f"expected actions back from the normaliser, got an error of {error}: damaged weights")
        return error

    def _joining(self, tail: np.ndarray | None) -> dict:
        """Arguments of predict_action that make a plan go on where the tail (m, Da) leads."""
        if tail is None or (not self.continuity and self.warm is None):
            return {}
        known = torch.from_numpy(np.array(tail, np.float32))[: self.policy.horizon.predict]
        if known.shape[1:] != (self.policy.spec.action.dim,):
            raise ValueError(f"expected a tail (m, {self.policy.spec.action.dim}), got {tuple(known.shape)}")
        known = known[None].to(self.policy.device)  # (1, m, Da)
        joining = {"extra": [weight(self.continuity, continuity(known))]} if self.continuity else {}
        if self.warm is not None:
            joining["start"] = self.policy.warm_start(known, self.warm, self._generator)
        return joining

    def _why(self, steps: int) -> str:
        act = self.policy.model.act
        if "steps" not in {f.name for f in fields(act)} or act.steps is None or steps >= act.steps:
            return "steps"
        return "converged" if getattr(act, "tol", 0) else "deadline"
