"""Who watches a run: monitors that raise an alarm, and a person with a keyboard who stops the arm or lets it go on."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import TextIO

import numpy as np

from ebt_policy import bounds
from ebt_policy.deploy.plan import Plan
from ebt_policy.deploy.robot import Observation

PICTURE_RANK = 3  # (H, W, C)
GO_ON = "go"
YES_NO = {"y": True, "n": False}


class FrozenPictures:
    """Alarm when a camera has shown the very same picture for so many seconds: real ones never do."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._last: dict[str, tuple[float, np.ndarray]] = {}  # key -> since when, picture

    def __call__(self, observation: Observation, plan: Plan | None) -> str:
        for key, picture in observation.values.items():
            if np.ndim(picture) < PICTURE_RANK:
                continue
            since, before = self._last.get(key, (observation.time, None))
            if before is None or not np.array_equal(before, picture):
                self._last[key] = (observation.time, picture)
            elif observation.time - since > self.seconds:
                return f"{key} has not changed for {observation.time - since:.1f} s: is the camera running?"
        return ""


class SteepPlans:
    """Alarm when a plan ends on a slope: a gradient norm above `limit`, or not a number."""

    def __init__(self, limit: float):
        self.limit = limit

    def __call__(self, observation: Observation, plan: Plan | None) -> str:
        if plan is None or plan.grad_norm is None or plan.grad_norm <= self.limit:
            return ""
        wrong = "is not a number" if math.isnan(plan.grad_norm) else f"is {plan.grad_norm:.3g}"
        return f"the gradient norm of plan {plan.id} {wrong}, expected at most {self.limit:g}"


MONITORS = {"frozen": FrozenPictures, "grad_norm": SteepPlans}


def monitors(alarms: Mapping[str, float | None]) -> list[FrozenPictures | SteepPlans]:
    """New ones, by name with their limits; None: no alarm."""
    if unknown := sorted(set(alarms) - set(MONITORS)):
        raise ValueError(f"alarms are {', '.join(MONITORS)}, got {', '.join(map(str, unknown))}")
    for name, limit in alarms.items():
        bounds.number(f"alarms.{name}", limit, "(0, inf) or null")
    return [MONITORS[name](limit) for name, limit in alarms.items() if limit is not None]


class Keyboard:
    """An operator at a terminal: Enter stops the arm, the word `go` lets it go on after it was asked for; `y` and `n`
    stop it and say whether the task was solved, which `verdict` keeps.

    lines: read in a thread of its own, as reading waits; ask: shows the operator a question, once for each stop.
    """

    def __init__(self, lines: TextIO, ask: Callable[[str], None]):
        self._ask, self._asked = ask, ""
        self._typed: SimpleQueue[str | None] = SimpleQueue()  # None: the terminal is gone
        self._stop = self._go = self._gone = False
        self.verdict: bool | None = None
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def wants_stop(self) -> bool:
        self._listen()
        wanted, self._stop = self._stop, False
        return wanted

    def lets_go_on(self, why: str) -> bool:
        self._listen()
        if why != self._asked:
            self._asked, self._go = why, False
            self._ask(f"held: {why}. Type {GO_ON} to go on, y or n to end the episode: solved or not")
        if not self._go:
            return False
        self._asked = ""
        return True

    def answer(self, question: str) -> str | None:
        """Waits for a line, whatever was typed before; None from a terminal that is gone."""
        self._listen()
        self._stop = False
        if self._gone:
            return None
        self._ask(question)
        word = self._typed.get()
        self._gone = word is None
        return word

    def _listen(self) -> None:
        while not self._typed.empty():
            word = self._typed.get()
            self._gone = self._gone or word is None  # a terminal that is gone watches nothing
            self.verdict = YES_NO.get(word, self.verdict)
            self._go = self._go or word == GO_ON
            self._stop = self._stop or word != GO_ON

    def _read(self, lines: TextIO) -> None:
        try:
            for line in lines:
                self._typed.put(line.strip().lower())
        finally:
            self._typed.put(None)
