"""What a teleoperator asks for, and the loop that records it, on arms without physics."""

import numpy as np
import pytest
from toy_arms import HZ, ToyArm, limits, motion_of

from ebt_policy.data.episodes import Episode
from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.devices.guiding import Guided
from ebt_policy.deploy.record import Recorder
from ebt_policy.deploy.robot import Observation, SimRobot
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.teleop import Hand, Steered, Steering, demonstrate

FORWARD = Hand(np.array([1.0, 0, 0, 0, 0, 0]))
REST = Hand()


def press(*commands):
    return Hand(commands=frozenset(commands))


class Script:
    """A device that reports these hands, one a tick, and then nothing."""

    steering = "by a script"

    def __init__(self, *hands):
        self.hands, self.open = list(hands), False

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *error):
        self.open = False

    def read(self):
        return self.hands.pop(0) if self.hands else REST


def steering(kind="delta", **speeds):
    return Steering(SimRobot(ToyArm(kind), motion_of(kind), FakeClock()).spec, motion_of(kind), **speeds)


def shown(*hands, kind="delta", seconds=5.0, keep=lambda robot: None):
    """The verdict on what these hands do to a toy arm, and what was recorded."""
    clock, recorder = FakeClock(), Recorder()
    inner = SimRobot(ToyArm(kind), motion_of(kind), clock)
    with SafeRobot(inner, limits(kind), clock) as robot, Steered(Script(*hands), steering(kind)) as operator:
        verdict = demonstrate(robot, operator, clock, seconds, recorder)
        keep(robot)
    return verdict, recorder.ticks, inner


def test_a_full_push_is_the_speed_in_metres_and_radians_a_second():
    map_, look = steering(speed=0.4, turning=2.0), Observation(0, {"hand": np.ones(3)})
    action = map_.action(np.array([1, 0, -0.5, 0, 0, 1.0]), True, look, None)
    np.testing.assert_allclose(action, [0.4 / HZ / 0.05, 0, -0.2 / HZ / 0.05, 0, 0, 2.0 / HZ / 0.5, 1], atol=1e-6)
    assert map_.action(np.zeros(6), False, look, None)[-1] == -1
    assert steering(speed=9.0).action(np.ones(6), False, look, None).max() == 1  # the range of the controller


def test_absolute_actions_go_on_from_what_was_sent_or_from_where_the_arm_is():
    map_, look = steering("absolute", speed=0.4), Observation(0, {"hand": np.array([0.1, 0.2, 0.3])})
    push = np.array([1.0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(map_.action(push, False, look, None), [0.12, 0.2, 0.3, -1], atol=1e-6)
    np.testing.assert_allclose(map_.action(push, False, look, np.full(4, 0.5)), [0.52, 0.5, 0.5, -1], atol=1e-6)


def test_the_arm_waits_for_its_operator_and_the_episode_begins_with_the_first_push():
    verdict, ticks, inner = shown(REST, REST, FORWARD, REST, press("grip"), FORWARD, press("keep"))
    assert verdict == "keep" and len(ticks) == 4
    np.testing.assert_allclose([t.asked[0] for t in ticks], [0.2, 0, 0, 0.2], atol=1e-6)
    assert [t.asked[-1] for t in ticks] == [-1, -1, 1, 1]
    assert ticks[0].time == pytest.approx(2 / HZ) and not ticks[0].observation.values["hand"].any()


def test_what_was_asked_and_what_was_sent_are_kept_apart():
    _, ticks, inner = shown(*[FORWARD] * 60, press("keep"))
    episode = Recorder()
    episode.ticks = ticks
    kept = episode.episode(inner.spec)
    assert (kept.action[:, 0] == np.float32(0.2)).all()
    changed = [t.cause for t in ticks if t.cause]
    assert changed and abs(kept.executed[-1, 0]) < 0.01 and inner.env.position[0] < 0.2001  # the wall


@pytest.mark.parametrize("word", ["keep", "discard", "quit"])
def test_an_episode_ends_as_the_operator_says_with_the_arm_at_rest(word):
    def at_rest(robot):
        assert not robot.stopped and not np.any(robot.hold("look")[:6])

    verdict, ticks, _ = shown(FORWARD, FORWARD, press(word, "keep"), keep=at_rest)
    assert verdict == word and len(ticks) == 2


def test_an_episode_that_is_too_long_is_to_be_discarded():
    assert shown(*[FORWARD] * 30, seconds=1.0)[0] == "discard"
    assert len(shown(*[FORWARD] * 30, seconds=1.0)[1]) == HZ


def test_the_stop_key_holds_the_arm_until_it_is_pressed_again():
    verdict, ticks, _ = shown(FORWARD, press("halt"), FORWARD, FORWARD, press("halt"), FORWARD, press("keep"))
    assert [t.asked is None for t in ticks] == [False, True, True, True, False, False]
    assert [t.cause for t in ticks[1:4]] == ["the operator's stop key"] * 3 and not ticks[3].sent[:6].any()


def test_an_arm_that_was_stopped_stays_so_in_the_next_episode():
    def held(robot):
        assert robot.stopped == "the operator's stop key"

    shown(FORWARD, press("halt"), press("discard"), keep=held)


def test_robots_that_are_not_safe_and_robots_without_a_hand_are_refused():
    clock = FakeClock()
    with pytest.raises(TypeError, match="expected a SafeRobot, got SimRobot"):
        demonstrate(SimRobot(ToyArm(), motion_of("delta"), clock), None, clock, 1.0, print)
    with pytest.raises(ValueError, match="got 7 numbers in the frame 'joint': show it by hand"):
        Steered(Script(), steering("joints"))


def test_pushes_of_two_devices_add_up_and_a_device_that_does_not_open_closes_the_other():
    both = Steered(Script(FORWARD, FORWARD), steering(), Script(FORWARD, Hand(-FORWARD.axes)))
    look = Observation(0, {"hand": np.zeros(3)})
    assert both.ask(look, None).action[0] == np.float32(0.2) and both.ask(look, None).idle

    class Absent(Script):
        def __enter__(self):
            raise OSError("not plugged in")

    device, keyboard = Script(), Absent()
    with pytest.raises(OSError, match="not plugged in"), Steered(keyboard, steering(), device):
        pass
    assert not device.open


def test_the_way_an_arm_was_moved_by_hand_becomes_the_actions():
    guided = Guided(Script(), steering("absolute"))
    places = np.array([[0, 0, 0], [0.01, 0, 0], [0.01, 0.02, 0]], np.float32)
    grips = np.array([[9, 9, 9, -1], [9, 9, 9, 1], [9, 9, 9, -1]], np.float32)
    demo = guided.shown(Episode({"hand": places}, grips, executed=grips))
    np.testing.assert_allclose(demo.action, [[0.01, 0, 0, -1], [0.01, 0.02, 0, 1]], atol=1e-6)
    assert len(demo.obs["hand"]) == 2 and demo.executed is demo.action
    with pytest.raises(ValueError, match="expected at least 2 steps"):
        guided.shown(Episode({"hand": places[:1]}, grips[:1]))


def test_displacements_and_turns_by_hand_are_in_units_of_the_action():
    map_ = steering()
    map_.spec.obs["quat"] = (4,)
    turned = np.array([[0, 0, 0, 1], [0, 0, np.sin(0.1), np.cos(0.1)]], np.float32)  # 0.2 rad about z
    episode = Episode({"hand": np.array([[0, 0, 0], [0.01, 0, 0]], np.float32), "quat": turned}, np.ones((2, 7)))
    for follows in (1.0, 0.5):
        demo = Guided(Script(), map_, "quat", follows).shown(episode)
        np.testing.assert_allclose(demo.action, [[0.2 / follows, 0, 0, 0, 0, 0.4 / follows, 1]], atol=1e-6)
    with pytest.raises(ValueError, match="got None: set device.orientation"):
        Guided(Script(), map_)
    with pytest.raises(ValueError, match="expected a share in"):
        Guided(Script(), map_, "quat", 0.0)


def test_an_arm_that_is_guided_is_told_to_be_where_it_is_and_recorded_once_it_was_moved():
    clock, recorder = FakeClock(), Recorder()
    inner = SimRobot(ToyArm("absolute", follows=0.0), motion_of("absolute"), clock)

    class Pushed(Script):
        def read(self):
            if inner.env.position[0] < 0.05 and clock.now() > 0.5:
                inner.env.position[0] += 0.005
                inner._values = inner.env._obs()
            return press("keep") if inner.env.position[0] >= 0.05 else REST

    guided = Guided(Pushed(), steering("absolute"))
    with SafeRobot(inner, limits("absolute"), clock) as robot, guided:
        assert demonstrate(robot, guided, clock, 5.0, recorder) == "keep"
    demo = guided.shown(recorder.episode(inner.spec))
    np.testing.assert_allclose(np.diff(demo.action[:, 0]), 0.005, atol=1e-6)
    assert ticks_stay(recorder.ticks)


def ticks_stay(ticks):
    return all(np.allclose(t.asked[:3], t.observation.values["hand"], atol=1e-6) for t in ticks)
