"""What is due when: latencies are hidden, past actions dropped, plans joined; all on a clock that is not real."""

import numpy as np
import pytest
from toy_arms import HZ, ToyArm, limits, motion_of, straight

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.control import control
from ebt_policy.deploy.link import Delayed, Threaded
from ebt_policy.deploy.plan import Plan, PlanError
from ebt_policy.deploy.robot import Delays, SimRobot
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Scheduler, Timing, fade

WIDE = {"low": [-9.0] * 3, "high": [9.0] * 3, "planes": [], "spheres": [], "margin": 0.0}
QUICK = {"step": 9.0, "velocity": 9.0, "acceleration": 900.0, "jerk": 90000.0}


def drive(
    planner,
    seconds=3.0,
    latency=0.0,
    delays=None,
    clock=None,
    on_tick=lambda t: None,
    run=control,
    watchdog=0.5,
    **timing,
):
    """Control of a toy arm by `planner` behind a latency -> outcome, ticks, robot, scheduler."""
    clock, ticks = clock or FakeClock(), []
    inner = SimRobot(ToyArm(), motion_of("delta"), clock, delays)
    robot = SafeRobot(inner, limits(workspace=WIDE, motion=QUICK, watchdog=watchdog), clock)
    defaults = {"hz": HZ, "observe": 2, "execute": 8, "plan": 15, "latency": latency}
    scheduler = Scheduler(Timing(**defaults | timing), clock.now())

    def note(tick):
        ticks.append(tick)
        on_tick(tick)

    with robot:
        link = Delayed(planner, clock, lambda: latency)
        outcome = run(robot, link, scheduler, clock, seconds, on_tick=note)
    return outcome, ticks, robot, scheduler


class Counting:
    """Plans whose every action names the tick that it was planned for, and notes its requests."""

    def __init__(self, level=lambda request: 0.0):
        self.requests, self.level = [], level

    def __call__(self, request):
        self.requests.append(request)
        return straight(request, speed=self.level(request))


class Turning(Counting):
    """Plans that go one way with an open gripper and then the other with a closed one."""

    def __call__(self, request):
        plan, side = super().__call__(request), 1.0 if request.id % 2 == 0 else -1.0
        plan.actions[:, 0], plan.actions[:, 6] = 0.4 * side, side
        return plan


def test_without_latency_every_plan_is_executed_from_its_first_action_for_ta_steps():
    planner = Counting()
    outcome, ticks, _, scheduler = drive(planner)
    due = [round(100 * float(t.asked[1])) for t in ticks]
    assert due == [k % 8 for k in range(60)]
    assert outcome.held == 0 and scheduler.joints == list(range(0, 60, 8)) and len(planner.requests) == 8


@pytest.mark.parametrize("latency, ticks_lost", [(0.06, 2), (0.12, 3)])
def test_a_latency_is_hidden_by_asking_earlier_and_starting_later_in_the_plan(latency, ticks_lost):
    outcome, ticks, _, scheduler = drive(Counting(), latency=latency)
    due = [round(100 * float(t.asked[1])) for t in ticks if t.asked is not None]
    assert outcome.held == ticks_lost  # before the first plan only
    assert due[:8] == list(range(ticks_lost, ticks_lost + 8)) and scheduler.lead == ticks_lost
    assert max(due) == ticks_lost + 7 and outcome.missed == 0


def test_an_old_observation_counts_as_latency_too():
    _, ticks, _, _ = drive(Counting(), delays=Delays(observation=0.1))
    due = [round(100 * float(t.asked[1])) for t in ticks if t.asked is not None]
    assert min(due[10:]) == 2 and max(due) == 9


def test_commands_that_take_effect_late_are_sent_early():
    _, ticks, _, _ = drive(Counting(), command=0.1)
    assert min(round(100 * float(t.asked[1])) for t in ticks) == 2


def test_without_compensation_plans_start_from_their_beginning_however_old():
    _, ticks, _, _ = drive(Counting(), latency=0.12, anchor="arrived")
    assert {round(100 * float(t.asked[1])) for t in ticks if t.asked is not None} == set(range(8))


def test_a_latency_that_was_assumed_too_low_is_learned():
    outcome, ticks, _, scheduler = drive(Counting(), latency=0.2, seconds=6.0)
    late = [t.time for t in ticks if t.asked is None]
    assert scheduler.lead == 4 and max(late) < 1.5 and outcome.latencies[-1] == pytest.approx(0.2)


def test_a_plan_that_comes_when_all_of_it_is_past_is_dropped_and_the_arm_is_held():
    outcome, ticks, robot, _ = drive(Counting(), latency=0.9, seconds=4.0, watchdog=2.0)
    assert outcome.refused >= 1 and all(not t.sent[:6].any() for t in ticks)
    assert "all of it past" in str(robot.interventions) and outcome.stopped.startswith("watchdog")


def test_joined_plans_jump_less():
    def jump(blend):
        flip = Counting(level=lambda request: 0.4 * (-1) ** request.id)
        _, ticks, _, scheduler = drive(flip, blend=blend)
        speeds = np.array([t.sent[0] for t in ticks])
        return np.abs(np.diff(speeds)).max()

    assert jump(0) == pytest.approx(0.8) and jump(4) <= jump(0) / 3


@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("known", [4, 9])
def test_a_faded_path_of_displacements_ends_where_the_new_plan_does(past, known):
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(known, 2)), rng.normal(size=(15, 2))
    joined = fade(old, new, past, blend=4, delta=True)
    np.testing.assert_allclose(old[:past].sum(0) + joined.sum(0), new.sum(0))
    np.testing.assert_allclose(joined[5:], new[past + 5 :])


def test_displacements_lost_on_the_way_are_made_up_for_without_a_jump():
    old, new = np.zeros((8, 1)), np.full((15, 1), 0.1)
    joined = fade(old, new, 3, blend=4, delta=True)
    assert joined.sum() == pytest.approx(1.5) and joined[0, 0] < 0.1 + 0.3 * 0.3 and joined.max() < 0.3


def test_faded_positions_go_from_the_old_plan_to_the_new_one_and_stay():
    old, new = np.zeros((4, 1)), np.ones((15, 1))
    joined = fade(old, new, 1, blend=4, delta=False)
    assert joined.shape == (14, 1) and 0 < joined[0, 0] < 0.15 and (np.diff(joined[:5, 0]) > 0).all()
    np.testing.assert_allclose(joined[4:], 1.0)


def test_the_gripper_switches_where_the_hand_is_faded():
    _, ticks, _, scheduler = drive(Turning(), blend=4, moving=6)
    at = scheduler.joints[1]
    assert ticks[at].sent[6] == 1.0 and abs(ticks[at].sent[0] - ticks[at - 1].sent[0]) < 0.4


@pytest.mark.parametrize(("gripper", "ahead"), [(None, 0), (0.0, 0), (0.1, 2)])
def test_a_gripper_that_is_slower_than_the_arm_is_told_earlier(gripper, ahead):
    closes = Counting()

    def plan(request):
        plan = closes(request)
        plan.actions[6:, 6] = 1.0
        return plan

    _, ticks, _, _ = drive(plan, seconds=0.4, moving=6, gripper=gripper)
    sent = np.stack([t.sent for t in ticks])
    assert np.flatnonzero(sent[:, 6])[0] == 6 - ahead
    np.testing.assert_allclose(sent[:, 1], np.arange(8) / 100)


def test_the_tail_is_what_was_sent_and_what_is_decided_from_the_first_observed_step_on():
    planner = Counting(level=lambda request: 0.01 * request.id)
    drive(planner, latency=0.1)
    assert planner.requests[0].tail is None
    second = planner.requests[1].tail  # asked at tick 8 for tick 10; plan 1 was followed from tick 2 and goes on to 14
    np.testing.assert_allclose(second[:, 0], 0.01, atol=1e-7)
    np.testing.assert_allclose(second[:, 1], np.arange(7, 15) / 100, atol=1e-7)


def test_a_refused_request_holds_the_arm_and_says_why():
    def broken(request):
        raise PlanError("the server is gone")

    outcome, ticks, robot, _ = drive(broken)
    assert outcome.refused > 5 and "the server is gone" in outcome.stopped and len(ticks) < 15
    assert not any(t.sent[:6].any() for t in ticks)


def test_a_plan_that_is_not_finite_stops_the_arm():
    def diverged(request):
        plan = straight(request)
        plan.actions[3, 2] = np.nan
        return plan

    outcome, ticks, _, _ = drive(diverged)
    assert outcome.stopped == "alarm: a plan that is not finite" and len(ticks) == 1


def test_a_tick_that_takes_too_long_is_not_made_up_for():
    clock = FakeClock()

    def hiccup(tick):
        if abs(tick.time - 1.0) < 1e-6:
            clock.sleep_until(clock.now() + 0.18)

    outcome, ticks, _, _ = drive(Counting(), clock=clock, on_tick=hiccup, seconds=2.0)
    assert outcome.missed == 2 and outcome.ticks == 38
    assert [round(20 * t.time, 1) for t in ticks[19:23]] == [19, 20, 23.6, 24]


def test_the_operator_stops_the_arm_and_lets_it_go_on():
    class Someone:
        asked = []

        def wants_stop(self):
            return 0.99 < clock.now() < 1.01

        def lets_go_on(self, why):
            self.asked.append(why)
            return clock.now() > 1.5

    def run(*args, **kwargs):
        return control(*args, operator=Someone(), **kwargs)

    clock = FakeClock()
    outcome, ticks, _, _ = drive(Counting(lambda r: 0.1), clock=clock, run=run)
    moving = [t.time for t in ticks if t.sent[0] > 0.05]
    assert outcome.ticks == 60 and not [m for m in moving if 1.15 < m < 1.5] and max(moving) > 2
    assert set(Someone.asked) == {"the operator's stop key"}


def test_an_alarm_stops_the_arm_in_the_same_tick():
    def run(*args, **kwargs):
        alarm = [lambda observation, plan: "something moved" if observation.time > 0.99 else ""]
        return control(*args, monitors=alarm, **kwargs)

    outcome, ticks, _, _ = drive(Counting(lambda r: 0.1), run=run)
    assert outcome.stopped == "alarm: something moved" and ticks[-1].time == pytest.approx(1.0)


def test_the_same_latencies_give_the_same_run():
    def sent():
        return np.stack([t.sent for t in drive(Counting(), delays=Delays(0.03, 0.1, 0.2))[1]])

    np.testing.assert_array_equal(sent(), sent())


def test_a_robot_without_limits_is_not_driven():
    with pytest.raises(TypeError, match="expected a SafeRobot, got SimRobot"):
        clock = FakeClock()
        control(SimRobot(ToyArm(), motion_of("delta"), clock), None, None, clock, 1.0)


def test_a_latency_that_no_plan_can_hide_is_refused_with_the_budget():
    timing = Timing(hz=20, observe=2, execute=8, plan=15, latency=0.3)
    timing.check(observation=0.05)
    with pytest.raises(ValueError, match="at most 350 ms .* got 400 ms"):
        timing.check(observation=0.1)
    with pytest.raises(ValueError, match="execute 1 to 15 planned steps, got 16"):
        Timing(hz=20, observe=2, execute=16, plan=15)


def test_a_thread_plans_while_the_caller_goes_on():
    link = Threaded(straight_of_any)
    link.ask(type("R", (), {"id": 3})())
    while (plan := link.poll()) is None:
        pass
    assert plan.id == 3 and link.poll() is None
    link.close()


def straight_of_any(request):
    return Plan(request.id, np.zeros((3, 7)), np.arange(3) / HZ, 1, "steps", 0.0)
