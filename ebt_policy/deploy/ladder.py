"""The rungs that a careful user climbs before a policy moves an arm: check, replay, shadow, dry, run.

check   do robot, policy, limits and latencies fit?       nothing moves
replay  a demonstration on the robot, slowed              the arm moves, without the policy
shadow  the policy predicts, beside demonstrations        nothing moves
dry     everything but the last step                      nothing moves, commands are reported
run     the policy moves the arm
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from ebt_policy import bounds
from ebt_policy.data.episodes import Episode, EpisodeData
from ebt_policy.data.spec import ActionSpec
from ebt_policy.deploy.clock import Clock
from ebt_policy.deploy.control import Tick
from ebt_policy.deploy.plan import Plan, Planner, Request, Terms
from ebt_policy.deploy.protocol import differences
from ebt_policy.deploy.robot import Observation, Robot
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Timing

PROBES = 5  # plans that `check` times
PATIENCE = 60.0  # s for a plan that nothing waits for
BLINK = 0.25  # s within which every camera shows something new


class DryRobot:
    """A robot that is looked at and never moved: what is commanded goes to `report`, and is what counts as sent."""

    def __init__(self, robot: Robot, report: Callable[[np.ndarray], None]):
        self.robot, self.report = robot, report
        self.spec, self.motion = robot.spec, robot.motion

    def __enter__(self) -> DryRobot:
        self.robot.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.robot.__exit__(*error)

    def observe(self) -> Observation:
        return self.robot.observe()

    def command(self, action: np.ndarray) -> np.ndarray:
        self.report(action)
        return np.asarray(action, np.float32)

    def trouble(self) -> str:
        return self.robot.trouble()


def check(robot: SafeRobot, planner: Planner, terms: Terms, timing: Timing, observation_delay: float) -> list[str]:
    """Of an entered robot: what fits, in words. ValueError at the first thing that does not."""
    if wrong := differences(terms.spec, robot.spec.to_dict()):
        raise ValueError(f"the policy was not trained for this robot: {'; '.join(wrong)}")
    keys = ", ".join(terms.spec["obs"])
    said = [f"robot and policy agree on {keys}, {_meaning(robot.spec.action)} and {robot.spec.hz:g} Hz"]
    look = _look(robot, terms)
    said.append(_placed(robot, look))
    obs = {k: np.stack([look.values[k]] * terms.observe) for k in terms.spec["obs"]}
    real, seconds, plans = _timed(planner, obs, robot.clock)
    slow = float(np.percentile(seconds, timing.percentile))
    timing.check(observation_delay + max(0.0, slow - timing.latency))
    said.append(
        f"a plan takes {1000 * np.median(real):.1f} ms (median of {PROBES}), assumed are {1000 * timing.latency:.0f}"
        f" ms, observations are {1000 * observation_delay:.0f} ms old; {1000 * timing.budget:.0f} ms can be hidden"
    )
    low, high = robot.spec.action.low, robot.spec.action.high
    beyond = max(float(np.max([p.actions - high, low - p.actions])) for p in plans)
    if beyond > high - low:
        raise ValueError(
            f"expected actions in [{low:g}, {high:g}], planned are up to {beyond:.2g} outside: other units?"
        )
    inside = "within the robot's range" if beyond <= 0 else "beyond the robot's range, which clips them,"
    return [*said, f"planned actions are {inside} by {abs(beyond):.2g}"]


def _meaning(action: ActionSpec) -> str:
    words = f"frame {action.frame}, mode {action.mode}, rotation {action.rotation}, gripper {action.gripper}"
    return f"actions of {action.dim} numbers in [{action.low:g}, {action.high:g}] ({words})"


def _look(robot: SafeRobot, terms: Terms) -> Observation:
    """An observation with everything that the policy reads, and pictures that change."""
    first = robot.observe()
    if missing := sorted(set(terms.spec["obs"]) - set(first.values)):
        raise ValueError(f"expected the observations {sorted(terms.spec['obs'])}, {', '.join(missing)} missing")
    robot.clock.sleep_until(robot.clock.now() + BLINK)
    second = robot.observe()
    frozen = [k for k, v in first.values.items() if v.ndim >= 3 and np.array_equal(v, second.values[k])]
    if frozen:
        raise ValueError(f"expected pictures that change, {', '.join(frozen)} did not: is the camera running?")
    return second


def _placed(robot: SafeRobot, look: Observation) -> str:
    measured = np.asarray(look.values[robot.motion.key], float).ravel().tolist()
    outside, place = robot.limits.workspace.depth([measured]), np.round(measured, 3).tolist()
    if outside > 0:
        raise ValueError(
            f"expected the arm inside of its workspace, it is {outside:.3f} outside at {place}: "
            "move it there, or measure the workspace again"
        )
    return f"the arm is at {place}, {-outside:.3f} inside of its limits"


def replay(robot: SafeRobot, episode: Episode, slower: int = 1) -> float:
    """Send a demonstration's actions to an entered robot, so many times slower.

    Returns the share of ticks in which the safety layer let them pass unchanged; RuntimeError if it stops the arm.
    """
    bounds.whole("slower", slower, "[1, inf)")
    actions = episode.action if episode.executed is None else episode.executed
    before, start = robot.intervened, robot.clock.now()
    for k, action in enumerate(_slowed(robot, actions, slower)):
        robot.clock.sleep_until(start + k / robot.spec.hz)
        robot.observe()
        robot.command(action)
        if robot.stopped:
            raise RuntimeError(f"the replay was stopped: {robot.stopped}")
    return 1 - (robot.intervened - before) / (slower * len(actions))


def shadow(planner: Planner, terms: Terms, data: EpisodeData, episodes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of planned against demonstrated actions (Da,), and those of an arm that never moves, as means of |.|."""
    errors, idle = [], []
    for i in episodes:
        episode = data.episode(i)
        for t in range(terms.observe - 1, len(episode) - terms.execute, terms.execute):
            obs = {k: episode.obs[k][t - terms.observe + 1 : t + 1] for k in terms.spec["obs"]}
            plan = planner(Request(t, obs, PATIENCE))
            shown = episode.action[t : t + terms.execute]
            errors.append(np.abs(plan.actions[: len(shown)] - shown).mean(0))
            idle.append(np.abs(shown).mean(0))
    if not errors:
        raise ValueError(f"expected demonstrations longer than {terms.observe + terms.execute} steps, got none")
    return np.mean(errors, 0), np.mean(idle, 0)


def jumps(ticks: Sequence[Tick], joints: Sequence[int], scale: float, size: int, hz: float) -> np.ndarray:
    """Acceleration of the commanded displacements at each joint of plans, m/s^2.

    For robots whose actions are displacements: of the first `size` numbers, `scale` m each. The first plan joins none.
    """
    moves = scale * np.stack([tick.sent[:size] for tick in ticks])  # (T, n) m a tick
    at = np.array([k for k in joints[1:] if k < len(moves)], int)
    return np.linalg.norm(moves[at] - moves[at - 1], axis=1) * hz**2


def _slowed(robot: SafeRobot, actions: np.ndarray, slower: int) -> np.ndarray:
    """(T, Da) actions as (slower * T, Da): displacements repeated and so much shorter, positions on straight lines."""
    if robot.spec.action.mode == "delta":
        share = np.ones(robot.spec.action.dim, np.float32)
        share[: robot.size + 3 * bool(robot.motion.turn)] = 1 / slower
        return np.repeat(actions * share, slower, axis=0)
    steps, ticks = np.arange(len(actions)), np.arange(slower * len(actions)) / slower
    return np.stack([np.interp(ticks, steps, column) for column in actions.T], axis=1).astype(np.float32)


def _timed(planner: Planner, obs: dict, clock: Clock) -> tuple[list[float], list[float], list[Plan]]:
    """What plans really take, what on the robot's clock, both in s, and the plans, of which the first warms up."""
    real, seconds, plans = [], [], []
    for i in range(PROBES + 1):
        begin, moment = perf_counter(), clock.now()
        plans.append(planner(Request(-i - 1, obs, PATIENCE)))
        real.append(perf_counter() - begin)
        seconds.append(clock.now() - moment)
    return real[1:], seconds[1:], plans
