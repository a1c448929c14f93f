"""The smallest training runs that go through everything: a synthetic store, and configs for a net of 16 channels."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ebt_policy.data.episodes import Episode
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.store import write_store

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_gripper_qpos": (2,), "object": (14,)}
SPEC = Spec(
    SHAPES,
    ActionSpec(7, "eef", "delta", "axis_angle", "close_positive"),
    hz=20.0,
    env_args={"env_name": "Lift", "type": 1, "env_kwargs": {}},
    simulator={"robosuite": "1.5.2", "mujoco": "3.3.0"},
)
TINY = (
    "net={dim: 16, depth: 1, heads: 2}",
    "horizon={observe: 2, predict: 4, execute: 2}",
    "fit.batch=8",
    "fit.warmup=2",
    "fit.log_every=2",
    "fit.eval_every=4",
    "validation=0.25",
)


def script(name: str, *arguments: str) -> None:
    """Runs scripts/<name>.py in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *arguments])
        runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")


def make_store(path: Path, spec: Spec = SPEC, episodes: int = 8) -> Path:
    """Episodes of 6 to 13 steps along straight lines, with actions that follow from where they are."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(sum(np.prod(s, dtype=int) for s in spec.obs.values()), spec.action.dim))
    write_store(path, spec, [_episode(rng, 6 + i, spec, mix) for i in range(episodes)])
    return path


def _episode(rng: np.random.Generator, length: int, spec: Spec, mix: np.ndarray) -> Episode:
    way = np.linspace(0, 1, length)
    ends = {key: rng.uniform(-1, 1, (2, *shape)) for key, shape in spec.obs.items()}
    obs = {k: (a + np.multiply.outer(way, b - a)).astype(np.float32) for k, (a, b) in ends.items()}
    seen = np.concatenate([values.reshape(length, -1) for values in obs.values()], axis=1)
    return Episode(obs, np.tanh(seen @ mix).astype(np.float32))


def overrides(run: Path, store: Path, updates: int | None = 6) -> list[str]:
    """What turns configs/train.yaml into a run of a second."""
    return [f"run={run}", f"task.data={store}", f"fit.updates={updates}", "fit.minutes=null", *TINY]


def compose_train(run: Path, store: Path, *more: str, updates: int | None = 6) -> DictConfig:
    """The config of a tiny run; `more` are hydra overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [*overrides(run, store, updates), *more])
