"""Clocks that jump: nothing waits for one that went back, and the arm stops within its limits."""

import numpy as np
import pytest
from fuzz_cases import CASES, JumpingClock
from fuzz_safety import fuzz
from toy_arms import HZ, ToyArm, limits, motion_of, straight, tick

from ebt_policy.deploy.clock import FakeClock, paced
from ebt_policy.deploy.control import control
from ebt_policy.deploy.link import Delayed
from ebt_policy.deploy.robot import Delays, Observation, RobotError, SimRobot
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Scheduler, Timing

HOURS = 7200.0


def robot_of(kind="delta", delays=None, follows=1.0, **changes):
    clock = FakeClock(100.0)
    return SafeRobot(SimRobot(ToyArm(kind, follows), motion_of(kind), clock, delays), limits(kind, **changes), clock)


def sideways(x):
    return np.r_[x, np.zeros(6)]


def test_a_clock_that_runs_is_not_said_to_jump():
    with robot_of() as robot:
        for pause in (0.05, 0.3, 40.0):
            robot.clock.sleep_until(robot.clock.now() + pause)
            robot.observe()
        assert robot.stopped == ""


@pytest.mark.parametrize("jump, said", [(-3.2, "back by 3.2"), (-HOURS, "back by 7200"), (HOURS, "ahead by 7200")])
def test_a_clock_that_jumps_stops_the_arm_within_its_limits(jump, said):
    with robot_of() as robot:
        speeds = [tick(robot, sideways(0.5))[0] for _ in range(6)]
        robot.observe()
        robot.clock.time += jump
        speeds += [tick(robot, sideways(0.5))[0] for _ in range(6)]
        assert robot.stopped == f"the clock went {said} s" == robot.interventions[-1].cause
    assert speeds[5] > 0 and speeds[-1] == 0
    assert np.abs(np.diff(speeds)).max() * 0.05 * HZ**2 <= 4.0 + 1e-3  # the limit of the acceleration


def test_an_arm_that_was_stopped_by_the_clock_goes_on_when_it_is_released():
    with robot_of() as robot:
        tick(robot, sideways(0.1))
        robot.clock.time -= HOURS
        tick(robot, sideways(0.1))
        robot.release()
        assert max(tick(robot, sideways(0.1))[0] for _ in range(5)) == pytest.approx(0.1)


@pytest.mark.parametrize("delays", [None, Delays(observation=0.1)])
def test_a_clock_that_goes_back_again_and_again_lets_no_command_out_of_the_workspace(delays):
    """The wall is at 0.2: what was sent before the jumps must not count as measured."""
    with robot_of(delays=delays, watchdog=9.0, stale=9.0) as robot:
        for k in range(200):
            tick(robot, sideways(0.5))
            if k % 7 == 6:
                robot.clock.time -= 3.2
            robot.release()
            assert robot.robot.env.position[0] <= 0.2 + 1e-6
        assert robot.robot.env.position[0] > 0.1


def test_a_clock_that_goes_back_feeds_no_watchdog_and_ends_no_dwell():
    with robot_of() as robot:
        tick(robot, np.r_[np.zeros(6), 1.0])
        robot.clock.time += HOURS
        robot.observe()
        robot.release()
        assert tick(robot, np.r_[np.zeros(6), -1.0])[-1] == 1.0  # 0.2 s have not passed
        robot.clock.time -= HOURS
        robot.observe()
        robot.release()
        for _ in range(12):
            tick(robot, None)
        assert robot.stopped.startswith("watchdog: no fresh action for 0.5")


def test_an_observation_of_the_future_stops_the_arm_and_moves_nothing_that_is_known_of_it():
    class Ahead(SimRobot):
        by = 5.0

        def observe(self):
            return Observation(super().observe().time + self.by, {"hand": np.full(3, 0.1, np.float32)})

    robot = robot_of()
    robot.robot.__class__ = Ahead
    with pytest.raises(RobotError, match="expected an arm that says where it is, but the observation is of 5.0"), robot:
        pass
    robot.robot.by = 0.0
    with robot:
        robot.robot.by = 5.0
        robot.observe()
        assert robot.stopped.startswith("the observation is of 5.000 s from now")
        robot.release()
        robot.clock.sleep_until(robot.clock.now() + 0.6)
        sent = robot.command(sideways(0.1))
        assert not sent.any() and "the observation is 0.60 s old" in robot.interventions[-1].cause


def test_a_simulated_robot_lives_on_when_its_clock_goes_back():
    clock = FakeClock(100.0)
    robot = SimRobot(ToyArm(), motion_of("delta"), clock, Delays(observation=0.1, command=0.1))
    with robot:
        for k in range(20):
            look = robot.observe()
            assert look.time <= clock.now() + 1e-5
            robot.command(sideways(0.1))
            clock.time += -HOURS if k == 9 else 1 / HZ
        assert clock.now() - look.time == pytest.approx(0.15) and look.values["hand"][0] > 0.03


@pytest.mark.parametrize("jump", [-3.2, -HOURS, HOURS])
@pytest.mark.parametrize("asleep", [False, True])
def test_periods_are_neither_waited_for_nor_left_out_when_the_clock_jumps(jump, asleep):
    class Set(FakeClock):
        slept, set, ticks = 0.0, 0.0, 0

        def now(self):
            return super().now() + self.set

        def sleep_until(self, moment):
            self.slept += max(0.0, moment - self.now())
            super().sleep_until(moment - self.set)
            self.ticks += 1
            self.set += jump if asleep and self.ticks == 5 else 0.0

    clock, seen = Set(), []
    for k, late in paced(clock, 10.0, clock.now(), 20):
        seen.append(k)
        assert abs(late) < 1e-6
        clock.set += jump if not asleep and k == 5 else 0.0
    assert seen == list(range(20)) and clock.slept == pytest.approx(1.9, abs=0.11)


def test_periods_that_really_took_too_long_are_left_out():
    clock, seen = FakeClock(), []
    for k, _ in paced(clock, 10.0, 0.0, 20):
        seen.append(k)
        clock.time += 0.55 if k == 5 else 0.0
    assert seen == [0, 1, 2, 3, 4, 5, *range(10, 20)]


@pytest.mark.parametrize("jump", [-3.2, -HOURS, HOURS])
def test_plans_are_asked_for_and_followed_as_before_when_the_clock_jumped(jump):
    clock = FakeClock(100.0)
    scheduler = Scheduler(Timing(hz=HZ, observe=1, execute=4, plan=8), clock.now())

    class Ask:
        id = 1

    due = []
    for k in range(24):
        if k == 10:
            clock.time += jump
        now = clock.now()
        if scheduler.wants(now):
            scheduler.ask(now, now)
            scheduler.join(straight(Ask, n=8), now)
        action = scheduler.action(now)
        due.append(None if action is None else round(100 * float(action[1])))
        clock.sleep_until(now + 1 / HZ)
    as_before = [0, 1, 2, 3] * 6
    assert due[:10] == as_before[:10]
    assert due[10:] == (as_before[9:23] if jump < 0 else as_before[:14])  # back: a tick again; ahead: a new plan
    assert max(scheduler.latencies) == 0.0


def test_a_run_ends_with_the_clock_as_the_reason():
    robot = robot_of()
    jumps = iter([0.0] * 10 + [-3.2] + [0.0] * 99)

    def jump(ticked):
        robot.clock.time += next(jumps)

    with robot:
        scheduler = Scheduler(Timing(hz=HZ, observe=2, execute=8, plan=15), robot.clock.now())
        link = Delayed(straight, robot.clock, lambda: 0.0)
        outcome = control(robot, link, scheduler, robot.clock, 5.0, on_tick=jump)
    assert outcome.stopped == "the clock went back by 3.15 s" and outcome.ticks == 12 and outcome.missed == 0


@pytest.mark.parametrize("kind", sorted(kind for kind in CASES if kind.endswith("jumping")))
def test_commands_keep_the_limits_under_a_clock_that_jumps(kind):
    found = fuzz(CASES[kind](), 1500, 1)
    assert found["commands"] == 1500 and found["the clock went back by _ s"] and found["the clock went ahead by _ s"]
    assert [what for what in found if what.startswith("BROKEN") and found[what]] == []


def test_the_jumping_clock_of_the_fuzz_jumps_and_time_passes_as_it_should():
    clock = JumpingClock(often=0.5)
    times = [clock.now() for _ in range(20)]
    assert len(set(times)) > 5 and clock.passed() == 10_000.0
