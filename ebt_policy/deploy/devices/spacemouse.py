"""A SpaceMouse: six axes under one hand, and two buttons."""

from __future__ import annotations

import numpy as np

from ebt_policy.deploy.teleop import HANDS, Command, Hand

BUTTONS: tuple[Command, ...] = ("grip", "keep")  # left, right
SILENT = 4  # reads without a report after which the cap counts as let go: what says nothing more moves no arm
REPORTS = 100  # read at most in one tick


class SpaceMouse:
    """One of 3Dconnexion's. OSError if there is none, if it may not be read, or if it is unplugged.

    Not run on hardware: only on reports as it would send, through the library.
    """

    steering = """SpaceMouse  push, lift, tilt and turn the cap as the hand should move
          left button opens or closes the gripper    right button ends the episode and keeps it"""

    def __init__(self, dead: float = 0.1):
        """dead: share of an axis' way that counts as let go."""
        self._dead, self._stamp, self._silent, self._held = dead, -1.0, 0, frozenset()

    def __enter__(self) -> SpaceMouse:
        try:
            import pyspacemouse
            from easyhid import HIDException
        except (ImportError, OSError) as error:
            raise ImportError(
                f"a SpaceMouse needs pyspacemouse ({error}): pip install -e '.[teleop]', and the system's libhidapi"
            ) from error
        try:
            self._mouse = pyspacemouse.open(axis_convention=pyspacemouse.AxisConvention.ROS)
        except RuntimeError as error:
            raise OSError(f"expected a SpaceMouse that may be read (/dev/hidraw*): {error}") from error
        self._gone = HIDException
        return self

    def __exit__(self, *error) -> None:
        self._mouse.close()

    def read(self) -> Hand:
        state = self._newest()
        self._silent = self._silent + 1 if state.t == self._stamp else 0
        self._stamp = state.t
        held = frozenset(name for name, down in zip(BUTTONS, state.buttons, strict=False) if down)
        fresh, self._held = held - self._held, held
        if self._silent >= SILENT:
            return Hand(np.zeros(HANDS), fresh)
        pushed = np.array([state.x, state.y, state.z, state.roll, state.pitch, state.yaw])
        return Hand(np.where(np.abs(pushed) > self._dead, pushed, 0.0), fresh)

    def _newest(self):
        """The state after all reports that have come: each read takes one, and moves and turns come in two."""
        try:
            state = self._mouse.read()
            for _ in range(REPORTS):
                before = state.t
                state = self._mouse.read()
                if state.t == before:
                    break
        except self._gone as error:
            raise OSError(f"the SpaceMouse is gone ({error}): plug it in and start again") from error
        return state
