"""The rungs before a policy moves an arm, on arms without physics."""

import runpy
import time
from dataclasses import replace

import numpy as np
import pytest
from tiny_runs import ROOT
from toy_arms import HZ, ToyArm, limits, motion_of
from toy_server import SPEC, ToyPlanner

from ebt_policy.data.episodes import Episode
from ebt_policy.deploy import ladder
from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.control import Tick
from ebt_policy.deploy.record import Recorder
from ebt_policy.deploy.robot import Observation, SimRobot
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Timing

TIMING = Timing(hz=HZ, observe=2, execute=8, plan=15)


def robot(kind="delta", **changes):
    clock = FakeClock()
    return SafeRobot(SimRobot(ToyArm(kind), motion_of(kind), clock), limits(kind, **changes), clock)


class Still(ToyPlanner):
    def __call__(self, request):
        return replace(super().__call__(request), actions=np.zeros((15, 7), np.float32))


def test_check_says_what_fits():
    with robot() as arm:
        said = ladder.check(arm, Still(), Still().terms, TIMING, 0.1)
    assert len(said) == 4 and "agree on hand" in said[0] and "350 ms can be hidden" in said[2]


def test_check_says_what_plans_really_take_and_judges_by_the_robots_clock():
    class Slow(Still):
        def __call__(self, request):
            time.sleep(0.02)
            return super().__call__(request)

    with robot() as arm:
        said = ladder.check(arm, Slow(), Still().terms, replace(TIMING, latency=0.2), 0.1)  # 0.3 of 0.35 s
    assert float(said[2].split()[3]) >= 20


def test_check_writes_ranges_as_short_as_they_are_and_says_which_actions_are_clipped():
    class Beyond(Still):
        def __call__(self, request):
            return replace(super().__call__(request), actions=np.full((15, 7), 1.05, np.float32))

    with robot() as arm:
        said = ladder.check(arm, Beyond(), Still().terms, TIMING, 0.0)
    assert "actions of 7 numbers in [-1, 1] (frame eef, mode delta, rotation axis_angle" in said[0]
    assert said[3] == "planned actions are beyond the robot's range, which clips them, by 0.05"
    told = runpy.run_path(str(ROOT / "scripts" / "deploy.py"))["told"]
    assert str(told(np.float32([0.185, -0.1]))) == "[0.185, -0.1]"


def test_a_world_that_has_ended_stands_still_and_a_single_number_has_a_dimension():
    class Ending(ToyArm):
        def step(self, action):
            values, reward, _, truncated, info = super().step(action)
            self.steps = getattr(self, "steps", 0) + 1
            return values, reward, self.steps == 3, truncated, info | {"success": np.array([self.steps == 3])}

        def _obs(self):
            return super()._obs() | {"width": np.float32(0.1)}

    arm = SimRobot(Ending(), motion_of("delta"), FakeClock())
    arm.reset(0)
    for _ in range(5):
        arm.command(np.full(7, 0.5))
        arm.clock.sleep_until(arm.clock.now() + 1 / HZ)
    assert arm.env.steps == 3 and arm.success and arm.observe().values["width"].shape == (1,)


def test_check_refuses_what_does_not_fit():
    terms = Still().terms
    with robot() as arm, pytest.raises(ValueError, match="hz: the policy 10.0, the robot 20"):
        ladder.check(arm, Still(), replace(terms, spec=terms.spec | {"hz": 10.0}), TIMING, 0.0)
    with robot() as arm, pytest.raises(ValueError, match="at most 350 ms .* got 400 ms"):
        ladder.check(arm, Still(), terms, TIMING, 0.4)
    with robot() as arm, pytest.raises(ValueError, match="other units"):
        ladder.check(arm, ToyPlanner(), terms, TIMING, 0.0)
    space = {"low": [0.1] * 3, "high": [0.2] * 3, "planes": [], "spheres": [], "margin": 0.0}
    with robot(workspace=space) as arm, pytest.raises(ValueError, match="0.100 outside at"):
        ladder.check(arm, Still(), terms, TIMING, 0.0)


@pytest.mark.parametrize("kind", ["delta", "absolute"])
def test_a_replay_goes_the_same_way_more_slowly(kind):
    way = np.zeros((30, 7 if kind == "delta" else 4), np.float32)
    way[:, 0] = 0.1 if kind == "delta" else np.linspace(0, 0.075, 30)
    way[:, -1] = 1.0
    ends = []
    for slower in (1, 3):
        with robot(kind) as arm:
            passed = ladder.replay(arm, Episode({"hand": np.zeros((30, 3))}, way), slower)
            assert passed == 1.0 and arm.clock.now() == pytest.approx((30 * slower - 1) / HZ)
        ends.append(arm.robot.env.position[0])
    assert ends[0] == pytest.approx(ends[1], abs=0.01) and ends[0] == pytest.approx(0.075, abs=0.01)


def test_a_dry_run_moves_nothing_and_reports_every_command():
    clock, commands = FakeClock(), []
    inner = SimRobot(ToyArm(), motion_of("delta"), clock)
    with SafeRobot(ladder.DryRobot(inner, commands.append), limits(), clock) as arm:
        for _ in range(5):
            arm.observe()
            arm.command(np.full(7, 0.05))
    assert len(commands) >= 5 and not inner.env.position.any()


def ticks(speeds):
    look = Observation(0.0, {"hand": np.zeros(3)})
    return [Tick(k / HZ, look, None, np.r_[v, np.zeros(6)], "", None, 0.0) for k, v in enumerate(speeds)]


def test_jumps_are_accelerations_where_plans_join_and_the_first_joins_none():
    jumps = ladder.jumps(ticks([0.1, 0.1, 0.5, 0.5, 0.4, 0.9]), [0, 2, 4], scale=0.05, size=3, hz=HZ)
    np.testing.assert_allclose(jumps, np.array([0.4, 0.1]) * 0.05 * HZ**2)
    assert not len(ladder.jumps(ticks([0.1, 0.9]), [0], 0.05, 3, HZ))


def test_a_recorded_run_becomes_an_episode_with_what_was_asked_and_sent():
    recorder = Recorder()
    for tick in ticks([0.1, 0.2]):
        recorder(tick)
    recorder(replace(recorder.ticks[-1], asked=np.full(7, 0.9)))
    recorder(replace(recorder.ticks[-1], asked=np.full(7, 1.2)))
    episode = recorder.episode(SPEC, success=True, seed=3)
    np.testing.assert_allclose(episode.executed[:, 0], [0.1, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(episode.action[:, 0], [0.1, 0.2, 0.9, 1.0])
    assert episode.obs["hand"].shape == (4, 3) and episode.success and episode.seed == 3
