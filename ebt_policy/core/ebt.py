"""The Energy-Based Transformer as a conditional model: acting is descent, training is second order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebt_policy import bounds
from ebt_policy.core.descent import (
    DescentConfig,
    EnergyFn,
    Step,
    descend,
    energy_and_grad,
    enter,
    leave,
    per_sample,
    walk,
)
from ebt_policy.core.energies import Extra
from ebt_policy.core.energy import EnergyTransformer
from ebt_policy.core.model import ConditionalModel, Loss, Sample
from ebt_policy.core.objectives import Objective
from ebt_policy.core.transformer import Prefix, Trunk

STEPS = "(0, 1e6]"  # published recipes take up to 1e4; what a step leaps is squared, and has to stay a float32


@dataclass(frozen=True)
class ActConfig(DescentConfig):
    """How to act: a descent, and what to do around it."""

    steps: int = 2
    restarts: int = 1  # best of N: walk from N starts, keep each sample's lowest energy
    deadline: float | None = None  # seconds; stop when it passes, at least one step, and return the best so far
    lowest: bool = False  # return the lowest-energy state on the path instead of the last

    def __post_init__(self):
        super().__post_init__()
        if self.backprop != "none":
            raise ValueError(f"acting does not train: expected backprop='none', got {self.backprop!r}")
        bounds.whole("restarts", self.restarts, "[1, inf)")
        bounds.number("deadline", self.deadline, "(0, inf) or null")
        bounds.flag("lowest", self.lowest)


class EBT(ConditionalModel):
    """net: anything with bind(ctx) -> EnergyFn. The step size lives in the module: saved, moved, and learnable."""

    _evaluate = staticmethod(energy_and_grad)  # of one step of acting

    def __init__(
        self,
        net: nn.Module,
        objective: Objective,
        train_walk: DescentConfig,
        act: ActConfig,
        step_size: float = 1.0,
        learn_step_size: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ):
        super().__init__()
        bounds.number("step_size", step_size, STEPS)
        bounds.flag("learn_step_size", learn_step_size)
        if train_walk.backprop == "none":
            raise ValueError("train_walk.backprop is 'none', so nothing would be learned: use last, each or through")
        self.net, self.objective, self.train_walk, self.act, self.clock = net, objective, train_walk, act, clock
        self.log_step = nn.Parameter(torch.tensor(step_size).log(), requires_grad=learn_step_size)

    @classmethod
    def on_trunk(
        cls, tokenize: nn.Module, trunk: Trunk, head: Callable[[int, int], nn.Module], landscapes: int = 0, **settings
    ) -> EBT:
        """An EBT over the energy tokenise -> trunk -> head(size of a token's raw vector, width of the trunk)."""
        return cls(EnergyTransformer(tokenize, trunk, head(tokenize.size, trunk.dim), landscapes), **settings)

    def read(self, ctx: Tensor, past: Prefix | None = None) -> Prefix:
        """The context (B, n, D) after `past`, read once for all that `sample` will do with it."""
        return self.net.trunk.read(ctx, past)

    def loss(
        self,
        target: Tensor,
        ctx: Tensor,
        y0: Tensor,
        generator=None,
        weight: Tensor | float = 1.0,
        go_on: Callable[[Tensor], Tensor] = lambda start: start,
    ) -> Loss:
        """target (B, ...), ctx (B, L, D), y0 (B, ...) ~ N(0, I) -> Loss with a graph through the energy's gradient.

        go_on: from the objective's start points (B, ...) to those of the walk, see ReplayBuffer.mix.
        """
        energy_fn = self.net.bind(ctx)

        def train(start: Tensor) -> list[Step]:
            return descend(energy_fn, go_on(start), self.log_step.exp(), self.train_walk, generator)

        return self.objective(energy_fn, target, y0, train, generator, weight)

    def compile_for_acting(self) -> None:
        self._bind, self._evaluate = torch.compile(self._bind), torch.compile(self._evaluate)

    @torch.no_grad()
    def sample(self, ctx: Tensor | Prefix, y0: Tensor, generator=None, extra: Sequence[Extra] = ()) -> Sample:
        """Descend from y0 (B, ...), noise or a warm start, to a candidate that fits ctx (B, L, D).

        Where tokens have energies of their own, restarts are compared token by token.
        """
        start_time, n = self.clock(), self.act.restarts
        if n > 1:  # candidate 0 starts at y0, the others at fresh noise; rows of a sample are neighbours
            fresh = torch.randn(len(y0), n - 1, *y0.shape[1:], generator=generator, device=y0.device, dtype=y0.dtype)
            y0 = torch.cat([y0[:, None], fresh], dim=1).flatten(0, 1)
            extra = [_for_restarts(term, n) for term in extra]
        energy_fn = _plus(self._bind(ctx if n == 1 else ctx.repeat_interleave(n, dim=0)), extra)
        steps = []
        for step in walk(energy_fn, y0, self.log_step.exp(), self.act, generator, self._evaluate):
            steps.append(step)
            if self.act.deadline is not None and self.clock() - start_time >= self.act.deadline:
                break
        if n > 1 or self._returns_lowest:
            return _pick(_scored(energy_fn, steps, self.act.state, self._returns_lowest), n)
        y, score, state = steps[-1].y, torch.no_grad()(energy_fn), self.act.state
        return Sample(
            y, _moves(steps), _energies(steps), steps[-1].grad_norm, lambda: score(enter(y, state), len(steps))
        )

    @torch.no_grad()
    def energy(self, ctx: Tensor, y: Tensor) -> Tensor:
        """Energy (B,) of given candidates y (B, ...) under ctx (B, L, D), as `sample` scores its own."""
        return per_sample(self._bind(ctx)(enter(y, self._state), self.act.steps))

    def _bind(self, ctx: Tensor) -> EnergyFn:
        return self.net.bind(ctx)

    @property
    def _state(self) -> str:
        return self.act.state

    @property
    def _returns_lowest(self) -> bool:
        return self.act.lowest or self.act.accept or self.act.deadline is not None


def _for_restarts(extra: Extra, n: int) -> Extra:
    """The term on (B*n, ...) candidates, one restart at a time, because it may hold data of shape (B, ...)."""
    return lambda y: torch.stack([extra(y[j::n]) for j in range(n)], dim=1).flatten()


def _plus(energy_fn: EnergyFn, extra: Sequence[Extra]) -> EnergyFn:
    if not extra:
        return energy_fn
    return lambda y, k: per_sample(energy_fn(y, k)) + sum(term(y) for term in extra)


def _moves(steps: list[Step]) -> Tensor:
    return torch.stack([s.moved for s in steps]).sum(0)  # (B,)


def _energies(steps: list[Step]) -> Tensor:
    return torch.stack([per_sample(s.energy) for s in steps])  # (K, B)


def _scored(energy_fn: EnergyFn, steps: list[Step], state: str, lowest: bool) -> Sample:
    """The walk's last or lowest state, whose energy is known already."""
    y, energy = steps[-1].y, energy_fn(enter(steps[-1].y, state), len(steps))
    if lowest:
        states = torch.stack([leave(s.at, state) for s in steps] + [y])
        known = torch.stack([s.energy for s in steps] + [energy])  # (K+1, B) or (K+1, B, N)
        best = known.nan_to_num(nan=torch.inf).argmin(0)
        y, energy = _choose(states, best), _choose(known, best)
    return Sample(y, _moves(steps), _energies(steps), steps[-1].grad_norm, lambda: energy)


def _pick(sample: Sample, n: int) -> Sample:
    """Of each n neighbouring rows the one with the lowest energy, for each token if tokens have energies."""
    if n == 1:
        return sample
    y, energy = (x.unflatten(0, (-1, n)).transpose(0, 1) for x in (sample.y, sample.score()))  # (n, B, ...)
    known = energy.nan_to_num(nan=torch.inf)
    best = known.argmin(0)
    y, chosen = _choose(y, best), _choose(energy, best)
    row = (known if known.ndim == 2 else known.sum(2)).argmin(0)  # (B,), for what is known of whole rows only
    rows = row + n * torch.arange(len(row), device=row.device)
    return Sample(y, sample.steps[rows], sample.energies[:, rows], sample.grad_norm[rows], lambda: chosen)


def _choose(states: Tensor, best: Tensor) -> Tensor:
    """states (K, B, ...) and best, (B,) or (B, N) of numbers < K -> (B, ...)."""
    places = torch.meshgrid(*[torch.arange(size, device=best.device) for size in best.shape], indexing="ij")
    return states[best, *places]
