"""One training run: a config in, a run folder out. What is trained on what is up to the kind of its task."""

from __future__ import annotations

import fcntl
import json
import pkgutil
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from accelerate import PartialState
from hydra.core.hydra_config import HydraConfig
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
from ebt_policy.train.config_file import read_config
from ebt_policy.train.fit import FitConfig, Stopped, fit
from ebt_policy.train.interrupt import Interrupts
from ebt_policy.train.log import RunLog, Silent
from ebt_policy.train.work import Work

MAY_CHANGE = ("run", "resume", "fit", "wandb")  # when a run is resumed: where it lies, how long and how it is trained
BUDGETS = ("updates", "minutes")


def train_run(cfg: DictConfig) -> nn.Module:
    """Train what `cfg` (configs/train.yaml) describes into the folder cfg.run; returns the averaged task module.

    Ctrl-C, a kill or a terminal that hangs up end the process after the update it is in, as soon as that is saved.
    Of several processes (accelerate launch) only the main one touches the folder.
    """
    cfg = _one_budget(cfg)
    run, fit_cfg = Path(cfg.run), FitConfig(**cfg.fit)
    build.check_targets(cfg)
    work = prepare(cfg)
    processes = PartialState(cpu=not torch.accelerator.is_available())
    main = processes.is_main_process
    with _own_folder(run, cfg.resume) if main else nullcontext():
        resume = cfg.resume and has_saved(run)  # killed before its first save, a run starts over
        since = latest_update(run) if resume else 0
        torch.manual_seed(fit_cfg.seed)  # initial weights
        module = work.build()  # before anything is written, as settings are checked here
        if main:
            _write_config(run, cfg, work, since)
        with Interrupts(alone=processes.num_processes == 1) as interrupts, _ending(interrupts, main):
            log = RunLog(run, since, cfg.wandb, OmegaConf.to_container(cfg)) if main else Silent()
            with closing(log):
                return fit(
                    module,
                    work.examples,
                    fit_cfg,
                    log,
                    save=partial(save_training, run),
                    resume=partial(load_training, run) if resume else lambda state: None,
                    evals=work.evals,
                    stop=interrupts.came,
                )


def prepare(cfg: DictConfig) -> Work:
    """What the task's kind makes of cfg: `prepare` of the module of that name in `kinds`."""
    kind, known = build.kind(cfg), sorted(module.name for module in pkgutil.iter_modules(kinds.__path__))
    if kind not in known:
        raise ValueError(f"task.kind must be one of {', '.join(known)}, got {kind!r}")
    return import_module(f"{kinds.__name__}.{kind}").prepare(cfg)


@contextmanager
def _ending(interrupts: Interrupts, main: bool) -> Iterator[None]:
    """A training that was told to stop, and has, ends the process with a line instead of a traceback."""
    try:
        yield
    except Stopped as stopped:
        if main:
            sys.stderr.write(f"stopped at update {stopped}, saved: go on with resume=true\n")
        sys.exit(128 + (interrupts.number or signal.SIGTERM))


def _one_budget(cfg: DictConfig) -> DictConfig:
    """A budget that the command line names takes the place of the one that an experiment or the config has."""
    said = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    named = [name for name in BUDGETS if any(re.match(rf"\+*fit\.{name}=(?!null$)", word) for word in said)]
    others = [name for name in BUDGETS if name not in named]
    return OmegaConf.merge(cfg, {"fit": dict.fromkeys(others)}) if len(named) == 1 else cfg


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


def _write_config(run: Path, cfg: DictConfig, work: Work, since: int) -> None:
    """config.yaml: what was composed, and what it was trained on. A resumed run must have been composed alike, but for
    how it is trained: `history` keeps how that was before, and until which update.
    """
    resolved = OmegaConf.to_container(cfg, resolve=True) | work.facts
    path = run / "config.yaml"
    if cfg.resume:
        before = OmegaConf.to_container(build.load_config(run))
        changed = [k for k in resolved if k not in MAY_CHANGE and _plain(k, resolved) != _plain(k, before)]
        if changed:
            raise CheckpointError(f"{run} was trained with another {', '.join(changed)}: resume with the same settings")
        if since and (history := _history(before, resolved["fit"], since)):
            resolved["history"] = history
    for name, text in work.files.items():
        write_whole(run / name, lambda path, text=text: path.write_text(text))
    write_whole(path, lambda path: _write_readable(path, OmegaConf.to_yaml(OmegaConf.create(resolved))))


def _write_readable(path: Path, text: str) -> None:
    """CheckpointError, before anything is trained, for a config that could not be loaded again."""
    path.write_text(text)
    read_config(path)


def _history(before: dict, fit: dict, since: int) -> list[dict]:
    """[{until: update, fit: {name: value}}, ...], oldest first; a warning for every value that changes now."""
    changed = {name: value for name, value in before["fit"].items() if name in fit and fit[name] != value}
    for name, value in changed.items():
        warnings.warn(f"fit.{name}={fit[name]} from update {since} on, it was {value} until then", stacklevel=2)
    history = list(before.get("history") or [])
    if changed and history and history[-1]["until"] == since:  # resumed, and ended without a save
        changed |= history.pop()["fit"]
    return [*history, {"until": since, "fit": changed}] if changed else history


def _plain(key: str, config: dict) -> str:
    said = _said(config.get(key))
    if key == "task" and said:
        said.pop("robot", None)  # what is trained does not depend on it
    return json.dumps(said, sort_keys=True, default=list)


def _said(value):
    """Without entries that are null or empty: what is not set may also not be there."""
    if not isinstance(value, dict):
        return value
    said = {key: _said(inner) for key, inner in value.items()}
    return {key: inner for key, inner in said.items() if inner not in (None, {})}
