"""Scripted experts: they solve their tasks under noise, remember nothing and mend what goes wrong."""

import numpy as np
import pytest

from envs.expert import CLOSE, wrap
from envs.protocol import offer
from envs.record import BURST, REST, SLIP, Bursts, record
from envs.robosuite_env import RobosuiteEnv


@pytest.mark.parametrize("seed", [1000, 1001])
def test_experts_succeed_while_they_are_disturbed(environments, task, seed):
    episode = record(environments[task], environments[task].unwrapped.expert(), seed, noise=0.25)
    assert episode["success"]
    assert len(episode["action"]) < 300


def test_a_recording_is_repeated_by_its_executed_actions(environments, task):
    env = environments[task].unwrapped
    episode = record(environments[task], environments[task].unwrapped.expert(), seed=1002, noise=0.25)
    seen, _ = env.reset(options={"state": episode["initial_state"]})
    for t, action in enumerate(episode["executed"]):
        assert all(np.array_equal(seen[key], episode[f"obs/{key}"][t]) for key in seen)
        seen, _, _, _, info = env.step(action)
    assert info["success"]


def test_an_expert_remembers_nothing_of_an_episode(environments, task):
    expert, other = environments[task].unwrapped.expert(), environments[task].unwrapped.expert()
    episode = record(environments[task], expert, seed=1003, noise=0.25)
    other.reset(np.random.default_rng([1003, 1]))
    for t in (40, 5, 33):
        seen = {key.removeprefix("obs/"): rows[t] for key, rows in episode.items() if key.startswith("obs/")}
        assert np.array_equal(other.act(seen).astype(np.float32), episode["action"][t])


def test_a_dropped_cube_is_picked_up_again(lift):
    expert = lift.expert()
    seen, _ = lift.reset(seed=5)
    expert.reset(np.random.default_rng(5))
    drops, solved = 0, False
    for _ in range(200):
        action = expert.act(seen)
        if drops < 12 and seen["object"][2] > 0.826 and action[-1] == CLOSE:
            drops += 1
            action[-1] = -CLOSE  # the hand is forced open as soon as the cube leaves the table
        seen, _, _, _, info = lift.step(action)
        solved = solved or info["success"]
    assert drops == 12
    assert solved


def test_noise_comes_in_bursts_shrinks_with_speed_and_lets_the_gripper_slip_in_some():
    slow, fast = np.array([0.0] * 6 + [1.0]), np.array([0.5, -0.5, 0.5, 0, 0, 0, 1.0])
    for action, spread in ((slow, 0.04), (fast, 0.07)):
        disturb = Bursts(0.1, np.random.default_rng(0))
        noise = np.array([disturb(action) - action for _ in range(60000)])
        on = noise.any(axis=1)
        np.testing.assert_allclose(noise[on, :6].std(axis=0), spread, rtol=0.1)
        assert set(noise[on, 6]) == {0, -2} and abs((noise[on, 6] != 0).mean() - SLIP) < 0.05
        lengths = np.diff(np.flatnonzero(np.diff(on)))[1:]  # of bursts and rests in turn
        assert {lengths[::2].min(), lengths[::2].max(), lengths[1::2].min(), lengths[1::2].max()} == {*BURST, *REST}


def test_an_expert_is_what_the_registration_says_and_a_new_one_each_time():
    class Mine:
        pass

    env, without = RobosuiteEnv("Lift", expert=Mine), RobosuiteEnv("Lift")
    assert isinstance(env.expert(), Mine) and env.expert() is not env.expert()
    assert offer(without, "expert") is None


def test_angles_wrap_to_the_nearest_equivalent():
    assert wrap(np.pi + 0.1, np.pi) == pytest.approx(0.1)
    assert wrap(-0.3, np.pi / 2) == pytest.approx(-0.3)
    assert wrap(1.0, np.pi / 2) == pytest.approx(1.0 - np.pi / 2)
