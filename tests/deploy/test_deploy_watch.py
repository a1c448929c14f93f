"""Monitors, the operator's keyboard, and what is asked of the operator around episodes."""

import io
import time

import numpy as np
from toy_arms import straight
from toy_server import request

from ebt_policy.deploy.robot import Observation
from ebt_policy.deploy.scene import Watched
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
    assert questions == ["held: a key. Type go to go on, y or n to end the episode: solved or not"]
    lines.typed.append("go\n")
    assert soon(lambda: operator.lets_go_on("a key"))
    assert not operator.lets_go_on("a key") and len(questions) == 2


def test_a_terminal_that_is_gone_stops_the_arm():
    assert soon(Keyboard(io.StringIO(""), print).wants_stop)


def test_y_and_n_stop_the_arm_and_end_the_episode_with_what_they_say():
    lines = Lines()
    operator = Keyboard(lines, print)
    scene = Watched(operator)
    assert not scene.over()
    lines.typed.append("N\n")
    assert soon(operator.wants_stop) and scene.over() and scene.success() is False


class Prompted(Lines):
    """A person who types the next answer when asked, and goes at the end."""

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.questions = list(answers), []

    def ask(self, question):
        self.questions.append(question)
        self.typed.append(self.answers.pop(0) if self.answers else None)

    def __iter__(self):
        return iter(super().__iter__().__next__, None)


def test_a_person_is_asked_before_and_after_an_episode_and_unknown_is_an_answer():
    person = Prompted("\n", "what?\n", "y\n", "\n", "?\n", "q\n")
    scene = Watched(Keyboard(person, person.ask))
    assert scene.ready(0) and scene.success() is True
    assert scene.ready(1) and not scene.over() and scene.success() is None
    assert not scene.ready(2)
    assert sum("Was the task solved" in question for question in person.questions) == 3


def test_a_terminal_that_is_gone_leaves_success_unknown_and_begins_no_other_episode():
    person = Prompted("\n")
    scene = Watched(Keyboard(person, person.ask))
    assert scene.ready(0) and scene.success() is None and scene.success() is None and not scene.ready(1)
