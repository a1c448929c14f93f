"""One training run of a manipulation policy: demonstrations and a config in, a run folder out."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ebt_policy.data.episodes import EpisodeData
from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import WindowDataset
from ebt_policy.tasks.robot import Policy
from ebt_policy.train import build
from ebt_policy.train.checkpoint import (
    CheckpointError,
    has_saved,
    latest_update,
    load_training,
    save_training,
    write_whole,
)
from ebt_policy.train.fit import FitConfig, fit
from ebt_policy.train.log import RunLog, Silent

VALIDATION_WINDOWS = 256
MAY_CHANGE = ("run", "resume", "fit", "wandb")  # when a run is resumed: where it lies, how long and how it is trained


def train_policy(cfg: DictConfig) -> Policy:
    """Train what `cfg` (configs/train.yaml) describes into the folder cfg.run; returns the averaged policy.

    Of several processes (accelerate launch) only the main one touches the folder.
    """
    run, fit_cfg = Path(cfg.run), FitConfig(**cfg.fit)
    build.check_targets(cfg)
    data = open_episodes(cfg.task.data, filter_key=cfg.task.filter_key, obs_keys=list(cfg.task.obs))
    train, held_out = _split(data, cfg.validation)
    main = PartialState(cpu=not torch.accelerator.is_available()).is_main_process
    with _own_folder(run, cfg.resume) if main else nullcontext():
        resume = cfg.resume and has_saved(run)  # killed before its first save, a run starts over
        if main:
            _write_config(run, cfg, data)
        windows = WindowDataset(train, cfg.horizon.observe, cfg.horizon.predict)
        torch.manual_seed(fit_cfg.seed)  # initial weights
        policy = build.policy(cfg, data.spec, train, len(windows))
        since = latest_update(run) if resume else 0
        log = RunLog(run, since, cfg.wandb, OmegaConf.to_container(cfg)) if main else Silent()
        try:
            averaged = fit(
                policy,
                windows,
                fit_cfg,
                log,
                save=partial(save_training, run),
                resume=partial(load_training, run) if resume else lambda state: None,
                evals=(HeldOutError(held_out),) if held_out is not None else (),
            )
        finally:
            log.close()
    return averaged


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
            metrics["val_energy_grad"] = chunk.grad_norm.mean().item()
        return metrics


def _split(data: EpisodeData, share: float) -> tuple[EpisodeData, EpisodeData | None]:
    """Every k-th demonstration is held out, so that both parts cover the whole collection."""
    if not 0 <= share < 1:
        raise ValueError(f"validation must be a share in [0, 1), got {share}")
    held = round(len(data) * share)
    if held == 0:
        return data, None
    rows = np.linspace(0, len(data) - 1, held).astype(int)
    return data.select(np.setdiff1d(np.arange(len(data)), rows)), data.select(rows)


@contextmanager
def _own_folder(run: Path, resume: bool) -> Iterator[None]:
    """Hold the run's folder: no second process, and no overwriting of an earlier run unless it is resumed."""
    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"another process is training in {run}: wait for it, or set run=<another folder>"
            ) from error
        if (run / "config.yaml").exists() and not resume:
            raise CheckpointError(
                f"{run} holds a run already: set resume=true to go on with it, or run=<another folder>"
            )
        if resume and not (run / "config.yaml").exists():
            raise CheckpointError(f"{run} holds no run to resume: start it without resume=true")
        yield


def _write_config(run: Path, cfg: DictConfig, data: EpisodeData) -> None:
    """config.yaml: what was composed, and what it was trained on. A resumed run must have been composed alike."""
    facts = {"spec": data.spec.to_dict(), "data": {"hash": data.content_hash, "episodes": len(data)}}
    resolved = OmegaConf.to_container(cfg, resolve=True) | facts
    path = run / "config.yaml"
    if cfg.resume:
        before = OmegaConf.to_container(build.load_config(run))
        changed = [k for k in resolved if k not in MAY_CHANGE and _plain(resolved[k]) != _plain(before.get(k))]
        if changed:
            raise CheckpointError(f"{run} was trained with another {', '.join(changed)}: resume with the same settings")
    write_whole(path, lambda path: path.write_text(OmegaConf.to_yaml(OmegaConf.create(resolved))))


def _plain(value) -> str:
    return json.dumps(value, sort_keys=True, default=list)
