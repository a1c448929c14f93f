"""Real arms' classes with the vendors' libraries replaced at their border: what is sent there is noted and judged.

Behind the border is an arm that is late and hangs lower than it is told, moved by a clock that passes while one sleeps.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fuzz_safety import Case, beyond
from omegaconf import OmegaConf

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.robots import connect
from ebt_policy.deploy.robots._rotation import after, apart, to_quaternion, to_vector
from ebt_policy.deploy.safety import SafeRobot

ROOT = Path(__file__).parents[2]
UR_START = [0.4, 0.1, 0.3, 0.0, np.pi, 0.0]
SAG, LATE = 5e-4, 0.02  # m, s


def beyond_walls(space, target, place):
    """As `beyond`, of the walls themselves: the margin is for what happens between ticks."""
    return beyond(space | {"margin": 0.0}, target, place)


class PassingClock(FakeClock):
    """Time that moves an arm while somebody sleeps."""

    arm = None

    def sleep_until(self, moment):
        seconds = moment - self.now()
        super().sleep_until(moment)
        if self.arm is not None and seconds > 0:
            self.arm.pass_time(seconds)


class Recorded:
    """Both of UR's interfaces: an arm that is where servoL sent it, and notes what it was told."""

    def __init__(self):
        self.poses, self.ended, self.stopped, self.stamp = [np.array(UR_START)], [], False, 0.0

    def servoL(self, pose, *settings):  # noqa: N802
        self.poses.append(np.array(pose))
        self.settings = settings
        return True

    def initPeriod(self):  # noqa: N802
        self.stamp += 0.008
        return None

    def waitPeriod(self, begin):  # noqa: N802
        time.sleep(0.0005)

    def servoStop(self, deceleration):  # noqa: N802
        self.ended.append("servoStop")

    def stopScript(self):  # noqa: N802
        self.ended.append("stopScript")

    def getTimestamp(self):  # noqa: N802
        return self.stamp

    def getActualTCPPose(self):  # noqa: N802
        return self.poses[-1].tolist()

    def isProtectiveStopped(self):  # noqa: N802
        return self.stopped

    def isEmergencyStopped(self):  # noqa: N802
        return False


class SaggingUR(Recorded):
    """Its periods pass with the clock, and what servoL is told is held against what the YAML leaves the arm."""

    def __init__(self, cfg):
        super().__init__()
        self.broken, self.declared, self.base = Counter(), cfg["limits"], np.array(cfg["arm"]["base"])
        self.share, self.rate, self._due = cfg["arm"]["share"], cfg["arm"]["rate"], 0.0
        self._begin, self._ended, self._periods = threading.Semaphore(0), threading.Semaphore(0), 0
        self._over = True  # only the arm's thread says so
        self.measured, self._ways, self._turns = np.array(UR_START), [np.zeros(3)] * 2, [np.zeros(3)] * 2

    def pass_time(self, seconds):
        self._due += seconds * self.rate
        self._periods = int(self._due + 1e-6)
        self._due -= self._periods
        if self._periods:
            self._begin.release()
            self._ended.acquire()

    def run_free(self):
        self._periods = 10**9
        self._begin.release()

    def initPeriod(self):  # noqa: N802
        if self._over:
            self._begin.acquire()
            self._over = False
        self.stamp += 1 / self.rate

    def waitPeriod(self, begin):  # noqa: N802
        hangs = self.poses[-1] - [0, 0, SAG, 0, 0, 0]
        self.measured[:3] += (hangs - self.measured)[:3] / (LATE * self.rate)
        self.measured[3:] = self.poses[-1][3:]
        self._periods -= 1
        if not self._periods:
            self._over = True
            self._ended.release()

    def place(self):
        return self.measured[:3] + self.base

    def getActualTCPPose(self):  # noqa: N802
        return self.measured.tolist()

    def servoL(self, pose, *settings):  # noqa: N802
        pose, last = np.array(pose), self.poses[-1]
        back = to_quaternion(-last[3:])
        self._judge("", "motion", self._ways, pose[:3] - last[:3])
        self._judge("turn ", "turn", self._turns, to_vector(after(to_quaternion(pose[3:]), back)))
        self.broken.update(beyond_walls(self.declared["workspace"], pose[:3] + self.base, self.place()))
        self.broken["step"] += np.linalg.norm(pose[:3] - self.measured[:3]) > self.declared["motion"]["step"]
        self.poses = [pose]
        return True

    def _judge(self, name, limits, ways, way):
        for i, key in enumerate(("velocity", "acceleration", "jerk"), 1):
            rate = (way, way - ways[1], way - 2 * ways[1] + ways[0])[i - 1] * self.rate**i
            limit = self.share * self.declared[limits][key]
            self.broken[name + key] += np.linalg.norm(rate) > 1.001 * limit + 1e-9 * self.rate**i
        ways[:] = [ways[1], way]


@dataclass
class Affine:
    """As franky's, as far as it is used."""

    translation: np.ndarray
    quaternion: np.ndarray


class Rate:
    """One of the arm's limits."""

    max, value = np.array([1e4]), 0.0

    def set(self, value):
        self.value = np.max(value)


class Fingers:
    """franky.Gripper, at once."""

    width = 0.08

    def move(self, width, speed):
        self.width = width

    def grasp(self, width, speed, force, **more):
        self.width = 0.0


class SaggingFranka:
    """franky.Robot as far as it is used; each target that it is given is held against the declared limits."""

    has_errors, is_in_control = False, True

    def __init__(self, cfg):
        self.broken, self.declared, self.base = Counter(), cfg["limits"], np.array(cfg["arm"]["base"])
        self.targets, self.seconds, self._fault = 0, 0.0, ""
        self.told = Affine(np.array([0.5, 0.0, 0.4]), np.array([1.0, 0.0, 0.0, 0.0]))
        self.measured, self.target = self.told, self.told
        self.rates = {(k, r): Rate() for k in ("translation", "rotation") for r in ("velocity", "acceleration", "jerk")}
        for (kind, name), rate in self.rates.items():
            setattr(self, f"{kind}_{name}_limit", rate)
        self.model = SimpleNamespace(pose=lambda frame, state: self.measured)

    def franky(self):
        """The library that has this arm alone."""
        pass_on = lambda value, *more, **settings: value  # noqa: E731
        names = ("RobotPose", "CartesianState", "CartesianWaypoint", "Duration")
        return SimpleNamespace(
            Robot=lambda host, realtime_config: self,
            Gripper=lambda host: Fingers(),
            RealtimeConfig=SimpleNamespace(Enforce=1, Ignore=0),
            Frame=SimpleNamespace(EndEffector=0),
            Exception=OSError,
            GripperException=OSError,
            Affine=Affine,
            CartesianWaypointMotion=lambda points, return_when_finished: points[-1],
            CartesianStopMotion=lambda: self.told,
            **dict.fromkeys(names, pass_on),
        )

    @property
    def state(self):
        stamp = SimpleNamespace(to_msec=lambda: round(1000 * self.seconds))
        joints = np.r_[self.measured.translation, np.zeros(4)]
        return SimpleNamespace(q=joints, q_d=joints, dq=np.zeros(7), O_T_EE_c=self.told, elbow=0.0, time=stamp)

    def move(self, target, asynchronous):
        limits, way = self.declared, target.translation - self.measured.translation
        if target is not self.told:
            self.broken.update(beyond_walls(limits["workspace"], target.translation + self.base, self.place()))
            self.broken["step"] += np.linalg.norm(way) > limits["motion"]["step"] + 1e-6
            turned = apart(target.quaternion, self.measured.quaternion)
            self.broken["turn step"] += turned > limits["turn"]["step"] + 1e-6
        for (kind, name), rate in self.rates.items():
            self.broken[f"{kind} {name}"] += rate.value > limits[{"translation": "motion"}.get(kind, "turn")][name]
        self.target, self.targets = target, self.targets + 1

    def place(self):
        return self.measured.translation + self.base

    def poll_motion(self):
        if self._fault:
            said, self._fault = self._fault, ""
            raise OSError(said)
        return False

    def fail(self, said):
        """The arm stops where it is."""
        self._fault, self.target = said, self.told

    def recover_from_errors(self):
        return True

    def set_collision_behavior(self, torque, force):
        pass

    def pass_time(self, seconds):
        """What is told follows the target, as at a share of 0.31, and the arm what is told."""
        self.seconds += seconds
        self.told = Affine(*_between(self.told, self.target, 1 - np.exp(-7.4 * seconds)))
        lower = Affine(self.told.translation - [0, 0, SAG], self.told.quaternion)
        self.measured = Affine(*_between(self.measured, lower, 1 - np.exp(-seconds / LATE)))


def _between(a, b, share):
    turn = to_vector(after(b.quaternion, np.r_[-a.quaternion[:3], a.quaternion[3]]))
    facing = after(to_quaternion(share * turn), a.quaternion)
    return a.translation + share * (b.translation - a.translation), facing / np.linalg.norm(facing)


def plain(name):
    """configs/robot/<name>.yaml"""
    return OmegaConf.to_container(OmegaConf.load(ROOT / f"configs/robot/{name}.yaml"))


def ur_case(cfg=None):
    cfg, clock = cfg or plain("ur"), PassingClock()
    arm = clock.arm = SaggingUR(cfg)
    robot = connect(cfg, clock)
    robot._interfaces = lambda host, rate: (arm, arm)
    return Case(SafeRobot(robot, robot.limits, clock), clock, cfg["limits"], broken=arm.broken, leave=arm.run_free)


def franka_case(cfg=None):
    cfg, clock = cfg or plain("franka"), PassingClock()
    arm = clock.arm = SaggingFranka(cfg)
    robot = connect(cfg, clock)
    robot._library = arm.franky
    return Case(SafeRobot(robot, robot.limits, clock), clock, cfg["limits"], broken=arm.broken)
