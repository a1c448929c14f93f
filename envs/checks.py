"""What comes into an environment from outside, as numbers: actions and states, or one line about what is wrong."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

UNSTABLE = [getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}") for what in ("QPOS", "QVEL", "QACC")]
LARGEST = 1e10  # MuJoCo begins anew, without a word, from anything larger


def as_action(action: Any, shape: tuple[int, ...]) -> np.ndarray:
    """float64 (Da,); ValueError unless these are finite numbers of this shape."""
    values = _numbers(action, "an action")
    if values.shape != shape:
        raise ValueError(f"expected an action of shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        shown = np.array2string(values, max_line_width=np.inf)
        raise ValueError(f"expected finite numbers in an action, got {shown}: look at what computed it")
    return values


def as_state(state: Any, task: str, initial: int, whole: int) -> np.ndarray:
    """float64 (S,); ValueError unless it is an initial state of the task, or one of `whole` numbers in mid-episode."""
    values = _numbers(state, "a state")
    if values.shape not in ((initial,), (whole,)):
        longer = f", in mid-episode of {whole}" if whole != initial else ""
        raise ValueError(f"{task} has states of {initial} numbers, got {values.shape}{longer}: recorded elsewhere?")
    wrong = np.flatnonzero(~(np.abs(values) < LARGEST))
    if len(wrong):
        raise ValueError(
            f"expected finite numbers below {LARGEST:g} in a state of {task}, got {values[wrong[0]]} as number "
            f"{wrong[0]} ({len(wrong)} such): take another state"
        )
    return values


def check_stable(data: mujoco.MjData) -> None:
    """FloatingPointError if MuJoCo has begun anew by itself, as it does without a word where numbers grow too large."""
    if any(data.warning[kind].number for kind in UNSTABLE):
        raise FloatingPointError(
            "the simulation became unstable and MuJoCo reset it: look at the state that it began from, and at actions"
        )


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {what} of numbers, got {type(values).__name__}: {error}") from error
