"""Monitored agents from runs: the policy, and the observations of the demonstrations that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ebt_policy.data.episodes import EpisodeData
from ebt_policy.data.windows import WindowDataset
from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.rollout.monitor import Monitor, MonitoredAgent, Watch, flat_inputs
from ebt_policy.tasks.robot import Policy
from ebt_policy.train.build import load_config
from ebt_policy.train.kinds.robot import demonstrations


def load_monitored(
    make_agent: Callable[[], ChunkedAgent], run: str, watch: Watch, data: str | None = None
) -> MonitoredAgent:
    """The agent of a run with a monitor; module-level, so that worker processes can make their own.

    data: the demonstrations, None where the run's config says. ValueError if they are not those of the training.
    """
    agent, cfg = make_agent(), load_config(Path(run), "robot")
    episodes = demonstrations(cfg, data)
    if episodes.content_hash != cfg.data.hash:
        path = data or cfg.task.data
        raise ValueError(f"{run} was not trained on {path}, as their hashes differ: set data=<its demonstrations>")
    return MonitoredAgent(agent, Monitor(agent.policy, watch, demonstrated(agent.policy, episodes)))


@torch.no_grad()
def demonstrated(policy: Policy, episodes: EpisodeData) -> Tensor:
    """What the encoder reads at every step of the demonstrations, (n, F)."""
    windows = WindowDataset(replace(episodes, executed=None), policy.horizon.observe, policy.horizon.observe)
    obs = windows.batch(torch.arange(len(windows))).obs
    return flat_inputs(policy, {k: v.to(policy.device, torch.float32) for k, v in obs.items()})
