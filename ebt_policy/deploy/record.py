"""What a run did, tick by tick: an episode for the store that training reads, and JSON lines for people.

In the store action is what the policy asked for, executed what was sent after the safety layer, and log/ holds times,
plans and causes. A store's actions are finite and within their range: what was asked for otherwise, or that nothing
was, is in the JSON alone, whose lines a run that is killed leaves behind as well.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from math import nan
from pathlib import Path

import numpy as np

from ebt_policy.data.episodes import Episode
from ebt_policy.data.spec import Spec
from ebt_policy.deploy.control import Tick
from ebt_policy.deploy.plan import Plan

COMMON = 20  # causes that are counted: some say how many seconds it were


class Recorder:
    """Collects the ticks of one episode; pass it as control's on_tick."""

    def __init__(self):
        self.ticks: list[Tick] = []

    def __call__(self, tick: Tick) -> None:
        self.ticks.append(tick)

    def episode(self, spec: Spec, success: bool | None = None, seed: int | None = None) -> Episode:
        """Observations of `spec`, actions within its range; where nothing was due, what was sent stands for it."""
        asked = [t.sent if t.asked is None or not np.isfinite(t.asked).all() else t.asked for t in self.ticks]
        return Episode(
            obs={key: np.stack([t.observation.values[key] for t in self.ticks]) for key in spec.obs},
            action=np.clip(np.stack(asked), spec.action.low, spec.action.high).astype(np.float32),
            executed=np.stack([t.sent for t in self.ticks]).astype(np.float32),
            success=success,
            seed=seed,
        )

    def log(self) -> dict[str, np.ndarray]:
        """name -> (T,): s on the clock, of the plan that came in a tick (NaN: none did), why sent is not asked."""
        plans = [tick.plan for tick in self.ticks]
        of_plans = {"energy": "energy", "grad_norm": "grad_norm", "latency": "seconds"}
        return {
            "time": np.array([tick.time for tick in self.ticks]),  # s
            "late": np.array([tick.late for tick in self.ticks]),  # s
            "observed": np.array([tick.observation.time for tick in self.ticks]),  # s
            "cause": np.array([tick.cause for tick in self.ticks]),
        } | {name: np.array([_number(plan, key) for plan in plans]) for name, key in of_plans.items()}

    def append_to(self, path: Path, episode: int) -> None:
        """One line for each tick: when, how late, what was asked, sent and why not the same, what was planned."""
        with path.open("a", encoding="utf-8") as file:
            for k, tick in enumerate(self.ticks):
                file.write(json.dumps({"episode": episode, "tick": k} | _line(tick)) + "\n")


def summary(episodes: Sequence[Recorder], hz: float) -> dict:
    """How the control loop went: ticks by what became of them, how late they began (s), the commonest causes."""
    ticks = list(chain.from_iterable(recorder.ticks for recorder in episodes))
    due = sum(round((r.ticks[-1].time - r.ticks[0].time) * hz) + 1 for r in episodes)
    late = np.percentile([tick.late for tick in ticks], [50, 95, 100]).tolist()
    return {
        "ticks": len(ticks),
        "missed": due - len(ticks),
        "held": sum(tick.asked is None for tick in ticks),
        "changed": sum(tick.asked is not None and bool(tick.cause) for tick in ticks),
        "late_median": late[0],
        "late_p95": late[1],
        "late_max": late[2],
        "causes": dict(Counter(tick.cause for tick in ticks if tick.cause).most_common(COMMON)),
    }


def _number(plan: Plan | None, name: str) -> float:
    value = getattr(plan, name, None)
    return nan if value is None else float(value)


def _line(tick: Tick) -> dict:
    line = {
        "time": round(tick.time, 6),
        "late": round(tick.late, 6),
        "observed": round(tick.observation.time, 6),
        "asked": None if tick.asked is None else np.asarray(tick.asked, float).round(6).tolist(),
        "sent": np.asarray(tick.sent, float).round(6).tolist(),
    }
    if tick.cause:
        line["cause"] = tick.cause
    if (plan := tick.plan) is not None:
        planned = {"energy": plan.energy, "grad_norm": plan.grad_norm, "steps": plan.steps, "stop": plan.stop}
        line["plan"] = planned | {"seconds": round(plan.seconds, 6)}
    return line
