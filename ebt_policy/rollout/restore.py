"""How well a denoiser restores held-out images: PSNR, MSE and SSIM by noise level and number of steps.

Measured on images clipped to their range, pixels from 0 to 1. Means are over images, the PSNR's too: that of the pooled
MSE, as often reported, is lower. Noise is the same for every method and number of steps, so that rows can be paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from torch import Tensor

from ebt_policy.rollout.gain import Estimate, known, mean, relation
from ebt_policy.rollout.stats import bootstrap_interval
from ebt_policy.tasks.image import Denoiser, Restored, add_noise, psnr, restore, squared_errors


def measure(
    denoiser: Denoiser,
    truth: Tensor,
    sigmas: Sequence[float],
    steps: Sequence[int],
    candidates: Sequence[int] = (1,),
    spread: float = 0.1,
) -> list[dict]:
    """truth (n, C, S, S) in [-1, 1] -> a row per sigma, number of steps and of candidates (see `restore`).

    0 steps is the noised image itself.
    """
    rows = []
    for sigma in sigmas:
        noised = add_noise(truth, sigma)
        rows.append({"sigma": sigma, "steps": 0, "candidates": 1} | _quality(noised, truth))
        for count, many in product(steps, candidates):
            restored = restore(denoiser, noised, sigma, count, many, spread)
            row = {"sigma": sigma, "steps": count, "candidates": many}
            rows.append(row | _cost(restored) | _quality(restored.images, truth))
    return rows


def gains(rows: Sequence[dict]) -> list[dict]:
    """What thinking gains at each noise level, in dB of PSNR over the fewest steps, and whether it grows with sigma.

    rows: of `measure`. Images are paired and resampled alike at every level.
    """
    walked = [row for row in rows if row["steps"]]
    sigmas, cells = sorted({row["sigma"] for row in walked}), {_cell(row): row for row in walked}
    least, *ways = sorted({_cell(row)[1:] for row in walked})
    found = []
    for steps, candidates in ways:
        gained = [_gained(cells[sigma, *least], cells[sigma, steps, candidates]) for sigma in sigmas]
        way = {"steps": steps, "candidates": candidates, "over_steps": least[0]}
        by_sigma = {f"{sigma:g}": estimate.told() for sigma, estimate in zip(sigmas, gained, strict=True)}
        found.append(way | {"gain_db": by_sigma} | relation([known(sigma) for sigma in sigmas], gained))
    return found


def ssim(images: Tensor, truth: Tensor) -> np.ndarray:
    """Structural similarity (n,) of images (n, C, S, S), clipped to [-1, 1], with scikit-image's defaults."""
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ImportError("SSIM needs the image extra: pip install -e '.[image]'") from error
    pairs = zip(_from_zero(images), _from_zero(truth), strict=True)
    return np.array([structural_similarity(a, b, data_range=1.0, channel_axis=0) for a, b in pairs])


def _from_zero(images: Tensor) -> np.ndarray:
    """[-1, 1] -> [0, 1], as SSIM wants it: it compares means by their product, whose sign should tell nothing."""
    return ((images.clamp(-1, 1) + 1) / 2).numpy()


def _quality(images: Tensor, truth: Tensor) -> dict:
    errors = squared_errors(images, truth)
    each = {"psnr": psnr(errors).numpy(), "mse": errors.numpy(), "ssim": ssim(images, truth)}
    means = {k: {"mean": float(v.mean()), "interval": list(bootstrap_interval(v))} for k, v in each.items()}
    return means | {"psnr_of_each": [round(float(x), 3) for x in each["psnr"]]}


def _cell(row: dict) -> tuple[float, int, int]:
    return row["sigma"], row["steps"], row["candidates"]


def _gained(base: dict, thought: dict) -> Estimate:
    difference = np.subtract(thought["psnr_of_each"], base["psnr_of_each"])
    return mean(difference, np.arange(len(difference)))


def _cost(restored: Restored) -> dict:
    """A descent step evaluates the network and its gradient, a diffusion step the network alone."""
    evaluations = restored.steps.float().mean().item()
    if restored.energies is None:
        return {"network_evaluations": evaluations, "gradients": 0.0}
    return {"network_evaluations": evaluations, "gradients": evaluations, "energy": restored.energies.mean(1).tolist()}
