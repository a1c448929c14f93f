"""What goes to a policy and what comes back, whether it is in this process or behind a socket. Env units, numpy.

To observed, n planned steps    Da action dimensions
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    """Plan from this."""

    id: int
    obs: dict[str, np.ndarray]  # obs[k] (To, *shape), the last of them observed at time 0 of the plan
    deadline: float  # s from now; a plan that is later is of no use
    tail: np.ndarray | None = None  # (m, Da) actions done or decided, from the first observed step on, m > To - 1


@dataclass(frozen=True)
class Plan:
    """Action i is due offsets[i] after the last observation, and what finding them took."""

    id: int  # of the request
    actions: np.ndarray  # (n, Da)
    offsets: np.ndarray  # (n,) s
    steps: int  # descent or denoising steps
    stop: str  # why there were no more: steps, converged or deadline
    seconds: float  # of inference
    energy: float | None = None  # None without an energy
    grad_norm: float | None = None


@dataclass(frozen=True)
class Terms:
    """What a policy says of itself, so that a robot can tell whether they fit."""

    spec: dict  # Spec.to_dict()
    observe: int  # To
    execute: int  # Ta, planned steps that are meant to be executed before planning again
    plan: int  # n, planned steps from the last observation on
    model: str  # hash of the weights


Planner = Callable[[Request], Plan]  # blocks until the plan is there; raises PlanError


class PlanError(RuntimeError):
    """There is no plan: the policy is out of reach, late or refused; the arm holds. The message says why."""
