"""Training a manipulation policy: demonstrations in, windows and the error on held-out ones out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ebt_policy import bounds
from ebt_policy.data.episodes import DataError, EpisodeData
from ebt_policy.data.oddities import find_outliers, quaternion_columns
from ebt_policy.data.robomimic import OUTCOMES
from ebt_policy.data.split import held_out_rows
from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import Batch, WindowDataset
from ebt_policy.train import build
from ebt_policy.train.config_file import COLUMNS
from ebt_policy.train.work import Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omegaconf import DictConfig

VALIDATION_WINDOWS = 256
UNIT_NORM, MOSTLY = 0.02, 0.95  # numbers are a quaternion if their length is 1 to so much in so many steps


def prepare(cfg: DictConfig) -> Work:
    """The demonstrations cfg.task.data, split by cfg.validation, and the policy that cfg describes for them."""
    check_task(build.plain(cfg.task))
    data = demonstrations(cfg)
    origin = cfg.task.get("origin")
    _check_outliers(data, None if origin is None else origin.key)
    _check_quaternions(data, cfg.task.quaternions or {})
    if data.spec.hz is None:
        warnings.warn(
            "the data does not say at which rate it was recorded, so the policy cannot be served: state task.hz=<Hz>",
            stacklevel=2,
        )
    train, held_out = _split(data, cfg.validation)
    windows = WindowDataset(train, cfg.horizon.observe, cfg.horizon.predict)
    return Work(
        facts={"spec": data.spec.to_dict(), "data": {"hash": data.content_hash, "episodes": len(data)}},
        examples=windows,
        build=partial(build.policy, cfg, data.spec, train, len(windows)),
        evals=(HeldOutError(held_out),) if held_out is not None else (),
    )


def check_task(task: dict[str, Any]) -> None:
    """ValueError for settings of a task that are of another kind than their names say."""
    obs, origin, quaternions = task.get("obs"), task.get("origin"), task.get("quaternions")
    named = isinstance(obs, list) and obs and all(isinstance(key, str) for key in obs)
    if not named or len(set(obs)) < len(obs):
        raise ValueError(f"task.obs must be a list of names, each once, such as [object,'12'], got {obs!r}")
    if origin is not None and (not isinstance(origin, dict) or set(origin) - {"key", "scale"} or "key" not in origin):
        raise ValueError(f"task.origin must be null or have key and scale, such as {{key: tool}}, got {origin!r}")
    bounds.number("task.origin.scale", scale := (origin or {}).get("scale", 1.0), "(-1e6, 1e6)")
    if scale == 0:
        raise ValueError("task.origin.scale must not be 0, which is no origin: set task.origin=null")
    if quaternions is not None and not COLUMNS.fits(quaternions):
        raise ValueError(
            "task.quaternions must be null or have a list of first columns, four apart, for every observation with "
            f"quaternions, such as {{object: [3, 10]}}, got {quaternions!r}"
        )


def demonstrations(cfg: DictConfig, path: str | None = None) -> EpisodeData:
    """What a run's config trains on, or the same file at another path, with what the config states of it. Rewards are
    not learnt from, so other ones do not make it other data."""
    task = cfg.task
    stated = {name: task.get(name) for name in ("hz", "action")}
    data = open_episodes(path or task.data, filter_key=task.filter_key, obs_keys=list(task.obs), **stated)
    return replace(data, log={name: values for name, values in data.log.items() if name not in OUTCOMES})


class HeldOutError:
    """Squared error of sampled against demonstrated actions, normalised units: held-out windows, foreseen, one seed."""

    def __init__(self, data: EpisodeData):
        self.data, self._batch = data, None

    @torch.no_grad()
    def __call__(self, policy: nn.Module) -> dict[str, float]:
        policy.eval()
        self._batch = batch = self._batch or self._windows(policy)
        generator = torch.Generator(policy.device).manual_seed(0)
        chunk = policy.predict_action(batch.obs, generator)
        error = policy.normalizer.action(chunk.plan) - policy.normalizer.action(batch.action)
        error = error.pow(2).mean(-1)[:, policy.horizon.run]  # (B, Ta)
        metrics = {"val_error": error[batch.foreseen[:, policy.horizon.run]].mean().item()}
        if chunk.energies is not None:
            metrics["val_energy_drop"] = (chunk.energies[0] - chunk.score()).mean().item()
        if chunk.grad_norm is not None:
            metrics["val_energy_grad"] = chunk.grad_norm.mean().item()
        return metrics

    def _windows(self, policy: nn.Module) -> Batch:
        """Evenly spread, made once: a run has one horizon."""
        windows = WindowDataset(self.data, policy.horizon.observe, policy.horizon.predict)
        count = min(VALIDATION_WINDOWS, len(windows))
        return windows.batch(np.linspace(0, len(windows) - 1, count).astype(np.int64)).to(policy.device)


def _check_outliers(data: EpisodeData, origin: str | None) -> None:
    """A warning for every dimension with outliers; DataError where plans would imitate them, unless somebody states
    that the range of actions holds them."""
    known = np.isfinite(data.spec.action.high - data.spec.action.low)
    imitated = {origin} if known else {origin, "action"}
    for name, sentence in find_outliers(data):
        if name in imitated:
            raise DataError(
                f"{sentence} Leave the episode out or repair it; if these numbers are meant, state the range of "
                "actions with task.action={low: ..., high: ...}"
            )
        warnings.warn(f"{sentence} Its range is taken without them", stacklevel=3)


def _check_quaternions(data: EpisodeData, quaternions: Mapping[str, Sequence[int]]) -> None:
    """DataError if quaternions do not begin where the task says but elsewhere in the same observation: another layout.
    A warning if there are none."""
    for key in quaternions.keys() & data.obs.keys():
        starts, values = list(quaternions[key]), data.obs[key]
        norms = [np.linalg.norm(values[:, start : start + 4], axis=1) for start in starts]
        if all(np.mean(np.abs(norm - 1) < UNIT_NORM) > MOSTLY for norm in norms):
            continue
        said = f"task.quaternions has quaternions begin at columns {starts} of {key}, where the data has other numbers"
        if found := quaternion_columns(key, values):
            raise DataError(f"{said}, and has some at {found}: set 'task.quaternions={{{key}: {found}}}', or as it is")
        warnings.warn(said, stacklevel=3)


def _split(data: EpisodeData, share: float) -> tuple[EpisodeData, EpisodeData | None]:
    """Training and held-out demonstrations, None without any."""
    bounds.number("validation", share, "[0, 1)")
    rows = held_out_rows(len(data), share)
    if not len(rows):
        return data, None
    return data.select(np.setdiff1d(np.arange(len(data)), rows)), data.select(rows)
