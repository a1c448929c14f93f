"""Agents turn observations into actions; ChunkedAgent runs a policy that plans several actions at once.

To  observed steps    Tp  predicted steps    Ta  executed steps    Da  action dimensions    K  descent steps
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ebt_policy import bounds

if TYPE_CHECKING:
    from ebt_policy.tasks.robot import ActionChunk, Policy


@dataclass(frozen=True)
class ChunkLog:
    """What planning one chunk did and cost."""

    energies: list[float]  # K+1: before each step, then of the result; empty for methods without an energy
    grad_norm: float | None  # at the last step
    steps: int  # descent or denoising steps spent
    latency: float  # seconds from the observations to the actions, as numpy
    signals: dict[str, float] = field(default_factory=dict)  # what was watched beside acting, see monitor.py


class Agent(Protocol):
    """What an episode needs of a policy; `chunks` stays empty for agents that do not plan."""

    chunks: list[ChunkLog]  # of the episode since the last reset

    def reset(self, seed: int) -> None: ...

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray: ...


class ChunkedAgent:
    """Plans from the last To observations, executes Ta actions of the plan, plans again.

    Before To observations have been made, the first one stands in for the missing ones.
    """

    def __init__(self, policy: Policy, warm: float | None = None):
        """warm: start a plan from the rest of the one before plus noise of this strength; None starts from noise."""
        bounds.number("warm", warm, "[0, 1000] or null")
        self.policy, self.warm = policy, warm
        self.keys = tuple(policy.spec.obs)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Forget the episode; the next one samples with `seed`."""
        self.history: deque[dict[str, np.ndarray]] = deque(maxlen=self.policy.horizon.observe)
        self.queue: deque[np.ndarray] = deque()
        self.chunks: list[ChunkLog] = []
        self.generator = torch.Generator(device=self.policy.device).manual_seed(seed)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """obs[k] (*shape) in env units -> action (Da,) float32 in env units. FloatingPointError if it is not finite."""
        self._remember(obs)
        if not self.queue:
            self.queue.extend(self._plan())
        return self.queue.popleft()

    def _remember(self, obs: dict[str, np.ndarray]) -> None:
        try:
            self.history.append({k: _own(obs[k]) for k in self.keys})
        except KeyError as missing:
            raise ValueError(
                f"expected observations {list(self.keys)}, got {list(obs)}: use the environment that the policy was "
                f"trained for, {missing} is missing"
            ) from None
        while len(self.history) < self.history.maxlen:
            self.history.appendleft(self.history[0])

    def _plan(self) -> np.ndarray:
        began = perf_counter()
        start = None
        if self.warm is not None and self.chunks:
            start = self.policy.warm_start(self.rest, self.warm, self.generator)
        self.chunk = self.policy.predict_action(self.window(), generator=self.generator, start=start)
        actions = self.chunk.actions[0].float().cpu().numpy()  # (Ta, Da); waits for the device: a true latency
        self.chunks.append(_log(self.chunk, perf_counter() - began))
        if not self.chunk.finite.all():
            raise FloatingPointError(self._complaint(actions))
        return actions

    @property
    def done(self) -> int:
        """Steps of the plan that have been executed."""
        return self.policy.horizon.execute - len(self.queue)

    @property
    def rest(self) -> torch.Tensor:
        """The plan without what is past by now: (1, Tp - done, Da) in env units."""
        return self.chunk.plan[:, self.done :]

    def window(self) -> dict[str, torch.Tensor]:
        """The last observations as a batch of one: (1, To, *shape)."""
        window = {k: torch.from_numpy(np.stack([o[k] for o in self.history])) for k in self.keys}
        return {k: v[None].to(self.policy.device) for k, v in window.items()}

    def _complaint(self, actions: np.ndarray) -> str:
        bad = [k for k in self.keys if not all(np.isfinite(o[k]).all() for o in self.history)]
        cause = f"the observations {bad} are not finite" if bad else "the sampler diverged, lower its step size"
        wrong = int((~np.isfinite(actions)).sum())
        return f"expected finite actions, got {wrong} of {actions.size} non-finite in chunk {len(self.chunks)}: {cause}"


def _own(x: np.ndarray) -> np.ndarray:
    """A copy, since environments may reuse their buffers, as data sets have it: images (H, W, C) of bytes as they are,
    all else float32, and a single number as (1,)."""
    x = np.array(x)
    return x if x.dtype == np.uint8 and x.ndim == 3 else np.atleast_1d(x).astype(np.float32)


def _log(chunk: ActionChunk, latency: float) -> ChunkLog:
    energies = [] if chunk.energies is None else [*chunk.energies[:, 0].tolist(), chunk.score()[0].item()]
    return ChunkLog(
        energies=[_short(e) for e in energies],
        grad_norm=None if chunk.grad_norm is None else _short(chunk.grad_norm[0].item()),
        steps=int(chunk.steps[0]),
        latency=latency,
    )


def _short(x: float) -> float:
    """The shortest decimal that is the same float32, so that logs stay small and exact."""
    return float(str(np.float32(x)))
