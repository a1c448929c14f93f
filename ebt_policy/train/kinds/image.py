"""Training a denoiser of images: pictures in, tiles and the PSNR on held-out ones out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ebt_policy.core import PatchTokens, Transformer
from ebt_policy.core.model import set_act
from ebt_policy.core.transformer import MAX_TOKENS
from ebt_policy.data.images import ImageData, open_images
from ebt_policy.tasks.image import Denoiser, ImageRows, Restoration
from ebt_policy.train import build
from ebt_policy.train.checkpoint import CheckpointError
from ebt_policy.train.work import Work

if TYPE_CHECKING:
    from omegaconf import DictConfig


def prepare(cfg: DictConfig) -> Work:
    """The images of cfg.task.source, split by cfg.validation and cut, and the denoiser that cfg describes for them."""
    _check_patches(cfg.task.size, cfg.task.patch)
    data = read_images(cfg)
    spec = {"size": cfg.task.size, "channels": cfg.task.channels, "patch": cfg.task.patch}
    return Work(
        facts={"spec": spec, "data": data.facts},
        examples=ImageRows(data.train),
        build=partial(denoiser, cfg),
        evals=(Restoration(ImageRows(data.held_out)),),
    )


def read_images(cfg: DictConfig) -> ImageData:
    """What a run with this config trains on and holds out."""
    return open_images(cfg.task.source, cfg.task.size, cfg.task.channels, cfg.validation)


def denoiser(cfg: DictConfig) -> Denoiser:
    """The denoiser that `cfg` (task, method, net) describes."""
    build.check_targets(cfg)
    task, dim = cfg.task, cfg.net.dim
    tokenize = PatchTokens(task.channels, task.patch, dim)
    model = build.conditional_model(cfg, tokenize, Transformer(dim, cfg.net.depth, cfg.net.heads))
    return Denoiser(task.channels, task.size, dim, model)


def load_denoiser(run: str | Path, **act) -> tuple[Denoiser, ImageData]:
    """The trained denoiser of a run, and the images it was trained on; `act` overrides how it denoises (steps=4).

    CheckpointError if the images are not what they were: those held out might have been trained on.
    """
    run = Path(run)
    cfg = build.load_config(run, "image")
    model = build.load_module(run, partial(denoiser, cfg))
    set_act(model.model, **act)
    data = read_images(cfg)
    if data.facts["hash"] != cfg.data.hash:
        raise CheckpointError(f"{cfg.task.source} is not what {run} was trained on: take the images of then, or train")
    return model, data


def _check_patches(size: int, patch: int) -> None:
    if size % patch:
        raise ValueError(f"task.size must be a multiple of task.patch, got {size} and {patch}")
    tokens = (size // patch) ** 2 + 1
    if tokens > MAX_TOKENS:
        raise ValueError(f"{tokens} tokens are more than {MAX_TOKENS}: set task.patch higher or task.size lower")
