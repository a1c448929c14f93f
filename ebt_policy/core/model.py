"""The waist between tasks and methods: a conditional model of y given context, with a loss and a sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace

from torch import Tensor, nn


@dataclass(frozen=True)
class Loss:
    total: Tensor  # () differentiable
    metrics: dict[str, Tensor]  # detached scalars for the log
    final: Tensor | None = None  # (B, ...) detached: the candidate that the walk ended with


@dataclass(frozen=True)
class Sample:
    y: Tensor  # (B, ...)
    steps: Tensor  # (B,) int: descent or denoising steps that this sample took
    energies: Tensor | None = None  # (K, B) before each step, summed over tokens
    grad_norm: Tensor | None = None  # (B,) at the last step
    score: Callable[[], Tensor] | None = None  # -> (B,) or (B, N), the energy of y; a call, as acting need not wait


class ConditionalModel(nn.Module):
    """p(y | ctx) for some y. Knows nothing of robots, units, horizons or text.

    y0 ~ N(0, I) is the model's noise: EBT starts its walk there, diffusion and flow denoise from it.
    weight broadcasts against the elements of the criterion: 0 where a target says nothing.
    `act` is a frozen dataclass with the settings of `sample`; `set_act` changes them after training.
    """

    act: object

    def loss(self, target: Tensor, ctx: Tensor, y0: Tensor, generator=None, weight: Tensor | float = 1.0) -> Loss:
        raise NotImplementedError

    def sample(self, ctx: Tensor, y0: Tensor, generator=None) -> Sample:
        raise NotImplementedError

    def denoise(self, ctx: Tensor, noised: Tensor, sigma: float, generator=None) -> Sample:
        """From noised = target + sigma * noise (B, ...) to the target; who needs no level does not look at sigma."""
        return self.sample(ctx, noised, generator)

    def compile_for_acting(self) -> None:
        """Compile what `sample` evaluates again and again; its next calls wait for that, results differ by rounding."""
        raise NotImplementedError


def set_act(model: ConditionalModel, **changes) -> None:
    """Change how a trained model samples, e.g. set_act(model, steps=4). Unknown names raise ValueError."""
    assert is_dataclass(model.act)
    known = [f.name for f in fields(model.act)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ValueError(f"{type(model).__name__} has no setting {', '.join(unknown)}; it has {', '.join(known)}")
    model.act = replace(model.act, **changes)
