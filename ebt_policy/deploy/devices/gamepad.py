"""A gamepad through SDL, which knows the layout of most of them, so that buttons are named as on an Xbox pad."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np

from ebt_policy.deploy.teleop import Command, Hand

FULL = 32768  # SDL's axes
COMMANDS: dict[str, Command] = {"A": "grip", "B": "halt", "START": "keep", "BACK": "discard", "GUIDE": "quit"}


class Gamepad:
    """Two sticks and two triggers. OSError if there is none, or if it is unplugged.

    Not run on hardware: only on SDL's own virtual gamepad.
    """

    steering = """gamepad   left stick forward, back, left, right    right, left trigger up, down
          right stick tilt, turn    directional pad roll
          A opens or closes the gripper    B stops the arm or lets it go on
          Start ends the episode and keeps it, Back discards it, Guide quits"""

    def __init__(self, index: int = 0, dead: float = 0.1):
        """index: which of several; dead: share of a stick's way that counts as let go."""
        self._index, self._dead = index, dead
        self._held: set[str] = set()

    def __enter__(self) -> Gamepad:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # events need a display, even one that shows nothing
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
            from pygame._sdl2 import controller
        except ImportError as error:
            raise ImportError(f"a gamepad needs pygame-ce ({error}): pip install -e '.[teleop]'") from error
        pygame.display.init()
        controller.init()
        pygame.event.pump()
        if (found := controller.get_count()) <= self._index:
            pygame.quit()
            raise OSError(f"expected at least {self._index + 1} gamepads, got {found}: plug one in")
        self._pygame, self._pad = pygame, controller.Controller(self._index)
        return self

    def __exit__(self, *error) -> None:
        with suppress(self._pygame.error):
            self._pad.quit()
        self._pygame.quit()

    def read(self) -> Hand:
        self._pygame.event.pump()
        if not self._pad.attached():
            raise OSError("the gamepad was unplugged: plug it in and start again")
        stick = {name: self._pushed(name) for name in ("LEFTX", "LEFTY", "RIGHTX", "RIGHTY")}
        lift = self._pushed("TRIGGERRIGHT") - self._pushed("TRIGGERLEFT")
        roll = self._pressed("DPAD_RIGHT") - self._pressed("DPAD_LEFT")
        axes = [-stick["LEFTY"], -stick["LEFTX"], lift, roll, -stick["RIGHTY"], -stick["RIGHTX"]]
        held = {name for name in COMMANDS if self._pressed(name)}
        fresh, self._held = held - self._held, held
        return Hand(np.array(axes), frozenset(COMMANDS[name] for name in fresh))

    def _pushed(self, name: str) -> float:
        value = self._pad.get_axis(getattr(self._pygame, f"CONTROLLER_AXIS_{name}")) / FULL
        return float(np.sign(value) * max(0.0, abs(value) - self._dead) / (1 - self._dead))

    def _pressed(self, name: str) -> bool:
        return bool(self._pad.get_button(getattr(self._pygame, f"CONTROLLER_BUTTON_{name}")))
