"""A policy measured in a simulator: its episodes as the JSON of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

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
    if settings.get("env_kwargs"):
        run["env_kwargs"] = settings["env_kwargs"]
    return {"run": run} | result | {"hashes": hashes or {}, "config": config or {}}
