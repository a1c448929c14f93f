"""Energies to add when acting: functions y (B, Tp, Da) -> (B,), zero where a candidate is fine.

Energies add, so a constraint is one more term under the same descent:

    EBT.sample(ctx, y0, extra=[weight(10.0, box(low, high)), weight(1.0, continuity(tail))])

Values are in the units of y. A policy's y is normalised to [-1, 1]: wrap a term in `in_units` to write it in env
units. `path` terms read absolute positions; for delta actions wrap them in `along_path` first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Extra = Callable[[Tensor], Tensor]  # y (B, Tp, Da) -> (B,)


def box(low: Tensor | float, high: Tensor | float) -> Extra:
    """Half the squared distance outside of low <= y <= high, broadcast over (Tp, Da); joint or workspace limits."""

    def energy(y: Tensor) -> Tensor:
        return 0.5 * ((low - y).clamp(min=0).pow(2) + (y - high).clamp(min=0).pow(2)).flatten(1).sum(1)

    return energy


def keep_out(centre: Tensor, radius: float) -> Extra:
    """Half the squared depth of positions y[..., :3] inside a sphere; centre (3,) and radius in metres."""

    def energy(y: Tensor) -> Tensor:
        distance = (y[..., :3] - centre).pow(2).sum(-1).add(1e-12).sqrt()  # (B, Tp); the epsilon keeps 0 differentiable
        return 0.5 * (radius - distance).clamp(min=0).pow(2).sum(-1)

    return energy


def smoothness() -> Extra:
    """Half the squared second difference over time: bends cost, straight lines do not."""

    def energy(y: Tensor) -> Tensor:
        return 0.5 * (y[:, 2:] - 2 * y[:, 1:-1] + y[:, :-2]).flatten(1).pow(2).sum(1)

    return energy


def continuity(tail: Tensor) -> Extra:
    """Half the squared distance to the steps that the previous chunk had planned: tail (B, n, Da), n <= Tp."""

    def energy(y: Tensor) -> Tensor:
        return 0.5 * (y[:, : tail.shape[1]] - tail).flatten(1).pow(2).sum(1)

    return energy


def weight(w: float, extra: Extra) -> Extra:
    """w times the energy."""
    return lambda y: w * extra(y)


def in_units(extra: Extra, convert: Callable[[Tensor], Tensor]) -> Extra:
    """The term on convert(y), e.g. the policy's un-normalisation, so that limits are written in env units."""
    return lambda y: extra(convert(y))


def along_path(extra: Extra, start: Tensor, scale: Tensor | float = 1.0) -> Extra:
    """The term on the positions that delta actions lead to: start (B, 3) + cumulative sum of scale * y[..., :3]."""
    return lambda y: extra(start[:, None] + torch.cumsum(scale * y[..., :3], dim=1))
