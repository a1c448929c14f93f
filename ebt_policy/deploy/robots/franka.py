"""A Franka arm with its hand, over the arm's own protocol (libfranka, through franky).

    action --> target = start + displacement --> Ruckig, 1 kHz --> arm           grip --> thread --> hand

Between commands Ruckig, inside of franky, drives to the newest target within velocity, acceleration and jerk, from
whatever motion the arm is in, and ends at rest there: if nothing follows, the arm stands. A displacement is given the
time 1 / (hz * share), so that a steady wish moves the arm by `share` of it in each tick, as the controller did that
the policy was trained with; positions are followed with this delay. It starts where the arm was told to be by now, if
it is measured near that, see _start.py. An unchanged target is not sent again.

In Cartesian motions the elbow is held where it was on entering. Left free, it drifts with the hand's paths until a
joint is at its stop and the arm no longer follows: under wild commands 2.4 rad within 9 s (simulated).

Frames "eef" (delta with rotation, or absolute with the hand's orientation held) and "joint" (delta or absolute).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

from ebt_policy import bounds
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.limits import Limits, LimitsError
from ebt_policy.deploy.motion import MotionLimits
from ebt_policy.deploy.robot import Motion, Observation, RobotError
from ebt_policy.deploy.robots._hand import Hand, HandConfig
from ebt_policy.deploy.robots._start import check_place, displaced, turned
from ebt_policy.deploy.robots._stops import Stops

OWN = {  # what the arm measures itself, named as robosuite does
    "robot0_eef_pos": (3,),  # m
    "robot0_eef_quat": (4,),  # xyzw
    "robot0_gripper_qpos": (2,),  # m of each finger, the second counted negative
    "robot0_joint_pos": (7,),  # rad
    "robot0_joint_vel": (7,),  # rad/s
}
AT_REST = 0.02  # rad/s of the fastest joint
MOMENT = 0.05  # s
PATIENCE = 2.0  # s for an arm to come to rest


@dataclass(frozen=True)
class FrankaConfig:
    """Where the arm is and how it is driven."""

    host: str  # the arm's address
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m, where the arm stands in the policy's coordinates
    share: float = 0.31  # of a displacement that is covered in one tick
    joints: Stops | None = None  # the arm is stopped when a joint comes close to its stop; None: by the arm itself
    near: float = 0.01  # m, rad: displacements start where the arm was told to be, if it is measured so near to that
    torque: float = 20.0  # Nm at which a joint counts as colliding, and the arm stops by itself
    force: float = 30.0  # N, the same for the hand
    realtime: Literal["enforce", "ignore"] = "enforce"  # ignore: without a realtime kernel, for simulators
    hand: HandConfig | None = None  # None: no gripper

    def __post_init__(self):
        check_place(self.base, self.share, self.near)
        for name in ("torque", "force"):
            bounds.number(f"arm.{name}", getattr(self, name), "(0, inf)")
        if self.realtime not in ("enforce", "ignore"):
            raise ValueError(f"expected realtime enforce or ignore, got {self.realtime!r}")


def connect(cfg: Mapping[str, Any], clock: Clock) -> Franka:
    """The arm of configs/robot/franka.yaml as plain data; LimitsError without limits."""
    arm = dict(cfg["arm"])
    hand = None if arm.get("hand") is None else HandConfig(**arm["hand"])
    stops = None if arm.get("joints") is None else Stops(**arm["joints"])
    config = FrankaConfig(**arm | {"base": arm.get("base", (0, 0, 0)), "hand": hand, "joints": stops})
    spec = Spec({k: tuple(v) for k, v in cfg["obs"].items()}, ActionSpec(**cfg["action"]), cfg["hz"])
    return Franka(config, spec, Motion(**cfg["motion"]), Limits.from_dict(cfg.get("limits")), clock)


class Franka:
    """The arm; what it does not measure itself comes from sensors around it. `library` imports the arm's client."""

    def __init__(
        self,
        config: FrankaConfig,
        spec: Spec,
        motion: Motion,
        limits: Limits,
        clock: Clock,
        library: Callable[[], ModuleType] | None = None,
    ):
        if spec.action.frame not in ("eef", "joint") or spec.hz is None:
            raise ValueError(f"expected actions of frame eef or joint and a rate, got {spec.action} at {spec.hz} Hz")
        if (spec.action.gripper != "none") != (config.hand is not None):
            raise ValueError(f"expected a hand for {spec.action.gripper!r} actions, got {config.hand}")
        if wrong := {k: v for k, v in spec.obs.items() if OWN.get(k) != v}:
            raise ValueError(f"expected observations of {OWN}, got {wrong}: what else there is goes under `sensors`")
        self.config, self.spec, self.motion, self.limits = config, spec, motion, limits
        self.clock, self._library = clock, library or _franky
        self._joints, self._delta = spec.action.frame == "joint", spec.action.mode == "delta"
        self._driven = config.share if self._delta else 1.0  # of the rates that are asked for
        self._trouble, self._observation, self._stamp = "", None, -1
        self.arm = self.hand = None

    def __enter__(self) -> Franka:
        self._franky = self._library()
        self._faults = (self._franky.Exception, RuntimeError)  # sockets and Ruckig raise the second
        self._observation = None
        try:
            self._connect()
            self._read()
            self.observe()
            self._rest()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error) -> None:
        """The arm brakes within its limits, wherever it was going; what the hand holds it keeps."""
        try:
            if self.arm is not None:
                self._stop()
        finally:
            if self.hand is not None:
                self.hand.close()
            self.arm = self.hand = None  # closes the connections

    def observe(self) -> Observation:
        """The newest state. One that is no newer keeps its time, so that a dead link is seen to be old."""
        before = self._q
        try:
            self._read()
        except self._faults as error:
            self._note(f"the link to the arm at {self.config.host} is lost: {error}")
        if self.config.joints and (trouble := self.config.joints.approached(before, self._q)):
            self._note(trouble)
        return self._observation

    def command(self, action: np.ndarray) -> np.ndarray:
        sent = np.clip(action, self.spec.action.low, self.spec.action.high).astype(np.float32)
        n = 7 if self._joints else 3
        try:
            self.arm.poll_motion()  # raises what ended the last motion
            self._aim(sent[:n], sent[n : n + 3])
            self._move()
        except self._faults as error:
            self._recover(error)
            sent[:] = 0.0 if self._delta else np.r_[self._start(), sent[n:]]
        if self.hand is not None:
            self.hand.wish(float(sent[-1]))
        return sent

    def trouble(self) -> str:
        said, self._trouble = self._trouble or (self.hand.trouble() if self.hand else ""), ""
        return said

    def _connect(self) -> None:
        franky, config = self._franky, self.config
        realtime = franky.RealtimeConfig.Enforce if config.realtime == "enforce" else franky.RealtimeConfig.Ignore
        try:
            self.arm = franky.Robot(config.host, realtime_config=realtime)
            if self.arm.has_errors and not self.arm.recover_from_errors():
                raise RobotError(f"the arm at {config.host} does not recover: {self.arm.state.current_errors}")
            self.arm.set_collision_behavior(config.torque, config.force)
            self.hand = None if config.hand is None else Hand(franky, config.host, config.hand)
        except self._faults as error:
            raise RobotError(
                f"expected a Franka at {config.host}, unlocked and with FCI active: {type(error).__name__}: {error}"
            ) from error
        kinds = {"joint": self.limits.motion} if self._joints else {"translation": self.limits.motion}
        if self.limits.turn is not None:
            kinds["rotation"] = self.limits.turn
        for kind, limits in kinds.items():
            self._pace(kind, limits)

    def _pace(self, kind: str, limits: MotionLimits) -> None:
        """Ruckig keeps what the limits leave of a displacement's rates, for each axis."""
        for name in ("velocity", "acceleration", "jerk"):
            limit, value = getattr(self.arm, f"{kind}_{name}_limit"), self._driven * getattr(limits, name)
            if value > np.min(limit.max):
                raise LimitsError(
                    f"expected at most {np.min(limit.max) / self._driven:g} as the limit of the {kind}'s {name}, "
                    f"of which the arm drives {self._driven:g}, got {getattr(limits, name):g}"
                )
            limit.set(np.full(7, value) if kind == "joint" else value)

    def _read(self) -> None:
        state = self.arm.state
        self._pose = self.arm.model.pose(self._franky.Frame.EndEffector, state)  # measured; O_T_EE may be the desired
        self._q = np.array(state.q)
        self._told_pose, self._told_q = state.O_T_EE_c, np.array(state.q_d)
        if self._observation is not None and state.time.to_msec() == self._stamp:
            return
        self._stamp = state.time.to_msec()
        width = 0.0 if self.hand is None else self.hand.width
        own = {
            "robot0_eef_pos": self._pose.translation + self.config.base,
            "robot0_eef_quat": self._pose.quaternion,
            "robot0_gripper_qpos": [width / 2, -width / 2],
            "robot0_joint_pos": state.q,
            "robot0_joint_vel": state.dq,
        }
        values = {k: np.asarray(v, np.float32).ravel() for k, v in own.items() if k in self.spec.obs}
        self._observation = Observation(self.clock.now(), values)

    def _start(self) -> np.ndarray:
        """The measured position, as actions count it."""
        return self._q if self._joints else self._pose.translation + self.config.base

    def _told(self) -> np.ndarray:
        """Where on its way to the target the arm was told to be by now."""
        return self._told_q if self._joints else self._told_pose.translation + self.config.base

    def _aim(self, numbers: np.ndarray, turn: np.ndarray) -> None:
        """Where to, in the policy's coordinates; nothing asked for is the last target, so that nothing drifts."""
        way = self.motion.scale * np.asarray(numbers, np.float64)
        if not self._delta:
            self._target = way
        elif way.any():
            self._target = displaced(way, self._start(), self._told(), self.config.near, self.limits)
        if self.motion.turn and turn.any():
            facing, told = self._pose.quaternion.ravel(), self._told_pose.quaternion.ravel()
            self._facing = turned(self.motion.turn * turn, facing, told, self.config.near, self.limits.turn)

    def _move(self) -> None:
        franky, wanted = self._franky, np.r_[self._target, self._facing]
        if np.array_equal(wanted, self._sent):
            return
        time = franky.Duration(round(1000 / (self.spec.hz * self.config.share)))
        if self._joints:
            point = franky.JointWaypoint(franky.JointState(self._target), minimum_time=time)
            motion = franky.JointWaypointMotion([point], return_when_finished=False)
        else:
            pose = franky.RobotPose(franky.Affine(self._target - self.config.base, self._facing), self._elbow)
            point = franky.CartesianWaypoint(franky.CartesianState(pose), minimum_time=time)
            motion = franky.CartesianWaypointMotion([point], return_when_finished=False)
        self.arm.move(motion, asynchronous=True)
        self._sent = wanted

    def _rest(self) -> None:
        self._target, self._facing, self._sent = self._start(), self._pose.quaternion.ravel(), None
        self._elbow = self.arm.state.elbow

    def _recover(self, error: Exception) -> None:
        """The arm stands still and could go on; whether it may is for the operator to say."""
        self._note(f"the arm stopped by itself: {error}")
        try:
            if not self.arm.recover_from_errors():
                self._note(f"{self._trouble}, and does not recover")
            self._read()
            self._rest()
        except self._faults as again:
            self._note(f"{self._trouble}, and does not recover: {again}")

    def _stop(self) -> None:
        """Brakes, and waits until the arm stands; one that takes longer stops itself when the connection closes.

        Its speed is measured over moments, because measured velocities are noisy.
        """
        kind = self._franky.JointStopMotion if self._joints else self._franky.CartesianStopMotion
        try:
            if self.arm.is_in_control:
                self.arm.move(kind(), asynchronous=True)
            end, moved = self.clock.now() + PATIENCE, np.inf
            while (self.arm.poll_motion() or moved > AT_REST * MOMENT) and self.clock.now() < end:
                before = np.array(self.arm.state.q)
                self.clock.sleep_until(self.clock.now() + MOMENT)
                moved = np.abs(self.arm.state.q - before).max()
        except self._faults as error:
            self._note(f"the arm stopped by itself: {error}")

    def _note(self, trouble: str) -> None:
        self._trouble = trouble


def _franky() -> ModuleType:
    try:
        import franky
    except ImportError as error:
        raise RobotError("expected franky-control, the arm's client: make franka") from error
    return franky
