"""An arm of Universal Robots over its real-time data exchange (ur-rtde). Not run on hardware.

    action --> target = start + displacement --> chase, 125 Hz --> servoL --> arm

servoL goes to each pose at once, so what the limits allow is kept here: between commands a thread chases the newest
target at hz * share of what is missing a second, within velocity, acceleration and jerk, and comes to rest there. A
displacement starts where the chase is, if the arm is measured near that, see _start.py.
UR poses are m and rotation vectors; ours are m and quaternions xyzw. There is no gripper: it is another device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebt_policy import bounds
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.motion import Glide, MotionLimits
from ebt_policy.deploy.robot import Motion, Observation, RobotError
from ebt_policy.deploy.robots._rotation import after, to_quaternion, to_vector
from ebt_policy.deploy.robots._start import check_place, displaced, turned

OWN = {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_joint_pos": (6,), "robot0_joint_vel": (6,)}
LOOKAHEAD, GAIN = 0.1, 300.0  # s over which servoL smooths, and its stiffness: in the middle of what UR allows
BRAKE = 1.0  # m/s^2 of servoStop, after the chase has come to rest
PATIENCE = 2.0  # s for the chase to come to rest

Interfaces = Callable[[str, float], tuple[Any, Any]]  # address, rate -> RTDEControlInterface, RTDEReceiveInterface


@dataclass(frozen=True)
class URConfig:
    """Where the arm is and how it is driven."""

    host: str
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m, where the arm stands in the policy's coordinates
    share: float = 0.31  # of a displacement that is covered in one tick
    near: float = 0.01  # m, rad: displacements start where the arm was told to be, if it is measured so near to that
    rate: float = 125.0  # Hz of servoL: CB3 125, e-Series up to 500

    def __post_init__(self):
        check_place(self.base, self.share, self.near)
        bounds.number("arm.rate", self.rate, "(0, 10000]")


def connect(cfg: Mapping[str, Any], clock: Clock) -> UR:
    """The arm of configs/robot/ur.yaml as plain data; LimitsError without limits."""
    config = URConfig(**cfg["arm"] | {"base": cfg["arm"].get("base", (0, 0, 0))})
    spec = Spec({k: tuple(v) for k, v in cfg["obs"].items()}, ActionSpec(**cfg["action"]), cfg["hz"])
    return UR(config, spec, Motion(**cfg["motion"]), Limits.from_dict(cfg.get("limits")), clock)


class Chase:
    """The next pose on the way to a target: position m (3,), quaternion (4,). At rest when new."""

    def __init__(self, place: np.ndarray, facing: np.ndarray, limits: tuple[MotionLimits, MotionLimits], dt, pace):
        """limits: of displacement and rotation; dt: s of a step; pace: how much of what is missing is driven, 1/s."""
        self.place, self.facing, self.dt, self.pace = place, facing, dt, pace
        self._moving, self._turning = (Glide(3, one, dt) for one in limits)

    @property
    def moving(self) -> bool:
        return self._moving.moving or self._turning.moving

    def step(self, target: np.ndarray, towards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        back = np.r_[-self.facing[:3], self.facing[3]]
        self.place = self.place + self._driven(self._moving, target - self.place)
        self.facing = after(to_quaternion(self._driven(self._turning, to_vector(after(towards, back)))), self.facing)
        self.facing /= np.linalg.norm(self.facing)
        return self.place, self.facing

    def _driven(self, glide: Glide, missing: np.ndarray) -> np.ndarray:
        return self.dt * np.array(glide.follow((self.pace * missing).tolist(), lambda path: True))


class UR:
    """The arm; `interfaces` stands between it and the vendor's library."""

    def __init__(
        self,
        config: URConfig,
        spec: Spec,
        motion: Motion,
        limits: Limits,
        clock: Clock,
        interfaces: Interfaces | None = None,
    ):
        action = spec.action
        if (action.frame, action.mode, action.rotation, action.gripper) != ("eef", "delta", "axis_angle", "none"):
            raise ValueError(f"expected delta actions of the hand with rotation and without gripper, got {action}")
        if wrong := sorted(k for k, v in spec.obs.items() if OWN.get(k) != tuple(v)):
            raise ValueError(
                f"expected observations of {OWN}, got others for {', '.join(wrong)}: what else there is goes under "
                "`sensors`"
            )
        self.config, self.spec, self.motion, self.limits, self.clock = config, spec, motion, limits, clock
        self._interfaces = interfaces or _rtde
        self._share = config.share
        self._control = self._thread = None
        self._trouble = ""

    def __enter__(self) -> UR:
        try:
            self._control, self._receive = self._interfaces(self.config.host, self.config.rate)
        except RuntimeError as error:
            raise RobotError(
                f"expected a UR arm at {self.config.host}, in remote control and with brakes released: {error}"
            ) from error
        self._measured = None
        self.observe()
        place, facing = self._measured
        self._target = place, facing
        limits = tuple(_part(one, self._share) for one in (self.limits.motion, self.limits.turn))
        self._chase = Chase(place, facing, limits, 1 / self.config.rate, self.spec.hz * self._share)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        """The chase comes to rest within the limits, then the script on the arm ends."""
        if self._control is None:
            return
        try:
            self._target = None  # the thread brakes
            self._thread.join(PATIENCE)
            self._left.set()
            self._thread.join(PATIENCE)
        finally:
            self._control.servoStop(BRAKE)
            self._control.stopScript()
            self._control = None

    def observe(self) -> Observation:
        """The newest state. One that is no newer keeps its time, so that a dead link is seen to be old."""
        stamp, pose = self._receive.getTimestamp(), np.array(self._receive.getActualTCPPose())
        if self._measured is not None and stamp == self._stamp:
            return self._observation
        self._stamp, self._measured = stamp, (pose[:3] + self.config.base, to_quaternion(pose[3:]))
        own = {
            "robot0_eef_pos": lambda: self._measured[0],
            "robot0_eef_quat": lambda: self._measured[1],
            "robot0_joint_pos": lambda: self._receive.getActualQ(),
            "robot0_joint_vel": lambda: self._receive.getActualQd(),
        }
        values = {key: np.asarray(own[key](), np.float32) for key in self.spec.obs}
        self._observation = Observation(self.clock.now(), values)
        return self._observation

    def command(self, action: np.ndarray) -> np.ndarray:
        sent = np.clip(action, self.spec.action.low, self.spec.action.high).astype(np.float32)
        if self._receive.isProtectiveStopped() or self._receive.isEmergencyStopped():
            self._trouble = "the arm stopped by itself: unlock it at its panel and start again"
            return np.zeros_like(sent)
        (place, facing), (target, towards), near = self._measured, self._target, self.config.near
        if sent[:3].any():  # nothing asked for is the last target, so that nothing drifts
            way = self.motion.scale * sent[:3].astype(np.float64)
            target = displaced(way, place, self._chase.place, near, self.limits)
        if sent[3:].any():
            towards = turned(self.motion.turn * sent[3:], facing, self._chase.facing, near, self.limits.turn)
        self._target = target, towards
        return sent

    def trouble(self) -> str:
        said, self._trouble = self._trouble, ""
        return said

    def _drive(self) -> None:
        dt = 1 / self.config.rate
        while not self._left.is_set():
            begin, target = self._control.initPeriod(), self._target
            place, facing = self._chase.step(*(target or (self._chase.place, self._chase.facing)))
            pose = [*(place - self.config.base), *to_vector(facing)]
            if not self._control.servoL(pose, 0.0, 0.0, dt, LOOKAHEAD, GAIN):  # it ignores the first two
                self._trouble = "the arm takes no more commands: look at its panel and start again"
            self._control.waitPeriod(begin)
            if target is None and not self._chase.moving:
                return


def _part(limits: MotionLimits, share: float) -> MotionLimits:
    """The rates that the arm drives, of those that are asked for."""
    return MotionLimits(limits.step, share * limits.velocity, share * limits.acceleration, share * limits.jerk)


def _rtde(host: str, rate: float) -> tuple[Any, Any]:
    try:
        from rtde_control import RTDEControlInterface
        from rtde_receive import RTDEReceiveInterface
    except ImportError as error:
        raise RobotError("expected ur-rtde, the arm's client: pip install -e '.[ur]'") from error
    return RTDEControlInterface(host, rate), RTDEReceiveInterface(host, rate)
