"""Where episodes happen: in a world that resets and judges itself, or on a table that a person looks after."""

from __future__ import annotations

from typing import Protocol

from ebt_policy.deploy.robot import SimRobot
from ebt_policy.deploy.watch import YES_NO, Keyboard


class Scene(Protocol):
    """Asked before, in and after every episode."""

    def ready(self, seed: int) -> bool:
        """Waits until everything is where an episode begins; False if there is to be no other."""
        ...

    def over(self) -> bool:
        """Whether the episode has ended; asked in every tick, answers at once."""
        ...

    def success(self) -> bool | None:
        """Of the episode that has ended, when the arm is at rest; None if nobody can say."""
        ...


class Simulated:
    """An episode is over when its task is solved; what the braking arm does afterwards does not count."""

    def __init__(self, robot: SimRobot):
        self.robot, self._solved = robot, False

    def ready(self, seed: int) -> bool:
        self.robot.reset(seed)
        self._solved = False
        return True

    def over(self) -> bool:
        self._solved = self.robot.success
        return self._solved

    def success(self) -> bool:
        return self._solved


class Watched:
    """A person resets the scene, may end an episode with y or n, and is asked after it if not."""

    def __init__(self, operator: Keyboard):
        self.operator = operator

    def ready(self, seed: int) -> bool:
        word = self.operator.answer(
            "Put everything where an episode begins and step back. Enter begins, q ends the run"
        )
        self.operator.verdict = None
        return word not in (None, "q")

    def over(self) -> bool:
        return self.operator.verdict is not None

    def success(self) -> bool | None:
        if self.operator.verdict is not None:
            return self.operator.verdict
        word = ""
        while word not in (*YES_NO, "?", None):
            word = self.operator.answer("Was the task solved? y, n, or ? if nobody can say")
        return YES_NO.get(word)


class Unwatched:
    """Nobody is at a terminal: there is one episode, and its success stays unknown."""

    def ready(self, seed: int) -> bool:
        return True

    def over(self) -> bool:
        return False

    def success(self) -> None:
        return None
