"""A policy measured in a simulator: its episodes as the JSON of an evaluation, and what acting costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ebt_policy.rollout.agent import Agent
from ebt_policy.rollout.result import describe
from ebt_policy.rollout.sim import rollout


def evaluate(
    make_agent: Callable[[], Agent],
    env_id: str,
    seeds: Sequence[int],
    *,
    flops: int | None = None,
    config: dict | None = None,
    hashes: dict[str, str] | None = None,
    **settings: Any,
) -> dict:
    """Roll out (`settings` go to `rollout`) and describe the run as the JSON-compatible dict of `describe`."""
    start = perf_counter()
    logs = rollout(make_agent, env_id, seeds, **settings)
    wall = perf_counter() - start
    result = describe(logs, wall, processes=settings.get("processes", 1), flops=flops)
    run = {
        "env_id": env_id,
        "max_steps": settings.get("max_steps"),  # None: the environment's own limit
        "after_success": settings.get("after_success", 10),
    }
    return {"run": run} | result | {"hashes": hashes or {}, "config": config or {}}


def flops_per_chunk(policy, obs: dict[str, torch.Tensor] | None = None) -> int:
    """Floating-point operations of one `predict_action` at batch 1: forward passes and the gradients of descent.

    obs[k] (1, To, *shape); zeros of the spec's shapes if left out. Counts matrix products, not elementwise work.
    """
    if obs is None:
        obs = {k: torch.zeros(1, policy.horizon.observe, *shape) for k, shape in policy.spec.obs.items()}
        obs = {k: v.to(policy.device) for k, v in obs.items()}
    with torch.compiler.set_stance("force_eager"), _FlopCounter() as counter:  # it sees no operation of a compiled one
        policy.predict_action(obs, generator=torch.Generator(device=policy.device).manual_seed(0))
    return counter.total


class _FlopCounter(TorchDispatchMode):
    """FlopCounterMode without its tally per module, whose hooks do not survive the autograd.grad of a descent."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if (flops := flop_registry.get(func.overloadpacket)) is not None:
            self.total += flops(*args, **(kwargs or {}), out_val=out)
        return out
