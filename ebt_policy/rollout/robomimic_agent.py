"""Policies that robomimic trained, as agents of ours: the outside anchor, which nobody here wrote.

A checkpoint (.pth) is read by torch's restricted loader, which makes tensors and plain containers and calls nothing.
What it says still decides which classes of robomimic are built, so whoever loads one has to say that he trusts it.
"""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from time import perf_counter

import numpy as np
import torch

from ebt_policy.rollout.agent import ChunkLog


class RobomimicAgent:
    """Acts at every step, so that each of its chunks is one action. Samples from torch's global generator."""

    def __init__(self, path: str | Path):
        stored = read_checkpoint(path)
        self.obs = {key: tuple(shape) for key, shape in stored["shape_metadata"]["all_shapes"].items()}
        self.dim, self.env_args = stored["shape_metadata"]["ac_dim"], stored["env_metadata"]
        self.settings = json.loads(stored["config"])["algo"]
        self.policy = _built(stored)
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.chunks: list[ChunkLog] = []
        torch.manual_seed(seed)
        self.policy.start_episode()

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """obs[k] (*shape) in env units -> action (Da,) float32."""
        start = perf_counter()
        action = self.policy({key: np.asarray(obs[key], np.float32) for key in self.obs})
        self.chunks.append(ChunkLog([], None, 1, perf_counter() - start))
        return np.asarray(action, np.float32)


def read_checkpoint(path: str | Path) -> dict:
    """robomimic's dict of a checkpoint; ValueError for other files, and for those that would need code to be read."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint that can be read without running code: {error}") from error
    wanted = {"model", "config", "algo_name", "env_metadata", "shape_metadata"}
    if not isinstance(stored, dict) or wanted - stored.keys():
        found = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
        raise ValueError(f"expected a checkpoint of robomimic with {sorted(wanted)} in {path}, got {found}")
    return stored


def _built(stored: dict):
    try:
        from robomimic.utils.file_utils import policy_from_checkpoint
    except ImportError as error:
        raise ValueError(
            f"robomimic is needed to run its policies ({error}): pip install -e '.[robomimic]' && "
            "pip install --no-deps robomimic==0.3.0"
        ) from error
    policy, _ = policy_from_checkpoint(device=torch.device("cpu"), ckpt_dict=stored)
    return policy
