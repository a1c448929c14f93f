"""An evaluation as one JSON file: every episode, what they sum up to, what they cost, and what made them."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ebt_policy.rollout.agent import Agent
from ebt_policy.rollout.sim import EpisodeLog, rollout
from ebt_policy.rollout.stats import SuccessRate

PACKAGES = ("ebt-policy", "torch", "numpy", "gymnasium", "mujoco", "robosuite", "diffusers")


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


def describe(logs: Sequence[EpisodeLog], wall_seconds: float, processes: int = 1, flops: int | None = None) -> dict:
    """Episodes, summary, timing, compute, versions and seeds.

    `episodes` holds only what repeats: two runs of the same seeds and versions give it byte for byte.
    All durations are seconds and in `timing`, which does not repeat.
    """
    episodes = [asdict(log) for log in logs]
    latency = [episode.pop("latency") for episode in episodes]
    return {
        "summary": _summary(logs),
        "seeds": [log.seed for log in logs],
        "compute": _compute(logs, flops),
        "timing": _timing(latency, wall_seconds, processes),
        "versions": versions(),
        "episodes": episodes,
    }


def write_result(path: str | Path, result: dict) -> Path:
    """Write the JSON whole or not at all, one line per episode; NaN and infinity become null."""
    sections = [f'"{key}": {_dump(value)}' for key, value in _finite(result).items()]
    return write_atomic(path, "{\n" + ",\n".join(sections) + "\n}\n")


def write_atomic(path: str | Path, text: str) -> Path:
    """Replace the file at `path` in one step; a full disk or a kill leaves the old one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


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


def flops_per_update(module: torch.nn.Module, batch) -> float:
    """Floating-point operations of one update of a task module: loss(batch), second order included, and its backward.

    The mean over the numbers of steps that a training walk may draw. Counts matrix products, not elementwise work.
    """
    walk = getattr(module.model, "train_walk", None)
    if walk is None:
        return float(_loss_flops(module, batch))
    totals = []
    for steps in range(walk.steps, walk.steps + walk.extra_steps + 1):
        module.model.train_walk = replace(walk, steps=steps, extra_steps=0)
        totals.append(_loss_flops(module, batch))
    module.model.train_walk = walk
    return float(np.mean(totals))


def versions() -> dict[str, str]:
    """What made the numbers: Python, the packages that matter, the processor, the commit if this is a git checkout."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = _commit(Path(__file__).parent)
    return found | ({"commit": commit} if commit else {}) | {"machine": f"{platform.system()} {platform.machine()}"}


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


def _loss_flops(module: torch.nn.Module, batch) -> int:
    # plain attention, because torch has no count of the fused one on a CPU
    with torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH), _FlopCounter() as counter:
        module.loss(batch).total.backward()
    module.zero_grad()
    return counter.total


def _summary(logs: Sequence[EpisodeLog]) -> dict:
    rate = SuccessRate(sum(log.success for log in logs), len(logs))
    lengths = [log.length for log in logs if log.success]
    return {
        "text": str(rate),
        "successes": rate.successes,
        "episodes": rate.episodes,
        "success_rate": rate.rate,
        "interval": list(rate.interval),
        "confidence": rate.confidence,
        "success_at_end": sum(log.success_end for log in logs),
        "median_steps_to_success": float(np.median(lengths)) if lengths else None,
    }


def _compute(logs: Sequence[EpisodeLog], flops: int | None) -> dict:
    """Per chunk, what acting waits for: one evaluation a step, with its gradient if there is an energy."""
    steps = [n for log in logs for n in log.steps]
    mean = float(np.mean(steps)) if steps else 0.0
    descends = any(chunk for log in logs for chunk in log.energies)
    return {
        "chunks": len(steps),
        "steps_per_chunk": mean,
        "network_evaluations_per_chunk": mean,
        "gradients_per_chunk": mean if descends else 0.0,
        "flops_per_chunk": flops,
    }


def _timing(latency: list[list[float]], wall_seconds: float, processes: int) -> dict:
    chunks = np.concatenate([np.asarray(x) for x in latency]) if latency else np.zeros(0)
    median, p95 = np.percentile(chunks, [50, 95]) if len(chunks) else (math.nan, math.nan)
    return {
        "latency_median": float(median),
        "latency_p95": float(p95),
        "wall_seconds": round(wall_seconds, 3),
        "planning_seconds": round(float(chunks.sum()), 3),  # of all processes together
        "processes": processes,
        "latency": [[round(x, 6) for x in episode] for episode in latency],
    }


def _commit(folder: Path) -> str | None:
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        dirty = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=10).returncode
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + (" with local changes" if dirty else "")


def _dump(value: Any) -> str:
    """JSON with one line per entry of a top-level list of lists or dicts, and per key of a dict."""
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return "[\n  " + ",\n  ".join(json.dumps(v, default=str) for v in value) + "\n]"
    if isinstance(value, dict) and value:
        return (
            "{\n  " + ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v, default=str)}" for k, v in value.items()) + "\n}"
        )
    return json.dumps(value, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
