"""An evaluation as one JSON file: every episode, what they sum up to, what they cost, and what made them.

It needs neither torch nor a simulator: an arm's computer writes the same file.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ebt_policy.rollout.stats import SuccessRate

PACKAGES = ("ebt-policy", "torch", "numpy", "gymnasium", "mujoco", "robosuite", "diffusers")


@dataclass(frozen=True)
class EpisodeLog:
    """One episode. All but `latency` depends on the seed, the weights and the versions alone."""

    seed: int  # of the initial state and of the sampler
    success: bool | None  # at any time; None: nobody could say
    success_end: bool | None  # at the last step, up to `after_success` steps later
    length: int  # control steps until the first success, else of the whole episode
    steps: list[int]  # per chunk: descent or denoising steps
    energies: list[list[float]]  # per chunk: before each step, then of the result; empty without an energy
    grad_norm: list[float | None]  # per chunk, at the last step
    digest: str  # of all executed actions: equal digests, equal episodes
    latency: list[float] = field(compare=False)  # per chunk, seconds
    report: dict[str, Any] = field(default_factory=dict)  # info["report"] of the last step, JSON-compatible
    signals: list[dict[str, float]] = field(default_factory=list)  # per chunk, of agents that are watched


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


def first(result: dict, count: int) -> dict:
    """What `evaluate` would have given for the first `count` of its initial states alone."""
    if count == len(result["seeds"]):
        return result
    timing = result["timing"]
    rows = zip(result["episodes"][:count], timing["latency"], strict=False)
    logs = [EpisodeLog(**episode, latency=latency) for episode, latency in rows]
    part = describe(logs, math.nan, timing["processes"], result["compute"]["flops_per_chunk"])
    return result | part | {"versions": result["versions"]}


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


def rewrite(path: Path, name: str, text: str) -> None:
    """Replace what stands between the markers <!-- name --> and <!-- /name --> of a file; ValueError without them."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    whole = path.read_text()
    if begin not in whole or end not in whole:
        raise ValueError(f"expected the markers {begin} and {end} in {path}: put them where the table belongs")
    head, rest = whole.split(begin, 1)
    tail = rest.split(end, 1)[1]
    write_atomic(path, f"{head}{begin}\n{text}\n{end}{tail}")


def markdown(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table for `rewrite`."""
    lines = [f"| {' | '.join(map(str, line))} |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


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


def _summary(logs: Sequence[EpisodeLog]) -> dict:
    """What the episodes that were judged sum up to; those of unknown success are counted apart."""
    judged = [log for log in logs if log.success is not None]
    unknown = len(logs) - len(judged)
    rate = SuccessRate(sum(log.success for log in judged), len(judged))
    lengths = [log.length for log in judged if log.success]
    return {
        "text": f"{rate}, unknown of {unknown}" if unknown else str(rate),
        "successes": rate.successes,
        "episodes": rate.episodes,
        "unknown": unknown,
        "success_rate": rate.rate,
        "interval": list(rate.interval),
        "confidence": rate.confidence,
        "success_at_end": sum(log.success_end for log in judged),
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
