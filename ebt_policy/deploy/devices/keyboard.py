"""The keys of a terminal, which is all that there is over SSH: a key pushes while the terminal repeats it.

A terminal reports no releases, so each report counts for `hold` seconds; and it repeats only the last key pressed.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty

import numpy as np

from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.teleop import HANDS, Command, Hand

PAIRS = ("ws", "ad", "rf", "lj", "ik", "uo")  # of keys, for each axis: there and back
PUSHES = {key: (axis, back) for axis, pair in enumerate(PAIRS) for back, key in enumerate(pair)}
COMMANDS: dict[str, Command] = {
    "g": "grip",
    " ": "halt",
    "\n": "keep",
    "\r": "keep",
    "\x7f": "discard",
    "\b": "discard",
    "q": "quit",
    "\x04": "quit",  # Ctrl-D
}
CHUNK = 1024  # bytes


class Keyboard:
    """Keys typed at a terminal. OSError if there is none; one that is gone quits."""

    steering = """keyboard  w s forward, back    a d left, right    r f up, down
          i k tilt forward, back    j l roll left, right    u o turn left, right
          g opens or closes the gripper    space stops the arm or lets it go on
          Enter ends the episode and keeps it, Backspace discards it, q quits"""

    def __init__(self, clock: Clock, hold: float = 0.1, file: int | None = None):
        """hold: s that a key pushes after it was reported; file: of the terminal, None: the standard input."""
        self._clock, self._hold = clock, hold
        self._file = sys.stdin.fileno() if file is None else file
        self._until = np.full((2, HANDS), -np.inf)  # s on the clock: there, back

    def __enter__(self) -> Keyboard:
        try:
            self._before = termios.tcgetattr(self._file)
        except termios.error as error:
            raise OSError(
                "expected a terminal on the standard input, to read keys from: start this in one, not in a pipe"
            ) from error
        tty.setcbreak(self._file)  # Ctrl-C still interrupts
        return self

    def __exit__(self, *error) -> None:
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def read(self) -> Hand:
        now, commands = self._clock.now(), set()
        for key in self._typed():
            if key in COMMANDS:
                commands.add(COMMANDS[key])
            elif key in PUSHES:
                axis, back = PUSHES[key]
                self._until[:, axis] = -np.inf  # the last of two opposite keys counts
                self._until[back, axis] = now + self._hold
        there, back = (self._until > now).astype(float)
        return Hand(there - back, frozenset(commands))

    def _typed(self) -> str:
        if not select.select([self._file], [], [], 0)[0]:
            return ""
        try:
            typed = os.read(self._file, CHUNK)
        except OSError:  # the terminal hung up
            typed = b""
        return typed.decode("ascii", "ignore").lower() or "q"
