"""SafeRobot: what it lets through, what it changes and why, and that nothing gets past its limits."""

import math

import numpy as np
import pytest
from fuzz_cases import CASES, toy
from fuzz_safety import fuzz
from toy_arms import HZ, ToyArm, easy, limits, motion_of, tick

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.limits import Limits, LimitsError
from ebt_policy.deploy.motion import Glide, MotionLimits
from ebt_policy.deploy.robot import Delays, SimRobot
from ebt_policy.deploy.robots._stops import Stops
from ebt_policy.deploy.safety import SafeRobot


def safe(kind="delta", follows=0.5, **changes):
    clock = FakeClock()
    return SafeRobot(SimRobot(ToyArm(kind, follows), motion_of(kind), clock), limits(kind, **changes), clock)


def broken(found):
    return [what for what in found if what.startswith("BROKEN") and found[what]]


@pytest.mark.parametrize("kind", sorted(set(CASES) - {"lift"}))
def test_whatever_is_asked_no_command_leaves_the_declared_limits(kind):
    found = fuzz(CASES[kind](), 600)
    assert found["commands"] == 600 and found["watchdog"] and found["workspace"] and broken(found) == []


def test_late_dropped_and_shaky_observations_break_no_limit_either():
    far = {"step": 0.3, "velocity": 0.6, "acceleration": 4.0, "jerk": 80.0}
    found = fuzz(toy("absolute", Delays(0.05, 0.1, 0.2), motion=far), 400, 3)
    assert found["commands"] == 400 and broken(found) == []


def test_an_arm_that_nobody_looks_at_is_stopped_before_the_wall():
    """Until the last observation counts as stale, what was sent since then counts as driven."""
    with safe(follows=1.0, stale=9.0, watchdog=9.0) as robot:
        for _ in range(40):
            robot.command(np.r_[0.3, np.zeros(6)])
            robot.clock.sleep_until(robot.clock.now() + 1 / HZ)
        assert 0.15 < robot.robot.env.position[0] <= 0.2 + 1e-6


def test_a_held_arm_stays_where_it_was_pushed_even_outside_of_its_workspace():
    with safe() as robot:
        robot.stop("the operator's stop key")
        robot.robot.env.position[0] = 0.3
        tick(robot, np.zeros(7))
        assert not any(tick(robot, np.ones(7))[:6].any() for _ in range(20))
        robot.release()
        for _ in range(40):
            tick(robot, np.r_[0.0, 0.1, np.zeros(5)])
        assert robot.robot.env.position[0] <= 0.2 + 1e-3  # it comes back when it moves


def test_an_arm_that_leaves_its_workspace_by_itself_is_stopped_and_may_be_let_back():
    with safe() as robot:
        for x in (0.29, 0.31):  # the wall is at 0.2, a step is 0.1
            robot.robot.env.position[0] = x
            tick(robot, np.zeros(7))
            robot.observe()
            assert bool(robot.stopped) == (x > 0.3)
        assert robot.stopped == "the arm is measured 0.110 outside of its workspace, where it was not sent"
        robot.release()
        for _ in range(60):
            tick(robot, np.r_[-0.1, np.zeros(6)])
        assert not robot.stopped and robot.robot.env.position[0] < 0.2


def test_joints_that_come_close_to_their_stops_are_named_and_those_that_leave_them_are_not():
    stops = Stops(low=(-2.0, -1.0), high=(2.0, 1.0), room=0.2)
    assert stops.approached(np.array([0.0, 0.5]), np.array([1.7, 0.7])) == ""
    said = stops.approached(np.array([1.7, 0.7]), np.array([1.7, 0.85]))
    assert said == "joint 2 comes close to its stop, 0.15 rad"
    assert stops.approached(np.array([1.9, -0.9]), np.array([1.85, -0.85])) == ""
    with pytest.raises(ValueError, match="expected low < high for each joint, with room 0.2 to both"):
        Stops(low=(0.0,), high=(0.3,), room=0.2)


def test_a_gripper_that_is_told_nothing_has_not_turned():
    with safe() as robot:
        grips = [tick(robot, np.r_[np.zeros(6), grip])[-1] for grip in (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, -1.0, 1.0, 1.0)]
    assert grips == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, -1.0, -1.0, -1.0]


def test_an_action_within_all_limits_is_sent_as_it_is_and_not_logged():
    with safe() as robot:
        action = np.array([0.02, -0.01, 0.03, 0.0, 0.05, 0.0, -1.0], np.float32)
        np.testing.assert_array_equal(tick(robot, action), action)
        assert not robot.interventions


def test_an_arm_slows_down_towards_a_wall_and_never_jerks():
    with safe() as robot:
        steps = [tick(robot, np.r_[1.0, np.zeros(6)])[0] * 0.05 for _ in range(40)]
    changes = np.diff([0.0, *steps])
    assert robot.robot.env.position[0] == pytest.approx(0.2, abs=1e-3)
    assert np.abs(changes).max() <= 4.0 / HZ**2 + 1e-6
    assert {i.cause for i in robot.interventions} >= {"workspace"}


def test_numbers_that_are_not_finite_hold_the_arm_and_feed_no_watchdog():
    with safe() as robot:
        for _ in range(12):
            sent = tick(robot, np.full(7, np.nan))
            assert np.isfinite(sent).all() and not sent[:6].any()
        assert robot.stopped.startswith("watchdog") and "not finite" in robot.stopped


def test_a_dead_policy_stops_the_arm_within_the_watchdog_time():
    with safe() as robot:
        for _ in range(5):
            tick(robot, np.r_[0.3, np.zeros(6)])
        died = robot.clock.now()
        while not robot.stopped:
            tick(robot, None)
        assert robot.clock.now() - died <= 0.5 + 2 / HZ
        assert not robot._glide.moving and robot.stopped.startswith("watchdog")


def test_a_stopped_arm_stays_until_it_is_released():
    with safe() as robot:
        robot.stop("the operator's stop key")
        assert not tick(robot, np.full(7, 0.05))[:6].any()
        assert robot.interventions[-1].cause == "the operator's stop key"
        robot.release()
        assert tick(robot, np.r_[0.05, np.zeros(6)])[0] > 0


def test_an_observation_that_is_too_old_moves_nothing():
    with safe() as robot:
        robot.clock.sleep_until(1.0)
        sent = robot.command(np.full(7, 0.1))
        assert not sent[:6].any() and "s old" in robot.interventions[-1].cause


def test_a_position_that_is_not_finite_stops_the_arm_and_a_missing_one_is_an_error():
    with safe() as robot:
        robot.robot.env.position[:] = np.nan
        tick(robot, np.zeros(7))
        robot.observe()
        assert "measured hand" in robot.stopped
        robot.robot._reports[-1][1].values.pop("hand")
        with pytest.raises(ValueError, match="expected 'hand' in every observation"):
            robot.observe()
        robot.robot.env.position[:] = 0
        robot.robot.command(np.zeros(7))
        robot.clock.sleep_until(robot.clock.now() + 1 / HZ)


def test_an_arm_that_is_blocked_is_not_sent_further_and_further_away():
    with safe("absolute", follows=0.0) as robot:
        for _ in range(30):
            sent = tick(robot, np.array([0.2, 0.0, 0.0, -1.0]))
            assert np.linalg.norm(sent[:3]) <= 0.1 + 1e-6


def test_an_arm_that_is_pushed_is_caught_where_it_is():
    with safe("absolute", follows=0.0) as robot:
        robot.robot.env.position = np.array([0.15, 0.0, 0.0])
        tick(robot, np.array([0.0, 0.0, 0.0, -1.0]))
        sent = tick(robot, np.array([0.0, 0.0, 0.0, -1.0]))
        assert np.linalg.norm(sent[:3] - [0.15, 0, 0]) <= 0.1 + 1e-6 and "does not follow" in str(robot.interventions)


def test_the_gripper_does_not_chatter():
    with safe() as robot:
        grips = [tick(robot, np.r_[np.zeros(6), 1.0 if k % 2 else -1.0])[-1] for k in range(20)]
    turns = np.flatnonzero(np.diff(np.sign(grips)))
    assert (np.diff(turns) >= 0.2 * HZ).all() and len(turns) > 2


def test_leaving_brakes_whatever_happened():
    robot = safe()
    with pytest.raises(RuntimeError, match="camera"), robot:
        for _ in range(5):
            tick(robot, np.r_[0.5, np.zeros(6)])
        raise RuntimeError("the camera is gone")
    assert not robot._glide.moving and robot.interventions[-1].cause == "the run is over"


def test_motion_that_cannot_be_stopped_in_time_is_not_begun():
    glide = Glide(1, MotionLimits(9.0, 1.0, 1.0, 9e3), 0.05)
    x = 0.0
    for _ in range(60):
        v = glide.follow([1.0], lambda path, x=x: x + sum(p[0] for p in path) * 0.05 <= 0.4 + 1e-9)
        x += 0.05 * v[0]
    assert 0.36 < x <= 0.4 + 2e-9


def test_limits_are_required_and_missing_ones_are_named():
    clock = FakeClock()
    with pytest.raises(LimitsError, match="expected Limits for this robot, got None"):
        SafeRobot(SimRobot(ToyArm(), motion_of("delta"), clock), None, clock)
    with pytest.raises(LimitsError, match="limits.motion with .*: jerk missing"):
        limits(motion={"step": 1, "velocity": 1, "acceleration": 1})
    with pytest.raises(LimitsError, match="watchdog missing; speed unknown"):
        Limits.from_dict({k: None for k in ("workspace", "motion", "turn", "gripper", "stale", "speed")})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"turn": None}, "limits.turn declared"),
        ({"gripper": None}, "limits.gripper declared"),
        ({"watchdog": 0.01}, "watchdog longer than a tick"),
        ({"watchdog": 0.0}, r"limits.watchdog must be in \(0, 60\], got 0.0"),
        ({"motion": {"step": 1, "velocity": math.inf, "acceleration": 1, "jerk": 1}}, "above 0 and finite"),
        ({"workspace": {"low": [0], "high": [1], "planes": [], "spheres": [], "margin": 0}}, "workspace of 3 dim"),
        ({"workspace": {"low": [0], "high": [0], "planes": [], "spheres": [], "margin": 0}}, "low < high"),
    ],
)
def test_limits_that_do_not_fit_the_robot_are_refused(changes, message):
    with pytest.raises(LimitsError, match=message):
        safe(**changes)


def test_easy_limits_change_nothing():
    rng = np.random.default_rng(0)
    space = {"low": [-9.0] * 3, "high": [9.0] * 3, "planes": [], "spheres": [], "margin": 0.0}
    plain = {"workspace": space, "motion": vars(easy()), "turn": vars(easy())}
    with safe(**plain) as robot:
        for _ in range(50):
            action = np.r_[rng.uniform(-1, 1, 6), -1.0].astype(np.float32)
            np.testing.assert_array_equal(tick(robot, action), action)
