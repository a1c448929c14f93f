"""From a composed config to objects: the only file of the package that knows hydra.

A config may come from outside with a checkpoint, so `_target_` can name nothing but the classes of this package
that models are made of.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hydra.utils
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from ebt_policy.core import Transformer
from ebt_policy.core.model import set_act
from ebt_policy.core.tokens import LinearTokens
from ebt_policy.data.episodes import EpisodeData
from ebt_policy.data.normalizer import Normalizer
from ebt_policy.data.spec import Spec
from ebt_policy.data.windows import WindowDataset
from ebt_policy.encoders.rotations import Rotations
from ebt_policy.tasks.relative import RelativePlans
from ebt_policy.tasks.robot import Horizon, Policy
from ebt_policy.train.checkpoint import CheckpointError, load_weights
from ebt_policy.train.compiler import check_compiler

PARTS = ("ebt_policy.core", "ebt_policy.baselines", "ebt_policy.encoders", "ebt_policy.tasks")
WRITTEN = ("task", "method", "net", "horizon", "fit", "spec", "data")  # what every run's config.yaml holds


def policy(cfg: DictConfig, spec: Spec, data: EpisodeData | None = None, windows: int = 0) -> Policy:
    """The policy that `cfg` (task, method, net, horizon) describes for data of `spec`.

    data: what the limits of its observations and plans are fitted to; None leaves that to the weights to be loaded.
    windows: number of training windows, for methods with persistent candidates.
    """
    check_targets(cfg)
    horizon, dim = Horizon(**cfg.horizon), cfg.net.dim
    trunk = Transformer(dim, cfg.net.depth, cfg.net.heads)
    model = make(cfg.method.model, tokenize=LinearTokens(spec.action.dim, dim), trunk=trunk)
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
    spec = Spec.from_dict(OmegaConf.to_container(cfg.spec))
    loaded = policy(cfg, spec)
    load_weights(run, loaded)
    if execute is not None:
        loaded.horizon = Horizon(loaded.horizon.observe, loaded.horizon.predict, execute)
    set_act(loaded.model, **act)
    if compile:
        check_compiler(loaded.device, "compile")
        loaded.compile_for_acting()
    return loaded.eval().requires_grad_(False)


def kind(cfg: DictConfig) -> str:
    """Which module of `ebt_policy.train.kinds` cfg's task belongs to; a task that does not say is a robot's."""
    return cfg.task.get("kind", "robot")


def load_config(run: Path, expected: str | None = None) -> DictConfig:
    """The config that a run was trained with; CheckpointError unless it is there, complete and of the expected kind."""
    path = run / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"expected {path}, which does not exist: give the folder of a training run or checkpoint")
    try:
        cfg = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not plain YAML: take a fresh copy. {error}") from error
    missing = [key for key in WRITTEN if key not in cfg]
    if missing:
        raise CheckpointError(
            f"{path} is incomplete, it has no {', '.join(missing)}: take a fresh copy, or train again"
        )
    if expected is not None and kind(cfg) != expected:
        raise CheckpointError(f"{run} holds a {kind(cfg)} model, expected one of kind {expected}: give another run")
    return cfg


def check_targets(cfg: DictConfig) -> None:
    """ValueError unless every `_target_` in cfg is a class, or a constructor of one, that models are made of."""
    for target in _targets(OmegaConf.to_container(cfg, resolve=True)):
        found = _find(target) if isinstance(target, str) and _is_part(target) else None
        owner = getattr(found, "__self__", found)  # of a classmethod: its class
        if not isinstance(owner, type) or not _is_part(owner.__module__):
            raise ValueError(f"_target_ {target!r} is not allowed: expected a class of {', '.join(PARTS)}")


def _is_part(path: str) -> bool:
    return path.startswith(tuple(f"{part}." for part in PARTS)) or path in PARTS


def _find(target: str) -> object | None:
    try:
        return hydra.utils.get_object(target)
    except (ImportError, ValueError, AttributeError):
        return None


def _targets(node) -> list[str]:
    if isinstance(node, list):
        return [t for item in node for t in _targets(item)]
    if not isinstance(node, dict):
        return []
    own = [node["_target_"]] if "_target_" in node else []
    return own + [t for value in node.values() for t in _targets(value)]


def make(cfg: DictConfig, **parts):
    """The object whose `_target_` and settings cfg holds, built with `parts`; see check_targets."""
    return hydra.utils.instantiate(cfg, **parts, _convert_="all")
