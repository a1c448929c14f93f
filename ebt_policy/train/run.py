"""One training run: a config in, a run folder out. What is trained on what is up to the kind of its task."""

from __future__ import annotations

import fcntl
import json
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from accelerate import PartialState
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ebt_policy.train import build, kinds
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
from ebt_policy.train.work import Work

MAY_CHANGE = ("run", "resume", "fit", "wandb")  # when a run is resumed: where it lies, how long and how it is trained


def train_run(cfg: DictConfig) -> nn.Module:
    """Train what `cfg` (configs/train.yaml) describes into the folder cfg.run; returns the averaged task module.

    Of several processes (accelerate launch) only the main one touches the folder.
    """
    run, fit_cfg = Path(cfg.run), FitConfig(**cfg.fit)
    build.check_targets(cfg)
    work = prepare(cfg)
    main = PartialState(cpu=not torch.accelerator.is_available()).is_main_process
    with _own_folder(run, cfg.resume) if main else nullcontext():
        resume = cfg.resume and has_saved(run)  # killed before its first save, a run starts over
        if main:
            _write_config(run, cfg, work)
        torch.manual_seed(fit_cfg.seed)  # initial weights
        module = work.build()
        since = latest_update(run) if resume else 0
        log = RunLog(run, since, cfg.wandb, OmegaConf.to_container(cfg)) if main else Silent()
        try:
            averaged = fit(
                module,
                work.examples,
                fit_cfg,
                log,
                save=partial(save_training, run),
                resume=partial(load_training, run) if resume else lambda state: None,
                evals=work.evals,
            )
        finally:
            log.close()
    return averaged


def prepare(cfg: DictConfig) -> Work:
    """What the task's kind makes of cfg: `prepare` of the module of that name in `kinds`."""
    kind, known = build.kind(cfg), sorted(module.name for module in pkgutil.iter_modules(kinds.__path__))
    if kind not in known:
        raise ValueError(f"task.kind must be one of {', '.join(known)}, got {kind!r}")
    return import_module(f"{kinds.__name__}.{kind}").prepare(cfg)


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


def _write_config(run: Path, cfg: DictConfig, work: Work) -> None:
    """config.yaml: what was composed, and what it was trained on. A resumed run must have been composed alike."""
    resolved = OmegaConf.to_container(cfg, resolve=True) | work.facts
    path = run / "config.yaml"
    if cfg.resume:
        before = OmegaConf.to_container(build.load_config(run))
        changed = [k for k in resolved if k not in MAY_CHANGE and _plain(resolved[k]) != _plain(before.get(k))]
        if changed:
            raise CheckpointError(f"{run} was trained with another {', '.join(changed)}: resume with the same settings")
    for name, text in (work.files | {path.name: OmegaConf.to_yaml(OmegaConf.create(resolved))}).items():
        write_whole(run / name, lambda path, text=text: path.write_text(text))


def _plain(value) -> str:
    return json.dumps(value, sort_keys=True, default=list)
