"""Training windows over episodes: what was observed up to a step, and the actions around it.

    To  observed steps    Tp  predicted steps    B  windows of a batch    Da  action dimensions

Step t of an episode gives one window: observations t-To+1 .. t, actions t-To+1 .. t-To+Tp. Steps before the first
repeat the first, steps after the last repeat the last, as in robomimic and Diffusion Policy.

Where the demonstrator was disturbed (see `disturbed`), the labels from then on answer something that could not be seen
at step t. `foreseen` marks the others: those that a plan made at t can match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ebt_policy.data.disturbed import disturbed_steps
from ebt_policy.data.episodes import EpisodeData


@dataclass(frozen=True)
class Batch:
    """B windows."""

    obs: dict[str, Tensor]  # (B, To, *shape) in the data's units
    action: Tensor  # (B, Tp, Da)
    foreseen: Tensor  # (B, Tp) bool: no disturbance between step t and this action
    index: Tensor  # (B,) which windows, int64: 0 .. len(windows) - 1

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        obs = {k: v.to(device) for k, v in self.obs.items()}
        return Batch(obs, self.action.to(device), self.foreseen.to(device), self.index.to(device))


class WindowDataset:
    """Every window of every episode, looked up by number; a batch is a few gathers from memory.

    The arrays live on `device`; give a GPU to keep small data sets there.
    """

    def __init__(self, data: EpisodeData, observe: int, predict: int, device: torch.device | str = "cpu"):
        if observe < 1 or predict < observe:
            raise ValueError(f"expected 1 <= observe <= predict, got observe={observe}, predict={predict}")
        self.obs = {k: torch.from_numpy(v).to(device) for k, v in data.obs.items()}  # (N, *shape)
        self.action = torch.from_numpy(data.action).to(device)  # (N, Da)
        step = torch.arange(len(data.action), device=device)
        length = torch.from_numpy(data.lengths).to(device)
        first = torch.from_numpy(data.starts).to(device).repeat_interleave(length)
        last = torch.from_numpy(data.ends - 1).to(device).repeat_interleave(length)
        offset = torch.arange(1 - observe, 1 - observe + predict, device=device)
        steps = step[:, None] + offset
        self.action_rows = steps.clamp(first[:, None], last[:, None])  # (N, Tp)
        self.obs_rows = self.action_rows[:, :observe]  # (N, To)
        before = _disturbances_before(data).to(device)
        self.foreseen = before[self.action_rows] <= before[:, None]  # (N, Tp)

    def __len__(self) -> int:
        return len(self.action_rows)

    def batch(self, indices: Tensor | np.ndarray) -> Batch:
        """Windows (B,) int64, in this order and with repetition as given."""
        index = torch.as_tensor(indices, device=self.action_rows.device)
        rows = self.obs_rows[index]
        obs = {k: v[rows] for k, v in self.obs.items()}
        return Batch(obs, self.action[self.action_rows[index]], self.foreseen[index], index)


def _disturbances_before(data: EpisodeData) -> Tensor:
    """(N,) how many steps before each one, over all episodes, were disturbed."""
    disturbed = torch.from_numpy(disturbed_steps(data)).long()
    return disturbed.cumsum(0) - disturbed
