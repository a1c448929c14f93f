"""A person shows the robot what to do: what a teleoperator is, and the loop that records one.

    clock -> observe -> teleoperator asks -> SafeRobot -> log

As in `control` the safety layer cannot be left out, and what it changes is logged as sent, not as asked.

n  dimensions of the arm's position    Da  action dimensions
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from ebt_policy.data.episodes import Episode
from ebt_policy.data.spec import Spec
from ebt_policy.deploy.clock import Clock, paced
from ebt_policy.deploy.control import Monitor, Tick, heed
from ebt_policy.deploy.robot import Motion, Observation
from ebt_policy.deploy.safety import SafeRobot

Verdict = Literal["", "keep", "discard", "quit"]  # the episode goes on; ends and is kept; ends and is not; and no other
Command = Literal["grip", "halt", "keep", "discard", "quit"]  # open or close; stop or go on; the verdicts
HANDS = 6  # axes: forward, left, up, and turns about them (right-handed), in the frame of the robot's base


@dataclass(frozen=True)
class Asked:
    """What the operator asks for in one tick."""

    action: np.ndarray  # (Da,) env units
    idle: bool  # nothing moves and nothing is gripped: an episode does not begin with it
    halt: bool = False  # stop the arm, or let it go on
    verdict: Verdict = ""


class Teleoperator(Protocol):
    """Who moves the robot. Entering opens its devices, leaving gives them back."""

    steering: str  # how it is done, for people

    def __enter__(self) -> Teleoperator: ...

    def __exit__(self, *error) -> None: ...

    def begin(self) -> None:
        """An episode begins, with an open gripper."""
        ...

    def ask(self, look: Observation, sent: np.ndarray | None) -> Asked:
        """Of this tick, at once; sent (Da,): what was sent in the tick before, None at first."""
        ...

    def shown(self, episode: Episode) -> Episode:
        """The demonstration in what was recorded; ValueError if it is too short to be one."""
        ...


@dataclass(frozen=True)
class Hand:
    """What a device reports: where it is pushed to, and what was pressed since it was last read."""

    axes: np.ndarray = field(default_factory=lambda: np.zeros(HANDS))  # (6,) in [-1, 1]
    commands: frozenset[Command] = frozenset()


class Device(Protocol):
    """A thing that hands push and press. Entering opens it, leaving gives it back."""

    steering: str  # how it is used, for people

    def __enter__(self) -> Device: ...

    def __exit__(self, *error) -> None: ...

    def read(self) -> Hand:
        """At once. OSError if the device is gone."""
        ...


@dataclass(frozen=True)
class Steering:
    """What the pushes of a hand are in actions of this robot."""

    spec: Spec
    motion: Motion
    speed: float = 0.2  # m/s of a full push
    turning: float = 1.0  # rad/s

    @property
    def size(self) -> int:
        return int(np.prod(self.spec.obs[self.motion.key]))

    def action(self, axes: np.ndarray, closed: bool, look: Observation, sent: np.ndarray | None) -> np.ndarray:
        """axes (6,) -> (Da,) within the range; absolute actions go on from what was sent, or from where the arm is."""
        n, hz, act = self.size, self.spec.hz, self.spec.action
        numbers = self.speed * axes[:n] / hz
        if act.mode == "absolute":
            here = np.ravel(look.values[self.motion.key]) if sent is None else self.motion.scale * sent[:n]
            numbers = here + numbers
        parts = [numbers / self.motion.scale]
        if self.motion.turn:
            parts.append(self.turning * axes[3:] / hz / self.motion.turn)
        if act.gripper != "none":
            parts.append([1.0 if closed else -1.0])
        return np.clip(np.concatenate(parts), act.low, act.high).astype(np.float32)


class Steered:
    """A robot's hand moved by the keyboard, and by a second device beside it if there is one.

    The arm moves while something is pushed and stands when nothing is.
    """

    def __init__(self, keyboard: Device, steering: Steering, device: Device | None = None):
        frame, size = steering.spec.action.frame, steering.size
        if frame == "joint" or size > 3:
            raise ValueError(
                f"expected a robot whose hand is commanded, got {size} numbers in the frame {frame!r}: "
                "show it by hand (device=guiding)"
            )
        self.devices = [keyboard] if device is None else [device, keyboard]
        self.steering = "\n".join(d.steering for d in self.devices)
        self._map = steering
        self.begin()

    def __enter__(self) -> Steered:
        with ExitStack() as opened:  # a device that cannot be opened closes those before it
            for device in self.devices:
                opened.enter_context(device)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._opened.__exit__(*error)

    def begin(self) -> None:
        self._closed = False

    def ask(self, look: Observation, sent: np.ndarray | None) -> Asked:
        hands = [device.read() for device in self.devices]
        commands = frozenset().union(*(hand.commands for hand in hands))
        axes = np.clip(np.sum([hand.axes for hand in hands], axis=0), -1, 1)
        self._closed ^= "grip" in commands
        idle = not axes.any() and "grip" not in commands
        return Asked(self._map.action(axes, self._closed, look, sent), idle, "halt" in commands, verdict(commands))

    def shown(self, episode: Episode) -> Episode:
        return episode


def verdict(commands: Iterable[Command]) -> Verdict:
    """The strongest of what was pressed at once."""
    return next((word for word in ("quit", "discard", "keep") if word in commands), "")


def demonstrate(
    robot: SafeRobot,
    operator: Teleoperator,
    clock: Clock,
    seconds: float,
    on_tick: Callable[[Tick], None],
    show: Callable[[Observation, int, str], None] = lambda look, ticks, held: None,
    monitors: Sequence[Monitor] = (),
) -> Verdict:
    """One episode of an entered robot; at its end the arm stands. One longer than `seconds` is to be discarded.

    Until something is asked for nothing is commanded and nothing recorded: the arm stands, a simulated world waits.
    show: called in every tick with the observation, the ticks recorded and why the arm is held, or "".
    monitors: asked in every tick that is recorded; what they say holds the arm, until the operator lets it go on.
    TypeError for a robot that is not safe.
    """
    if not isinstance(robot, SafeRobot):
        raise TypeError(f"expected a SafeRobot, got {type(robot).__name__}: no arm moves without its limits")
    operator.begin()
    ticks, sent, word = 0, None, "discard"
    for _, late in paced(clock, robot.spec.hz, clock.now()):
        look = robot.observe()
        show(look, ticks, robot.stopped)
        asked = operator.ask(look, sent)
        if asked.verdict or ticks >= round(seconds * robot.spec.hz):
            word = asked.verdict or word
            break
        if asked.halt:
            _toggle(robot)
        if not ticks and (asked.idle or robot.stopped):
            continue
        heed(monitors, robot, look)
        tick = _turn(robot, look, asked.action, clock.now(), late)
        on_tick(tick)
        ticks, sent = ticks + 1, tick.sent
    held = robot.stopped
    robot.brake("the episode is over")
    if not held:  # who stopped the arm lets it go on
        robot.release()
    return word


def _toggle(robot: SafeRobot) -> None:
    if robot.stopped:
        robot.release()
    else:
        robot.stop("the operator's stop key")


def _turn(robot: SafeRobot, look: Observation, action: np.ndarray, now: float, late: float) -> Tick:
    before, asked = robot.intervened, None if robot.stopped else action
    sent = robot.hold(robot.stopped) if asked is None else robot.command(asked)
    cause = robot.interventions[-1].cause if robot.intervened > before else ""
    return Tick(now, look, asked, sent, cause, None, late)
