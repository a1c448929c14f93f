"""Training a manipulation policy: demonstrations in, windows and the error on held-out ones out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ebt_policy.data.episodes import EpisodeData
from ebt_policy.data.split import held_out_rows
from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import WindowDataset
from ebt_policy.train import build
from ebt_policy.train.work import Work

if TYPE_CHECKING:
    from omegaconf import DictConfig

VALIDATION_WINDOWS = 256


def prepare(cfg: DictConfig) -> Work:
    """The demonstrations cfg.task.data, split by cfg.validation, and the policy that cfg describes for them."""
    data = open_episodes(cfg.task.data, filter_key=cfg.task.filter_key, obs_keys=list(cfg.task.obs))
    train, held_out = _split(data, cfg.validation)
    windows = WindowDataset(train, cfg.horizon.observe, cfg.horizon.predict)
    return Work(
        facts={"spec": data.spec.to_dict(), "data": {"hash": data.content_hash, "episodes": len(data)}},
        examples=windows,
        build=partial(build.policy, cfg, data.spec, train, len(windows)),
        evals=(HeldOutError(held_out),) if held_out is not None else (),
    )


class HeldOutError:
    """Squared error of sampled against demonstrated actions, normalised units: held-out windows, foreseen, one seed."""

    def __init__(self, data: EpisodeData):
        self.data = data

    @torch.no_grad()
    def __call__(self, policy: nn.Module) -> dict[str, float]:
        policy.eval()
        windows = WindowDataset(self.data, policy.horizon.observe, policy.horizon.predict)
        count = min(VALIDATION_WINDOWS, len(windows))
        batch = windows.batch(np.linspace(0, len(windows) - 1, count).astype(np.int64)).to(policy.device)
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


def _split(data: EpisodeData, share: float) -> tuple[EpisodeData, EpisodeData | None]:
    """Training and held-out demonstrations, None without any."""
    if not 0 <= share < 1:
        raise ValueError(f"validation must be a share in [0, 1), got {share}")
    rows = held_out_rows(len(data), share)
    if not len(rows):
        return data, None
    return data.select(np.setdiff1d(np.arange(len(data)), rows)), data.select(rows)
