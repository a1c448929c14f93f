"""How well a denoiser restores held-out images: PSNR, MSE and SSIM by noise level and number of steps.

Measured on images clipped to their range, pixels from 0 to 1. Means are over images, the PSNR's too: that of the pooled
MSE, as often reported, is lower. Noise is the same for every method and number of steps, so that rows can be paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ebt_policy.rollout.stats import bootstrap_interval
from ebt_policy.tasks.image import Denoiser, Restored, add_noise, psnr, restore, squared_errors


def measure(denoiser: Denoiser, truth: Tensor, sigmas: Sequence[float], steps: Sequence[int]) -> list[dict]:
    """truth (n, C, S, S) in [-1, 1] -> a row per sigma and number of steps; 0 steps is the noised image itself."""
    rows = []
    for sigma in sigmas:
        noised = add_noise(truth, sigma)
        rows.append({"sigma": sigma, "steps": 0} | _quality(noised, truth))
        for count in steps:
            restored = restore(denoiser, noised, sigma, count)
            rows.append({"sigma": sigma, "steps": count} | _cost(restored) | _quality(restored.images, truth))
    return rows


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


def _cost(restored: Restored) -> dict:
    """A descent step evaluates the network and its gradient, a diffusion step the network alone."""
    evaluations = restored.steps.float().mean().item()
    if restored.energies is None:
        return {"network_evaluations": evaluations, "gradients": 0.0}
    return {"network_evaluations": evaluations, "gradients": evaluations, "energy": restored.energies.mean(1).tolist()}
