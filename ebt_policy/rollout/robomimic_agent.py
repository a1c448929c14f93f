"""Policies that robomimic trained, as agents of ours: the outside anchor, which nobody here wrote.

A checkpoint (.pth) is read by torch's restricted loader, which makes tensors and plain containers and calls nothing.
What it says still decides which classes of robomimic are built, so whoever loads one has to say that he trusts it.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from ebt_policy.rollout.agent import ChunkLog

WANTED = {"model": dict, "config": str, "algo_name": str, "env_metadata": dict, "shape_metadata": dict}


class RobomimicAgent:
    """Acts at every step, so that each of its chunks is one action. Samples from torch's global generator."""

    def __init__(self, path: str | Path):
        stored = read_checkpoint(path)
        try:
            self.obs = {key: tuple(map(int, shape)) for key, shape in stored["shape_metadata"]["all_shapes"].items()}
            self.dim, self.env_args = int(stored["shape_metadata"]["ac_dim"]), stored["env_metadata"]
            config = json.loads(stored["config"])
            self.settings, frames = dict(config["algo"]), config.get("train", {}).get("frame_stack", 1)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} is no whole checkpoint of robomimic: {error!r:.200}; take a fresh copy"
            ) from error
        if frames != 1:
            raise ValueError(f"{path} reads {frames} frames at once: only policies of robomimic that read one act here")
        self.policy = _built(path, stored)
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
    """robomimic's dict of a checkpoint; ValueError for other and damaged files, and for those that would run code."""
    try:
        _check_archive(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise  # which says what is wrong with the path
    except Exception as error:  # a broken file is anything to the loader, from IndexError to AssertionError
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is no checkpoint that can be read without running code: {reason}") from error
    found = {key: type(value).__name__ for key, value in stored.items()} if isinstance(stored, dict) else stored
    if not isinstance(stored, dict) or not all(isinstance(stored.get(key), kind) for key, kind in WANTED.items()):
        wanted = ", ".join(f"{key} ({kind.__name__})" for key, kind in WANTED.items())
        raise ValueError(f"expected a checkpoint of robomimic with {wanted} in {path}, got {found!r:.200}")
    return stored


def _check_archive(path: str | Path) -> None:
    """ValueError for an archive that holds more than it is long, or not what was put into it; torch asks neither."""
    if not zipfile.is_zipfile(path):
        return  # in the way before torch 1.6
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which torch does not do")
        if damaged := archive.testzip():
            raise ValueError(f"it is damaged in {damaged}, take a fresh copy")


def _built(path: str | Path, stored: dict):
    """The policy; made without memory first, as its config may ask for any size, and its weights are what they are."""
    try:
        from robomimic.utils.file_utils import policy_from_checkpoint
    except ImportError as error:
        raise ValueError(
            f"robomimic is needed to run its policies ({error}): pip install -e '.[robomimic]' && "
            "pip install --no-deps robomimic==0.3.0"
        ) from error
    try:
        with torch.device("meta"), redirect_stdout(StringIO()), warnings.catch_warnings(action="ignore"):
            policy_from_checkpoint(device=torch.device("meta"), ckpt_dict=stored)
        policy, _ = policy_from_checkpoint(device=torch.device("cpu"), ckpt_dict=stored)
    except Exception as error:  # whatever robomimic makes of settings that it was not written for
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"robomimic cannot build the policy of {path}: {reason}; take a fresh copy") from error
    return policy
