"""Disturbances in mid-episode: what goes wrong, how much, and whether it really did, the same for every policy.

    seed, index ── rng ──┐
    state ── predicate ──┴─ trigger ── begin ... action, observe ... end; did it take effect?
             (the tick is recorded)    └──────── for some seconds ──────┘

`DISTURBANCES` numbers them; 0 disturbs nothing and counts grasps like the others. What happened is in `info["report"]`.
Seconds become control steps by the task's own rate. A task takes those whose parts find what they need, see
envs/README.md; where it cannot tell whether something is near or held, they begin after a given time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import register

from envs.protocol import has_gripper, layer, offer, rate, without_limit

HELD = 0.5  # s in the hand after which an object counts as taken up: it is off the table by then
FIRM = 0.15  # s without a break that make a grasp, or the loss of one: contacts flicker
HIGH = 0.08  # m above where it lay: it bounces, rolls or falls over when it is dropped from there
NEAR, ABOVE = 0.10, 0.05  # m from hand to object, and in height, when the hand is about to grasp
DIRECTIONS = 8  # tried, evenly around from a drawn one, until an object has room


def steps(seconds: float, hz: float) -> int:
    """Control steps, at least one."""
    return max(1, round(seconds * hz))


class Part:
    """One thing that happens to an episode for some seconds; this one changes nothing."""

    needs: tuple[str, ...] = ()  # methods of the environment, as in envs.handling

    def __init__(self, seconds: float, hz: float):
        """hz: control steps a second of the task."""
        self.ticks, self.effect = steps(seconds, hz), False

    def begin(self, task: gym.Env, rng: np.random.Generator, obs: dict[str, np.ndarray]):
        """obs: the last one that the policy has seen."""

    def action(self, task: gym.Env, action: np.ndarray) -> np.ndarray:
        """What is executed instead of `action` (Da,)."""
        return action

    def observe(self, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is seen instead of `obs`."""
        return obs

    def took_effect(self, task: gym.Env) -> bool:
        """Asked after every control step, the last answer counts."""
        raise NotImplementedError

    def end(self, task: gym.Env):
        """Clears up."""


class Move(Part):
    """The object is moved by `distance` m in a drawn direction where it has room, and turned by `angle` rad.

    Effect: a tenth of a second later it is at least half as far from where it was, or turned by half the angle.
    """

    needs = ("move_object", "object_pose")

    def __init__(self, hz: float, distance: float = 0.0, angle: float = 0.0):
        super().__init__(0.1, hz)
        self.distance, self.angle = distance, angle

    def begin(self, task, rng, obs):
        self.start, self.yaw = task.object_pose()
        first, self.turn = rng.uniform(0, 2 * np.pi), self.angle * rng.choice([-1, 1])
        around = first + np.arange(DIRECTIONS if self.distance else 1) * 2 * np.pi / DIRECTIONS
        self.ways = self.distance * np.stack([np.cos(around), np.sin(around)], axis=1)
        any(task.move_object(way, self.turn) for way in self.ways)

    def took_effect(self, task):
        position, yaw = task.object_pose()
        moved = np.linalg.norm((position - self.start)[:2])
        turned = abs((yaw - self.yaw + np.pi) % (2 * np.pi) - np.pi)
        return bool(moved >= self.distance / 2 and turned >= self.angle / 2)


class Open(Part):
    """The gripper opens, whatever the policy wants. Effect: at some time the hand does not hold the object."""

    needs = ("opening", "grasped")

    def begin(self, task, rng, obs):
        self.lost = False

    def action(self, task, action):
        self.lost |= not task.grasped()
        return task.opening(action)

    def took_effect(self, task):
        return self.lost or not task.grasped()


class Push(Part):
    """A horizontal force of `force` N acts on the hand.

    Effect: along it, the hand has come at least 2 cm further than it would have at its speed before.
    """

    needs = ("push_arm", "hand")

    def __init__(self, force: float, seconds: float, hz: float):
        super().__init__(seconds, hz)
        self.force = force

    def begin(self, task, rng, obs):
        angle = rng.uniform(0, 2 * np.pi)
        self.direction = np.array([np.cos(angle), np.sin(angle), 0.0])
        position, way = task.hand()
        self.expected = position + self.ticks * way
        task.push_arm(self.force * self.direction)

    def end(self, task):
        task.push_arm(np.zeros(3))

    def took_effect(self, task):
        return bool((task.hand()[0] - self.expected) @ self.direction >= 0.02)


class Noise(Part):
    """Gaussian noise of `sigma` action units on all but the gripper, the last dimension of tasks that say so.

    Effect: what is executed differs from what was wanted by 0.1 in the mean; near the limits of actions it may not.
    """

    def __init__(self, sigma: float, seconds: float, hz: float):
        super().__init__(seconds, hz)
        self.sigma = sigma

    def begin(self, task, rng, obs):
        self.noise = self.sigma * rng.standard_normal((self.ticks, task.action_space.shape[0]))
        self.noise[:, -1] *= not has_gripper(task)
        self.changes = []

    def action(self, task, action):
        limits = task.action_space
        wanted = np.clip(action, limits.low, limits.high)
        executed = np.clip(wanted + self.noise[len(self.changes)], limits.low, limits.high)
        self.changes.append(np.abs(executed - wanted).mean())
        return executed

    def took_effect(self, task):
        return bool(np.mean(self.changes) >= 0.1)


class Stale(Part):
    """Observations are `lag` s old, never older than when this began: frozen if `lag` is as long as it lasts.

    Effect: at some time a number that is seen is off by at least 0.01 (m, or of a quaternion).
    """

    def __init__(self, lag: float, seconds: float, hz: float):
        super().__init__(seconds, hz)
        self.lag = steps(lag, hz)

    def begin(self, task, rng, obs):
        self.past, self.error = deque([obs] * self.lag), 0.0

    def observe(self, obs):
        self.past.append({key: np.array(value) for key, value in obs.items()})
        seen = self.past.popleft()
        self.error = max([self.error, *(np.abs(seen[key].astype(float) - obs[key]).max() for key in obs)])
        return seen

    def took_effect(self, task):
        return self.error >= 0.01


@dataclass(frozen=True)
class Disturbance:
    """A kind at one of three strengths; `when` is a predicate on the `Disturbed` environment; parts are made by hz."""

    kind: str
    strength: int
    when: Callable[[Disturbed], bool]
    parts: tuple[Callable[..., Part], ...]

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.strength}" if self.strength else self.kind

    def lacks(self, env: gym.Env) -> list[str]:
        """Methods that the task would need for this and does not have."""
        needed = set().union(*(make(hz=1.0).needs for make in self.parts))
        return sorted(needed - set(offer(env, "handles", ())))

    def timed(self, env: gym.Env) -> bool:
        """Whether it begins after a given time in this task, which cannot tell whether `when` holds."""
        return not set(SENSES[self.when]) <= set(offer(env, "handles", ()))


def near(env: Disturbed) -> bool:
    """The hand is about to grasp."""
    hand, (position, _) = env.task.hand()[0], env.task.object_pose()
    return not env.count.holding and np.linalg.norm(hand - position) < NEAR and hand[2] - position[2] < ABOVE


def held(env: Disturbed) -> bool:
    """The object has been in the hand for a while."""
    return env.count.run >= steps(HELD, env.hz) and env.count.holding


def aloft(env: Disturbed) -> bool:
    """The object is carried so high that it falls away when it is lost."""
    return env.count.holding and env.task.object_pose()[0][2] - env.lowest >= HIGH


def later(env: Disturbed) -> bool:
    """It has gone on for a while: for tasks that cannot tell more."""
    return env.tick >= steps(env.after, env.hz)


def never(env: Disturbed) -> bool:
    return False


SENSES = {
    near: ("hand", "object_pose"),
    held: ("grasped",),
    aloft: ("grasped", "object_pose"),
    never: (),
}  # what the predicates need


def _kinds() -> dict[str, tuple[Sequence[Callable], list[tuple[Callable[..., Part], ...]]]]:
    """Kind -> a predicate and the parts for each strength."""
    dropped = [partial(Open, seconds) for seconds in (0.5, 1.0, 4.0)]  # a gripper takes 0.5 to open
    opened = [partial(Open, seconds) for seconds in (0.5, 0.75, 1.5)]
    pushed = [partial(Push, newtons, 0.3) for newtons in (50, 100, 200)]
    noisy = [partial(Noise, sigma, 1.0) for sigma in (0.5, 1.0, 2.0)]
    frozen = [partial(Stale, seconds, seconds) for seconds in (0.5, 1.0, 1.5)]
    return {
        "move": ([near] * 3, [(partial(Move, distance=metres),) for metres in (0.02, 0.05, 0.10)]),
        "turn": ([near] * 3, [(partial(Move, angle=np.radians(degrees)),) for degrees in (15, 45, 90)]),
        "open": ([held, aloft, aloft], [(part,) for part in dropped]),
        "push": ([held] * 3, [(part,) for part in pushed]),
        "noise": ([held] * 3, [(part,) for part in noisy]),
        "freeze": ([held] * 3, [(part,) for part in frozen]),
        "delay": ([near] * 3, [(partial(Stale, lag, 5.0),) for lag in (0.15, 0.3, 0.6)]),
        "open_freeze": ([held] * 3, list(zip(opened, frozen, strict=True))),
        "push_noise": ([held] * 3, list(zip(pushed, noisy, strict=True))),
    }


DISTURBANCES = (
    Disturbance("none", 0, never, ()),
    *(
        Disturbance(kind, strength, when, parts)
        for kind, (predicates, strengths) in _kinds().items()
        for strength, (when, parts) in enumerate(zip(predicates, strengths, strict=True), 1)
    ),
)


@dataclass
class Grasps:
    """Counts grasps; one that is lost and taken again is a retry."""

    firm: int  # control steps without a break that make a grasp, or the loss of one
    holding: bool = False
    run: int = 0  # control steps for which the contact has been as it is now
    touch: bool = False
    taken: int = 0

    def update(self, touch: bool):
        self.run = self.run + 1 if touch == self.touch else 1
        self.touch = touch
        if self.run >= self.firm and touch != self.holding:
            self.holding = touch
            self.taken += touch


@dataclass
class Report:
    """What became of a disturbance in an episode."""

    disturbance: str
    index: int
    trigger: int | None = None  # control step after which the predicate was true first; None: it never was
    over: int | None = None  # control step after which it was over; None: the episode ended before
    effect: bool = False  # whether all its parts took effect, also if it was not over
    grasps: int = 0
    retries: int = 0  # grasps after the first


class Disturbed(gym.Wrapper):
    """`env` with a disturbance of `DISTURBANCES` once an episode, drawn from the seed of the reset.

    Of several `indices`, that of an episode is number `seed` modulo their number: n seeds in a row meet all n of them.
    after: s at which those begin that would wait for what this task cannot tell.
    """

    def __init__(self, env: gym.Env, *indices: int, after: float = 1.0):
        super().__init__(env)
        if not 0 <= after < np.inf:
            raise ValueError(f"expected after >= 0 s, at which a disturbance begins, got {after}")
        self.indices, self.after, self.task, self.hz = indices, after, layer(env, "handles"), rate(env)
        self.handles = set(offer(env, "handles", ()))
        if not indices:
            raise ValueError("expected at least one disturbance, got none: 0 is the one that changes nothing")
        for index in indices:
            self._check(index)

    def _check(self, index: int):
        if not 0 <= index < len(DISTURBANCES):
            raise ValueError(f"expected a disturbance from 0 to {len(DISTURBANCES) - 1}, got {index}")
        disturbance = DISTURBANCES[index]
        if missing := disturbance.lacks(self.env):
            raise ValueError(
                f"{disturbance.name} needs {', '.join(missing)}, which {self.task} does not have: choose another "
                "disturbance, or give the environment these methods (see envs/README.md)"
            )

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        if seed is None:
            raise ValueError(
                "expected a seed, got none: the disturbance is drawn from it, so that all policies share it"
            )
        self.obs, info = self.env.reset(seed=seed, options=options)
        index = self.indices[seed % len(self.indices)]
        disturbance = DISTURBANCES[index]
        self.when = later if disturbance.timed(self.env) else disturbance.when
        self.rng = np.random.default_rng([seed, index])  # what is drawn depends on nothing else
        self.parts, self.active = [make(hz=self.hz) for make in disturbance.parts], []
        self.count, self.tick, self.lowest = Grasps(steps(FIRM, self.hz)), 0, np.inf
        self.report = Report(disturbance.name, index)
        return self.obs, self._told(info)

    def step(self, action: np.ndarray):
        if self.tick == self.report.trigger:
            self._begin()
        for part in self.active:
            action = part.action(self.task, action)
        self.obs, reward, terminated, truncated, info = self.env.step(action)
        self.tick += 1
        for part in self.active:
            self.obs = part.observe(self.obs)
        if "grasped" in self.handles:
            self.count.update(self.task.grasped())
        if "object_pose" in self.handles:
            self.lowest = min(self.lowest, self.task.object_pose()[0][2])
        self._follow()
        if self.report.trigger is None and self.when(self):
            self.report.trigger = self.tick
        self.report.grasps, self.report.retries = self.count.taken, max(self.count.taken - 1, 0)
        return self.obs, reward, terminated, truncated, self._told(info)

    def _told(self, info: dict) -> dict:
        """With the report added to that of the environment, if it makes one."""
        return info | {"report": info.get("report", {}) | asdict(self.report)}

    def _begin(self):
        self.active = self.parts
        for part in self.parts:
            part.begin(self.task, self.rng, self.obs)

    def _follow(self):
        """What took effect so far; the end of the parts whose time is over."""
        for part in self.active:
            part.effect = part.took_effect(self.task)
            if self.tick - self.report.trigger == part.ticks:
                part.end(self.task)
        if self.active:
            self.report.effect = all(part.effect for part in self.parts)
            self.active = [part for part in self.active if self.tick - self.report.trigger < part.ticks]
            self.report.over = None if self.active else self.tick


def disturbed(task: str, indices: Sequence[int], after: float = 1.0, **kwargs) -> Disturbed:
    """The environment `task`, e.g. envs:Lift-v0, without its time limit, disturbed; `kwargs` are its own."""
    return Disturbed(without_limit(task, **kwargs), *indices, after=after)


register(id="Disturbed-v0", entry_point=disturbed)
