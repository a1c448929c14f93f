"""Monitors and the operator's keyboard."""

import io
import time

import numpy as np
from toy_arms import straight
from toy_server import request

from ebt_policy.deploy.robot import Observation
from ebt_policy.deploy.watch import FrozenPictures, Keyboard, SteepPlans


def look(time, level):
    return Observation(time, {"camera": np.full((4, 4, 3), level, np.uint8), "hand": np.zeros(3)})


def test_a_camera_that_shows_the_same_picture_for_too_long_is_an_alarm():
    monitor = FrozenPictures(0.5)
    assert not any(monitor(look(t / 10, t), None) for t in range(20))
    alarms = [monitor(look(2 + t / 10, 19), None) for t in range(10)]
    assert not any(alarms[:4]) and alarms[-1].startswith("camera has not changed for 1.0 s")


def test_a_plan_that_ends_on_a_slope_is_an_alarm():
    monitor, plan = SteepPlans(2.0), straight(request())
    assert monitor(look(0, 0), None) == monitor(look(0, 0), plan) == ""
    for norm, said in ((1.9, ""), (2.1, "is 2.1"), (float("nan"), "not a number")):
        object.__setattr__(plan, "grad_norm", norm)
        assert said in monitor(look(0, 0), plan) and bool(said) == bool(monitor(look(0, 0), plan))


class Lines:
    """A terminal on which nothing is typed until told."""

    def __init__(self):
        self.typed = []

    def __iter__(self):
        while True:
            if self.typed:
                yield self.typed.pop(0)
            time.sleep(0.001)


def soon(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return time.monotonic() < end


def test_enter_stops_and_the_word_go_lets_the_arm_go_on_once_it_was_asked_for():
    lines, questions = Lines(), []
    operator = Keyboard(lines, questions.append)
    assert not operator.wants_stop()
    lines.typed.append("\n")
    assert soon(operator.wants_stop) and not operator.wants_stop()
    assert not operator.lets_go_on("a key") and not operator.lets_go_on("a key")
    assert questions == ["held: a key. Type go to go on"]
    lines.typed.append("go\n")
    assert soon(lambda: operator.lets_go_on("a key"))
    assert not operator.lets_go_on("a key") and len(questions) == 2


def test_a_terminal_that_is_gone_stops_the_arm():
    assert soon(Keyboard(io.StringIO(""), print).wants_stop)
