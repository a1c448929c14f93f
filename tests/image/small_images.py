"""The smallest pictures, denoisers and runs that go through everything."""

from __future__ import annotations

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from tiny_runs import ROOT

from ebt_policy.baselines.diffusion import DenoiseConfig, Diffusion
from ebt_policy.core import EBT, ActConfig, DescentConfig, NoisedStates, PatchTokens, Quadratic, Transformer
from ebt_policy.tasks.image import Denoiser

DIM, SIZE, PATCH = 16, 8, 4


def make(method="ebt", channels=1, predicts="epsilon", **act) -> Denoiser:
    """An untrained denoiser of 8 x 8 pixels: method ebt or dit; `act` changes how it denoises."""
    torch.manual_seed(0)
    tokenize, trunk = PatchTokens(channels, PATCH, DIM), Transformer(DIM, 2, 2)
    if method == "dit":
        denoise = DenoiseConfig(**({"steps": 4, "sampler": "ddim"} | act))
        model = Diffusion(tokenize, trunk, denoise, levels=50, predicts=predicts)
    else:
        settings = dict(train_walk=DescentConfig(steps=1, backprop="last"), act=ActConfig(**act))
        model = EBT.on_trunk(tokenize, trunk, Quadratic, objective=NoisedStates(pure=0.0), **settings)
    return Denoiser(channels, SIZE, DIM, model)


def shades(count=32, channels=1) -> torch.Tensor:
    """(count, channels, 8, 8) uint8, each of one grey: what noise hides can be told from the other pixels."""
    grey = torch.linspace(0, 255, count).round().to(torch.uint8)
    return grey[:, None, None, None].expand(count, channels, SIZE, SIZE).contiguous()


def write_folder(folder, count=8, size=(24, 16), mode="RGB"):
    """Pictures of width x height, each of its own colour with some grain."""
    folder.mkdir()
    rng, (width, height) = np.random.default_rng(0), size
    for i in range(count):
        shape = (height, width, 3) if mode == "RGB" else (height, width)
        pixels = (25 * i + rng.integers(0, 10, shape)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def compose_image(run, folder, *more, updates=4):
    """The config of a tiny run on a folder of RGB pictures; `more` are hydra overrides, the experiment first."""
    small = ["net={dim: 16, depth: 1, heads: 2}", "task=image_folder", f"task.source={folder}", "task.size=8"]
    small += ["task.patch=4", "validation=0.25", f"fit.updates={updates}", "fit.minutes=null", "fit.batch=4"]
    small += ["fit.warmup=2", "fit.log_every=1", "fit.eval_every=2"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [more[0], *small, f"run={run}", *more[1:]])
