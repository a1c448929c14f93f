"""One denoiser of images for every method: x + sigma * noise in, x out.

    B images of a batch   C channels   S side, pixels   D width

    pixels 0 .. 255 -> x in [-1, 1] (B, C, S, S);   noised = x + sigma * n,   n ~ N(0, I),   sigma in units of x

Noise is added and the image not shrunk, as in `NoisedStates`: the EBT, which is not told sigma, has to remove noise and
not to guess a scale as well. Diffusion's sqrt(abar) x + sqrt(1 - abar) n is the same image times sqrt(abar), where
sigma^2 = (1 - abar) / abar: both methods start from the same image, and diffusion is told sigma besides.
There is no context but one learned token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ebt_policy.core.model import ConditionalModel, Loss, Sample, set_act
from ebt_policy.data.images import Tiles
from ebt_policy.data.split import evenly


@dataclass(frozen=True)
class ImageBatch:
    pixels: Tensor  # (B, C, S, S) uint8

    def to(self, device: torch.device | str) -> ImageBatch:
        """The same batch on `device`."""
        return ImageBatch(self.pixels.to(device))


class ImageRows:
    """Tiles as training examples."""

    def __init__(self, tiles: Tiles):
        self.pixels = tiles.pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Tensor | np.ndarray) -> ImageBatch:
        """Tiles (B,) int64, in this order and with repetition as given."""
        return ImageBatch(torch.from_numpy(self.pixels[np.asarray(indices)]))


class Denoiser(nn.Module):
    """Knows pixels and noise levels, and nothing of the method behind `model`."""

    def __init__(self, channels: int, size: int, dim: int, model: ConditionalModel):
        super().__init__()
        self.shape, self.model = (channels, size, size), model
        self.context = nn.Parameter(0.02 * torch.randn(1, 1, dim))

    @property
    def device(self) -> torch.device:
        return self.context.device

    def loss(self, batch: ImageBatch, generator: torch.Generator | None = None) -> Loss:
        """batch.pixels (B, C, S, S)."""
        target = to_unit(batch.pixels)
        noise = torch.randn(target.shape, generator=generator, device=target.device)
        return self.model.loss(target, self._context(target), noise, generator)

    @torch.no_grad()
    def denoise(self, noised: Tensor, sigma: float, generator: torch.Generator | None = None) -> Sample:
        """noised (B, C, S, S) = x + sigma * noise -> Sample with y (B, C, S, S), x as far as it could be told."""
        if noised.shape[1:] != self.shape:
            channels, size, _ = self.shape
            raise ValueError(
                f"expected images of {channels} channels and {size} x {size} pixels, got {tuple(noised.shape[1:])}: "
                "cut and convert them to that"
            )
        return self.model.denoise(self._context(noised), noised, sigma, generator)

    def _context(self, images: Tensor) -> Tensor:
        return self.context.expand(len(images), -1, -1)  # (B, 1, D)


@dataclass(frozen=True)
class Restored:
    images: Tensor  # (n, C, S, S) in [-1, 1], not clipped
    steps: Tensor  # (n,) network evaluations, of all candidates together
    energies: Tensor | None  # (K+1, n) of what was given and after each step; None for methods without an energy


def restore(
    denoiser: Denoiser,
    noised: Tensor,
    sigma: float,
    steps: int,
    candidates: int = 1,
    spread: float = 0.1,
    batch: int = 100,
) -> Restored:
    """Denoise images (n, C, S, S) in a number of steps, a batch at a time; of candidates the lowest energy is kept.

    spread: of noise on where all candidates but the first start, in units of sigma. ValueError without an energy.
    """
    set_act(denoiser.model, steps=steps)
    generator = torch.Generator(denoiser.device).manual_seed(0)
    walks = [_restored(denoiser, noised, sigma, batch, generator)]
    if candidates > 1 and walks[0].energies is None:
        raise ValueError(f"{candidates} candidates need an energy to choose by, which this method lacks: set 1")
    for seed in range(1, candidates):
        walks.append(_restored(denoiser, add_noise(noised, spread * sigma, seed), sigma, batch, generator))
    return _lowest(walks)


def _restored(denoiser: Denoiser, noised: Tensor, sigma: float, batch: int, generator: torch.Generator) -> Restored:
    samples = [denoiser.denoise(part.to(denoiser.device), sigma, generator) for part in noised.split(batch)]
    energies = None
    if samples[0].score is not None:
        energies = torch.cat([torch.cat([s.energies, s.score()[None]]) for s in samples], dim=1).cpu()
    return Restored(torch.cat([s.y for s in samples]).cpu(), torch.cat([s.steps for s in samples]).cpu(), energies)


def _lowest(walks: list[Restored]) -> Restored:
    """Image by image the walk that ended at the lowest energy; all walks cost."""
    if len(walks) == 1:
        return walks[0]
    energies = torch.stack([walk.energies for walk in walks])  # (N, K+1, n)
    best = energies[:, -1].nan_to_num(nan=torch.inf).argmin(0)
    images, of = torch.stack([walk.images for walk in walks]), torch.arange(len(best))
    return Restored(images[best, of], sum(walk.steps for walk in walks), energies[best, :, of].T)


def to_unit(pixels: Tensor) -> Tensor:
    """0 .. 255 -> [-1, 1]."""
    return pixels.float() / 127.5 - 1


def add_noise(images: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """images (B, C, S, S) in [-1, 1] + sigma * noise; of one seed the noise is the same but for its size."""
    generator = torch.Generator(images.device).manual_seed(seed)
    return images + sigma * torch.randn(images.shape, generator=generator, device=images.device)


def squared_errors(images: Tensor, truth: Tensor) -> Tensor:
    """(B,) mean squared error of each image in [-1, 1], clipped to that, as if pixels went from 0 to 1."""
    return ((images.clamp(-1, 1) - truth) / 2).pow(2).flatten(1).mean(1)


def psnr(errors: Tensor) -> Tensor:
    """Decibels (B,) of each image's mean squared error, pixels from 0 to 1. Average these, not the errors."""
    return -10 * errors.log10()


class Restoration:
    """PSNR on held-out images, evenly spread, at a few noise levels, with the noise of one seed."""

    def __init__(self, rows: ImageRows, sigmas: tuple[float, ...] = (0.5, 1.0), count: int = 64):
        self.batch, self.sigmas = rows.batch(evenly(len(rows), count)), sigmas

    @torch.no_grad()
    def __call__(self, module: Denoiser) -> dict[str, float]:
        module.eval()
        truth, metrics = to_unit(self.batch.to(module.device).pixels), {}
        for sigma in self.sigmas:
            sample = module.denoise(add_noise(truth, sigma), sigma)
            metrics[f"val_psnr_{sigma:g}"] = psnr(squared_errors(sample.y, truth)).mean().item()
            if sample.score is not None:
                metrics[f"val_energy_drop_{sigma:g}"] = (sample.energies[0] - sample.score()).mean().item()
        return metrics
