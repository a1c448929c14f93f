"""Between whatever asks and the arm: `SafeRobot` lets through what keeps the robot's limits and changes the rest.

    asked action -> finite? fresh? allowed? -> workspace -> speed, acceleration, jerk, always able to stop -> arm

`control` takes no other robot. What it changes it logs, with the cause. For actions that are displacements (mode
"delta") the limits hold for displacements from the measured position, for absolute ones for the way from command to
command. What was sent since the position was measured counts as driven, partly driven or not driven at all. An
observation key that both the arm and the policy use has to hold the measured position.

A clock that jumps stops the arm, by the way out that it had before. What is remembered is moved to the new time, as if
the clock had stood still: nothing that was sent is forgotten, and no waiting is over early.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ebt_policy import bounds
from ebt_policy.deploy.clock import EPSILON, Clock, Jumps
from ebt_policy.deploy.limits import Limits, LimitsError, Plane
from ebt_policy.deploy.motion import SLACK, Glide, Vector
from ebt_policy.deploy.robot import Observation, Robot, RobotError

SAME = 1e-7  # m/s, rad/s: closer wishes count as fulfilled
TOUCH = 5e-7  # m, rad: what a measured float32 is off by
KEPT = 100_000  # interventions
RESERVE = 0.1  # of the step, for what an arm that is behind moves by itself while it brakes
REASONABLE_STOP = 200  # ticks within which leaving brakes to a standstill


@dataclass(frozen=True)
class Intervention:
    """One command that was not sent as it was asked for."""

    time: float  # s on the robot's clock
    cause: str
    asked: tuple[float, ...] | None  # (Da,); None: nothing was
    sent: tuple[float, ...]  # (Da,)


class SafeRobot:
    """A robot that keeps its limits. `stopped` says why it holds until it is released, or is empty."""

    def __init__(self, robot: Robot, limits: Limits, clock: Clock):
        if not isinstance(limits, Limits):
            raise LimitsError(f"expected Limits for this robot, got {limits!r}: declare them in configs/robot")
        self.robot, self.limits, self.clock = robot, limits, clock
        self.spec, self.motion = robot.spec, robot.motion
        self.size, self._delta = _check(robot, limits), robot.spec.action.mode == "delta"
        self.interventions: deque[Intervention] = deque(maxlen=KEPT)
        self.intervened = 0  # how often, beyond what is kept
        self.stopped = ""
        self._measured: Vector | None = None  # the arm's position (n,), and when that was
        self._seen = -math.inf

    def __enter__(self) -> SafeRobot:
        self.robot.__enter__()
        self.stopped = ""
        try:
            self.reset()
        except BaseException:
            self.robot.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error) -> None:
        try:
            self.brake("the run is over")
        finally:
            self.robot.__exit__(*error)

    def reset(self) -> None:
        """The arm stands still where it is measured: after entering, and after it was moved by others."""
        unit = min(-self.spec.action.low, self.spec.action.high) * self.spec.hz  # the fastest that one number can say
        reach = self.motion.scale * unit if self._delta else math.inf
        self._glide = Glide(self.size, self.limits.motion, 1 / self.spec.hz, reach)
        turn = self.limits.turn
        self._turning = turn and Glide(3, turn, 1 / self.spec.hz, self.motion.turn * unit)
        limits = self.limits.gripper
        self._grip = min(max(0.0, limits.low), limits.high) if limits else 0.0
        self._side, self._gripped = 0.0, -math.inf
        self._jumps = Jumps(self.clock.now())
        self._unsure = -math.inf  # until when, as the clock jumped then, nobody knows whether what was sent arrived
        self._sides: tuple[Plane, ...] = ()  # on which the arm passes spheres
        self._since: list[tuple[float, Vector]] = []  # when and by how much the arm was moved since it was measured
        self._outside = math.inf  # by how much of its workspace the arm was at the least, since it was let go
        self._fresh = self._jumps.last
        self.observe()
        if self._measured is None:
            raise RobotError(f"expected an arm that says where it is, but {self.stopped}")
        self._target = self._measured

    def observe(self) -> Observation:
        """The robot's; one that lacks the measured position is an error.

        One that is not finite stops the arm, and so does an arm that leaves its workspace by more than a step.
        """
        observation = self.robot.observe()
        if trouble := self.robot.trouble():
            self.stop(trouble)
        if self.motion.key not in observation.values:
            raise ValueError(f"expected {self.motion.key!r} in every observation, got {sorted(observation.values)}")
        measured = np.asarray(observation.values[self.motion.key], np.float64).ravel().tolist()
        ahead = observation.time - self._now()
        if not ahead <= 2 * EPSILON:
            self.stop(f"the observation is of {ahead:.3f} s from now, on a clock that is another or was set")
        elif all(map(math.isfinite, measured)) and len(measured) == self.size:
            self._measured, self._seen = measured, observation.time
            self._since = [(sent, move) for sent, move in self._since if sent >= observation.time - EPSILON]
            outside = max(0.0, self.limits.workspace.depth([measured]))
            self._outside = min(outside, self._outside)
            if outside > self._outside + self.limits.motion.step:
                self.stop(f"the arm is measured {outside:.3f} outside of its workspace, where it was not sent")
        else:
            self.stop(f"the measured {self.motion.key} is [{', '.join(f'{x:.6g}' for x in measured)}]")
        return observation

    def command(self, action: np.ndarray) -> np.ndarray:
        """action (Da,) in env units -> what was sent instead or as asked (Da,). A fresh action feeds the watchdog."""
        asked = np.asarray(action, np.float64)
        if asked.shape != (self.spec.action.dim,):
            raise ValueError(f"expected an action of shape ({self.spec.action.dim},), got {asked.shape}")
        if not np.isfinite(asked).all():
            return self._held("the action is not finite", asked)
        now = self._now()
        if now - self._seen > self.limits.stale:
            return self._held(f"the observation is {now - self._seen:.2f} s old", asked)
        self._fresh = now
        if self.stopped:
            return self._held(self.stopped, asked)
        return self._steer(np.clip(asked, self.spec.action.low, self.spec.action.high))

    def hold(self, cause: str) -> np.ndarray:
        """Brake and stand still, because nothing fresh is there to do; waiting too long sets off the watchdog."""
        return self._held(cause, None)

    def stop(self, cause: str) -> None:
        """Brake, and hold until `release`: for alarms, the operator's key and everything that must not go on."""
        self.stopped = self.stopped or cause

    def release(self) -> None:
        """The operator says that the arm may go on."""
        self.stopped = ""
        self._fresh, self._outside = self._now(), math.inf

    def brake(self, cause: str) -> None:
        """To a standstill, which takes as long as the limits say, and hold until `release`."""
        self.stop(cause)
        for _ in range(REASONABLE_STOP):
            if not self._glide.moving:
                break
            self.hold(self.stopped)
            self.clock.sleep_until(self.clock.now() + 1 / self.spec.hz)
            self.observe()
        self.hold(self.stopped)

    def _now(self) -> float:
        """The clock's time. If it jumped, the arm stops, and what is remembered is moved along."""
        now = self.clock.now()
        passed, jumped = now - self._jumps.last, self._jumps.until(now)
        if jumped:
            self._unsure = now
            self.stop(f"the clock went {'back' if jumped < 0 else 'ahead'} by {abs(round(jumped, 3)):g} s")
        if jumped < 0:
            self._fresh, self._seen = self._fresh + jumped, self._seen + jumped
            self._since = [(sent + jumped, move) for sent, move in self._since]
        if jumped < 0 or passed > self.limits.watchdog:  # a gripper does not dwell while nobody looks
            self._gripped += passed
        return now

    def _held(self, cause: str, asked: np.ndarray | None) -> np.ndarray:
        waited = self._now() - self._fresh
        if not self.stopped and waited > self.limits.watchdog:
            self.stop(f"watchdog: no fresh action for {waited:.2f} s, the last because: {cause}")
        numbers, _, caught = self._moved([0.0] * self.size, [0.0] * 3)
        return self._send(numbers + self._gripper(None), _joined(self.stopped or cause, caught), asked)

    def _steer(self, asked: np.ndarray) -> np.ndarray:
        """What the action asks for, as far as the limits go; it is within the range that the controller accepts."""
        n, numbers = self.size, asked.tolist()
        wish = self._wish(numbers[:n])
        turn = [self.motion.turn * self.spec.hz * x for x in numbers[n : n + 3]] if self._turning else []
        sent, limited, caught = self._moved(wish, turn)
        gripper = self._gripper(numbers[-1] if self.limits.gripper else None)
        if gripper and gripper[0] != numbers[-1]:
            limited = _joined(limited, "gripper")
        cause = _joined(limited, caught)
        return self._send(sent + gripper, cause, asked) if cause else self.robot.command(asked)

    def _wish(self, numbers: Vector) -> Vector:
        """The velocity (n,) that an action's first n numbers ask for."""
        hz, zero = self.spec.hz, [0.0] * self.size if self._delta else self._target
        return [(self.motion.scale * x - z) * hz for x, z in zip(numbers, zero, strict=True)]

    def _moved(self, wish: Vector, turn: Vector) -> tuple[Vector, str, str]:
        """The numbers to send for velocities (n,) and (3,), what limited them, and what made braking impossible."""
        dt, start = 1 / self.spec.hz, self._measured if self._delta else self._target
        aim = self.limits.workspace.nearest(_onward(start, wish, dt)) if any(wish) else start  # who holds, stays
        inside = [(a - s) / dt for a, s in zip(aim, start, strict=True)]
        limited, caught = "" if math.dist(inside, wish) <= SAME else "workspace", ""
        here = self.limits.workspace.depths([start])
        self._tried: dict[tuple[float, ...], tuple[Plane, ...]] = {}  # a velocity -> what it passes spheres by
        if self._unsure > -math.inf:
            velocity, limited = self._glide.brake(), "the clock jumped"  # the way out was found before
            if not self._glide.moving and all(sent > self._unsure for sent, _ in self._since):
                self._unsure = -math.inf
        else:
            velocity = self._glide.follow(
                inside if limited else wish, lambda path: self._allowed(start, here, path, RESERVE)
            )
        if velocity is None:  # the arm is not where it was expected: brake as long as that breaks nothing yet
            velocity = self._glide.follow([0.0] * self.size, lambda v: self._allowed(start, here, v[:1], 0.0))
        if velocity is None:
            self._target, caught = self._catch(start)
        else:
            self._target = _onward(start, velocity, dt)
            self._sides = self._tried.get(tuple(velocity), self._sides)
            if any(velocity):
                self._since.append((self._jumps.last, [dt * x for x in velocity]))
            if not limited and math.dist(velocity, wish) > SAME:
                limited = "speed, acceleration, jerk or a limit ahead"
        zero = start if self._delta else [0.0] * self.size
        numbers = [(t - z) / self.motion.scale for t, z in zip(self._target, zero, strict=True)]
        if self._turning is not None:
            turned = self._turning.follow(turn, lambda path: True)
            if math.dist(turned, turn) > SAME:
                limited = _joined(limited, "turning")
            numbers += [x * dt / self.motion.turn for x in turned]
        return numbers, limited, caught

    def _allowed(self, start: Vector, here: Sequence[float], path: list[Vector], reserve: float) -> bool:
        """Whether braking along these velocities stays in the workspace and within reach of where the arm is.

        here: how far outside it is; who is outside may stay or come back. reserve: share of the step that is left.
        """
        dt, space = 1 / self.spec.hz, self.limits.workspace
        if self._delta:
            moves = [move for _, move in self._since] + [[dt * x for x in velocity] for velocity in path]
            sides = self._tried[tuple(path[0])] = space.sides(start, moves, self._sides)
            there = space.reach(start, moves, sides)
        else:
            points = [start]
            for velocity in path:
                points.append(_onward(points[-1], velocity, dt))
            behind, *further = (math.dist(p, self._measured) for p in points)
            step = self.limits.motion.step
            if max(further) > min(step, max((1 - reserve) * step, behind)) + SLACK:
                return False
            there = space.depths(points)
        return all(depth <= max(TOUCH, before + SLACK) for before, depth in zip(here, there, strict=True))

    def _catch(self, start: Vector) -> tuple[Vector, str]:
        """Where to send an arm that cannot brake within all limits, because it is not where it was sent."""
        self._glide.rest()
        behind, reach = math.dist(start, self._measured), self.limits.motion.step
        if behind <= reach:
            return start, "stopped at once: the arm moved towards a limit by itself"
        share = reach / behind
        target = [m + share * (s - m) for m, s in zip(self._measured, start, strict=True)]
        return target, f"the arm does not follow, it is {behind:.3f} behind"

    def _gripper(self, value: float | None) -> Vector:
        limits = self.limits.gripper
        if limits is None:
            return []
        if value is not None:
            value = min(max(value, limits.low), limits.high)
            now = self._jumps.last
            side = math.copysign(1.0, value) if value else self._side  # 0 neither opens nor closes
            if side == self._side or now - self._gripped >= limits.dwell:
                self._grip, self._gripped = value, self._gripped if side == self._side else now
                self._side = side
        return [self._grip]

    def _send(self, numbers: Vector, cause: str, asked: np.ndarray | None) -> np.ndarray:
        sent = self.robot.command(np.array(numbers, np.float32))
        wanted = None if asked is None else tuple(asked.tolist())
        self.intervened += 1
        self.interventions.append(Intervention(self._jumps.last, cause, wanted, tuple(map(float, sent))))
        return sent


def _joined(*causes: str) -> str:
    return ", ".join(filter(None, causes))


def _onward(start: Vector, velocity: Vector, dt: float) -> Vector:
    return [s + v * dt for s, v in zip(start, velocity, strict=True)]


def _check(robot: Robot, limits: Limits) -> int:
    """The dimensions of the arm's position; LimitsError unless robot and limits speak of the same arm."""
    spec, motion = robot.spec, robot.motion
    if motion.key not in spec.obs:
        raise LimitsError(f"expected the measured position {motion.key!r} among the observations {sorted(spec.obs)}")
    if spec.action.mode not in ("delta", "absolute"):
        raise LimitsError(f"expected actions that are delta or absolute, got {spec.action.mode}")
    bounds.number("the robot's rate hz", spec.hz, "(0, 10000]", LimitsError)
    if motion.turn and spec.action.mode != "delta":
        raise LimitsError("expected delta actions where the hand is turned: absolute rotations have no limits here")
    size = math.prod(spec.obs[motion.key])
    if len(limits.workspace.low) != size:
        raise LimitsError(f"expected a workspace of {size} dimensions ({motion.key}), got {len(limits.workspace.low)}")
    for name, has, declared in (
        ("turn", bool(motion.turn), limits.turn),
        ("gripper", spec.action.gripper != "none", limits.gripper),
    ):
        if has != (declared is not None):
            raise LimitsError(f"expected limits.{name} {'declared' if has else 'null'}, got {declared}")
    dim = size + 3 * bool(motion.turn) + (limits.gripper is not None)
    if dim != spec.action.dim:
        raise LimitsError(f"expected actions of {dim} numbers for this motion, got {spec.action.dim}")
    grip, act = limits.gripper, spec.action
    if grip is not None and not (act.low <= grip.low and grip.high <= act.high):
        raise LimitsError(f"expected limits.gripper within the actions' range [{act.low}, {act.high}], got {grip}")
    if 1 / spec.hz > limits.watchdog:
        raise LimitsError(f"expected a watchdog longer than a tick of {1 / spec.hz:.3f} s, got {limits.watchdog}")
    return size
