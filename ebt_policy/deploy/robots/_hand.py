"""Franka's hand. Its commands last as long as its fingers move, so they wait in a thread, and its width in another."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import ModuleType

from ebt_policy import bounds

GIVE_UP = 3.0  # s for a stroke to end when the hand is left


@dataclass(frozen=True)
class HandConfig:
    """How the fingers move."""

    speed: float = 0.1  # m/s
    force: float = 20.0  # N that an object is held with
    open: float = 0.08  # m between the fingers

    def __post_init__(self):
        for name, value in vars(self).items():
            bounds.number(f"arm.hand.{name}", value, "(0, inf)")


class Hand:
    """Above 0 it closes on whatever is there, below it opens, at 0 it stays. A stroke ends before the next begins."""

    def __init__(self, franky: ModuleType, host: str, config: HandConfig):
        self._franky, self.config = franky, config
        self._gripper = franky.Gripper(host)
        self.width: float = self._gripper.width  # m between the fingers, as last reported
        self._wanted, self._closed, self._trouble = None, None, ""  # closed: None while unknown
        self._news, self._left = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._act, self._watch)]
        for thread in self._threads:
            thread.start()

    def wish(self, grip: float) -> None:
        if grip:
            self._wanted = grip > 0
            self._news.set()

    def trouble(self) -> str:
        said, self._trouble = self._trouble, ""
        return said

    def close(self) -> None:
        """The fingers keep what they hold."""
        self._left.set()
        self._news.set()
        for thread in self._threads:
            thread.join(GIVE_UP)

    def _act(self) -> None:
        while not self._left.is_set():
            self._news.wait()
            self._news.clear()
            while self._wanted != self._closed and not self._left.is_set():
                wanted = self._wanted
                self._try(self._close if wanted else self._open)
                self._closed = wanted

    def _watch(self) -> None:
        while not self._left.wait(0.005):
            self._try(self._look)

    def _look(self) -> None:
        self.width = self._gripper.width

    def _close(self) -> None:
        anything = self.config.open
        self._gripper.grasp(0.0, self.config.speed, self.config.force, epsilon_inner=anything, epsilon_outer=anything)

    def _open(self) -> None:
        self._gripper.move(self.config.open, self.config.speed)

    def _try(self, do) -> None:
        try:
            do()
        except (self._franky.Exception, self._franky.GripperException, RuntimeError) as error:
            self._trouble = f"the hand failed: {error}"
            self._left.wait(0.5)
