"""From a composed config to objects: the only file of the package that sees the config tree.

A config may come from outside with a checkpoint. `load_config` is where it enters; what it may name is in `parts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ebt_policy.core import ConditionalModel, Transformer
from ebt_policy.core.model import set_act
from ebt_policy.core.tokens import LinearTokens
from ebt_policy.data.episodes import EpisodeData
from ebt_policy.data.normalizer import Normalizer
from ebt_policy.data.spec import Spec
from ebt_policy.data.windows import WindowDataset
from ebt_policy.encoders.rotations import Rotations
from ebt_policy.tasks.relative import RelativePlans
from ebt_policy.tasks.robot import Horizon, Policy
from ebt_policy.train import parts
from ebt_policy.train.checkpoint import CheckpointError, check_weights, load_weights, tensors_in
from ebt_policy.train.compiler import check_compiler
from ebt_policy.train.config_file import read_config

Module = TypeVar("Module", bound=nn.Module)
SPARE = 2000  # parameters that a config may have more than its weights, before it is not looked at any further


def policy(cfg: DictConfig, spec: Spec, data: EpisodeData | None = None, windows: int = 0) -> Policy:
    """The policy that `cfg` (task, method, net, horizon) describes for data of `spec`.

    data: what the limits of its observations and plans are fitted to; None leaves that to the weights to be loaded.
    windows: number of training windows, for methods with persistent candidates.
    """
    check_targets(cfg)
    horizon, dim = Horizon(**cfg.horizon), cfg.net.dim
    trunk = Transformer(dim, cfg.net.depth, cfg.net.heads)
    model = conditional_model(cfg, LinearTokens(spec.action.dim, dim), trunk)
    features = Rotations(spec.obs, cfg.task.quaternions)
    normalizer = Normalizer(replace(spec, obs=features.shapes))
    relative = RelativePlans(spec, horizon.predict, **cfg.task.origin) if cfg.task.get("origin") else None
    if data is not None:
        normalizer.fit(features({k: torch.from_numpy(v) for k, v in data.obs.items()}), torch.from_numpy(data.action))
    if data is not None and relative is not None:
        every = WindowDataset(data, horizon.observe, horizon.predict)
        relative.fit({relative.key: every.obs[relative.key][every.obs_rows]}, every.action[every.action_rows])
    encoder = make(cfg.task.encoder, shapes=features.shapes, dim=dim)
    replay = None
    if cfg.method.get("replay") and windows:
        replay = make(cfg.method.replay, size=windows, shape=(horizon.predict, spec.action.dim))
    return Policy(spec, horizon, features, normalizer, encoder, model, replay, relative)


def load_policy(run: str | Path, execute: int | None = None, compile: bool = False, **act) -> Policy:
    """The trained policy of a run or checkpoint folder, ready to act; `act` overrides how it samples (steps=4).

    execute: actions of a chunk to execute, None as trained. compile: see Policy.compile_for_acting.
    """
    run = Path(run)
    cfg = load_config(run, "robot")
    loaded = load_module(run, lambda: policy(cfg, Spec.from_dict(plain(cfg.spec))))
    if execute is not None:
        loaded.horizon = Horizon(loaded.horizon.observe, loaded.horizon.predict, execute)
    set_act(loaded.model, **act)
    if compile:
        check_compiler(loaded.device, "compile")
        loaded.compile_for_acting()
    return loaded


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A part of a config as dicts and lists."""
    return OmegaConf.to_container(cfg, resolve=True)


def kind(cfg: DictConfig) -> str:
    """Which module of `ebt_policy.train.kinds` cfg's task belongs to; a task that does not say is a robot's."""
    return cfg.task.get("kind", "robot")


def load_config(run: Path, expected: str | None = None) -> DictConfig:
    """The config that a run was trained with, which may be anybody's: see `config_file` for what is refused.

    CheckpointError unless it is there, whole and of the expected kind; ValueError if it names what it must not.
    """
    said = read_config(run / "config.yaml")
    parts.check_targets(said)
    cfg = OmegaConf.create(said)
    if expected is not None and kind(cfg) != expected:
        raise CheckpointError(f"{run} holds a {kind(cfg)} model, expected one of kind {expected}: give another run")
    return cfg


def environment(cfg: DictConfig) -> str:
    """The environment that a run was trained for; CheckpointError unless it is one of this package, or registered.

    An id may name a module, which making the environment imports: only a user may name one of another package.
    """
    env_id = cfg.task.get("env")
    if env_id is None:
        raise CheckpointError("config.yaml names no environment: name one yourself with env=<environment>")
    env_id = str(env_id)
    # without a module only what is registered already is found
    if not re.fullmatch(r"(envs:)?[A-Za-z0-9_/.-]+", env_id):
        shown = env_id if re.fullmatch(r"[\w:./-]{1,80}", env_id) else f"{env_id!r:.80}"
        raise CheckpointError(
            f"config.yaml names the environment {shown}, which this package does not have: "
            f"if you trust it, name it yourself with env={shown}"
        )
    return env_id


def load_module(run: Path, build: Callable[[], Module]) -> Module:
    """What `build` makes of the run's config, with the run's weights, ready to act.

    Made first without memory and compared: a config may ask for any size, weights are as large as their file.
    """
    most = len(tensors_in(run)) + SPARE
    with _as_checkpoint_error(run), _at_most(most), torch.device("meta"):
        draft = build()
    check_weights(run, draft)
    with _as_checkpoint_error(run):
        module = build()
    load_weights(run, module)
    return module.eval().requires_grad_(False)


@contextmanager
def _as_checkpoint_error(run: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever comes of a config that nobody here has written
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{run / 'config.yaml'} describes no model that can be built: {reason}") from error


@contextmanager
def _at_most(most: int) -> Iterator[None]:
    """ValueError as soon as modules get more parameters than so many."""
    number = count(1)

    def check(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if next(number) > most:
            raise ValueError(f"it has more than {most} parameters, and its weights are far fewer")

    hook = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


def conditional_model(cfg: DictConfig, tokenize: nn.Module, trunk: nn.Module) -> ConditionalModel:
    """The method of `cfg` over this trunk."""
    model = make(cfg.method.model, tokenize=tokenize, trunk=trunk)
    if not isinstance(model, ConditionalModel):
        raise ValueError(f"expected method.model to be a ConditionalModel, got {type(model).__name__}")
    return model


def check_targets(cfg: DictConfig) -> None:
    """ValueError unless cfg names only classes that models are made of, see `parts`."""
    parts.check_targets(plain(cfg))


def make(cfg: DictConfig, **settings):
    """The object whose `_target_` and settings cfg holds, built with more `settings`; see `parts`."""
    return parts.make(plain(cfg), **settings)
