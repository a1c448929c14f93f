"""What a run did, tick by tick: an episode for the store that training reads, and JSON for what has no place there.

action is what the policy asked for, executed what was sent after the safety layer.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ebt_policy.data.episodes import Episode
from ebt_policy.data.spec import Spec
from ebt_policy.deploy.control import Tick


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

    def append_to(self, path: Path, episode: int) -> None:
        """One line for each tick: when, how late, what was asked, sent and why not the same, what was planned."""
        with path.open("a", encoding="utf-8") as file:
            for k, tick in enumerate(self.ticks):
                file.write(json.dumps({"episode": episode, "tick": k} | _line(tick)) + "\n")


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
