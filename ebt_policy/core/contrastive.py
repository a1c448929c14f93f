"""Objectives that train the energy's value: low at the target, high at other candidates.

They need no second derivative, and exp(-E) is the density that they fit, up to a factor. The objectives of
`objectives` instead train where a descent step lands. Two things keep Langevin walks on what was learned:

    box     nothing is learned outside of the box that the others come from; walks with state="box" stay inside
    blur    a target that is a point asks for a valley without width, in which every step overshoots; Gaussian noise
            on targets bounds the curvature by 1 / blur^2, and steps must be smaller than 2 blur^2

At temperature 1 the noise of a walk is sqrt(2 * step_size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from ebt_policy import bounds
from ebt_policy.core.descent import EnergyFn, enter, per_sample
from ebt_policy.core.model import Loss


@dataclass(frozen=True)
class InfoNCE:
    """Pick the target out of a line-up by its energy (Florence et al., 2021, implicit behavioural cloning).

    The others are uniform points in a box, whose half side is `box`; normalised actions fill [-1, 1]. The first
    `walked` of them are moved by the training walk, to be found where the energy is wrongly low. Uniform points are
    told apart without a look at the context; the next `swapped` cannot be, as they are targets of other samples, and
    the last `noised`, the target under Gaussian noise of any scale up to `box`, are as hard to tell as it takes.
    Of other than uniform points exp(-E) is the target's density over theirs, and no longer the target's alone.
    """

    negatives: int = 8
    walked: int = 0  # of the negatives, as are
    swapped: int = 0  # and fewer than the batch has samples, else it meets its own target
    noised: int = 0
    box: float = 1.0
    blur: float = 0.0  # of the targets

    def __post_init__(self):
        _check_noise(self.negatives, self.box, self.blur)
        for name in ("walked", "swapped", "noised"):
            bounds.whole(name, getattr(self, name), "[0, inf)")
        if self.walked + self.swapped + self.noised > self.negatives:
            raise ValueError(f"expected negatives, no fewer than walked + swapped + noised, got {self}")

    def __call__(self, energy_fn: EnergyFn, target, y0, walk, generator=None, weight=1.0) -> Loss:
        target = _blurred(target, self.blur, self.box, generator)
        others = [_uniform(target, self.box, generator) for _ in range(self.negatives - self.swapped - self.noised)]
        others[: self.walked] = [walk(y)[-1].at.detach() for y in others[: self.walked]]
        others += [target.roll(k + 1, dims=0) for k in range(self.swapped)]
        others += [_noised(target, self.box, generator) for _ in range(self.noised)]
        line_up = [target] + [_where_it_says(weight, y, target) for y in others]
        energy = torch.stack([per_sample(energy_fn(y, 0)) for y in line_up], dim=1)  # (B, 1 + negatives)
        loss = cross_entropy(-energy, torch.zeros(len(target), dtype=torch.long, device=target.device))
        return Loss(loss, _gap(energy[:, 0], energy[:, 1:]))


class NoiseContrast(nn.Module):
    """Tell the target from uniform noise (NCE, Gutmann and Hyvarinen, 2010); exp(-E - log_z) is a density.

    Every context has the one log_z: what its own lacks, the energy has to make up for.
    """

    def __init__(self, negatives: int = 8, box: float = 1.0, blur: float = 0.0):
        """negatives: noise points for each target; box: half of the side of the box that they fill."""
        super().__init__()
        _check_noise(negatives, box, blur)
        self.negatives, self.box, self.blur = negatives, box, blur
        self.log_z = nn.Parameter(torch.zeros(()))

    def forward(self, energy_fn: EnergyFn, target, y0, walk, generator=None, weight=1.0) -> Loss:
        target = _blurred(target, self.blur, self.box, generator)
        noise = [_where_it_says(weight, _uniform(target, self.box, generator), target) for _ in range(self.negatives)]
        log_noise = math.log(self.negatives) - target[0].numel() * math.log(2 * self.box)
        energy = torch.stack([per_sample(energy_fn(y, 0)) for y in [target, *noise]], dim=1)  # (B, 1 + negatives)
        odds = -energy - self.log_z - log_noise  # log p(target) / p(noise)
        loss = softplus(-odds[:, 0]).mean() + softplus(odds[:, 1:]).sum(1).mean()
        return Loss(loss, {"log_z": self.log_z.detach()} | _gap(energy[:, 0], energy[:, 1:]))


@dataclass(frozen=True)
class ContrastiveDivergence:
    """Lower the energy at the target, raise it where the training walk ends (Hinton, 2002).

    From "data", a walk of k steps is CD-k; from "noise", walks start afresh; with a replay buffer they go on where
    they ended the last time, which is persistent CD (Tieleman, 2008). `shrink` times the squared energies keeps them
    near zero (Du and Mordatch, 2019): their difference leaves a common level free to drift, and falls without end
    while walks lag behind.
    """

    start: Literal["data", "noise"] = "noise"
    shrink: float = 0.02
    blur: float = 0.0  # of the targets

    def __post_init__(self):
        if self.start not in ("data", "noise"):
            raise ValueError(f"start must be data or noise, got {self.start!r}")
        bounds.number("shrink", self.shrink, "[0, inf)")
        bounds.number("blur", self.blur, "[0, inf)")

    def __call__(self, energy_fn: EnergyFn, target, y0, walk, generator=None, weight=1.0) -> Loss:
        target = _blurred(target, self.blur, 1.0, generator)
        end = walk(target if self.start == "data" else y0)[-1]
        other = _where_it_says(weight, end.at.detach(), target)
        low, high = per_sample(energy_fn(target, 0)), per_sample(energy_fn(other, 0))
        loss = (low - high).mean() + self.shrink * (low.pow(2) + high.pow(2)).mean()
        return Loss(loss, _gap(low, high), end.y.detach())


def _check_noise(negatives: int, box: float, blur: float) -> None:
    bounds.whole("negatives", negatives, "[1, inf)")
    bounds.number("box", box, "(0, inf)")
    bounds.number("blur", blur, "[0, inf)")


def _uniform(like: Tensor, box: float, generator: torch.Generator | None) -> Tensor:
    return box * (2 * torch.rand(like.shape, generator=generator, device=like.device) - 1)


def _blurred(target: Tensor, sigma: float, box: float, generator: torch.Generator | None) -> Tensor:
    """The target under Gaussian noise that the faces of the box reflect, as they do with the noise of walks."""
    if sigma == 0:
        return target
    noise = torch.randn(target.shape, generator=generator, device=target.device)
    return box * enter((target + sigma * noise) / box, "box")


def _noised(target: Tensor, box: float, generator: torch.Generator | None) -> Tensor:
    """The target under Gaussian noise, of a scale of its own for every sample: 1 to 100 % of the box, as often each."""
    draw = dict(generator=generator, device=target.device)
    scale = box * 100 ** -torch.rand(len(target), *[1] * (target.dim() - 1), **draw)
    return target + scale * torch.randn(target.shape, **draw)


def _where_it_says(weight: Tensor | float, y: Tensor, target: Tensor) -> Tensor:
    """y, but the target where the target says nothing: there the two must not differ."""
    return torch.where(torch.as_tensor(weight, device=target.device) == 0, target, y)


def _gap(low: Tensor, high: Tensor) -> dict[str, Tensor]:
    return {"energy_gap": (high.mean() - low.mean()).detach()}
