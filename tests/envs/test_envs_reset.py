"""What a reset promises: the same beginning, and the same continuation, whatever happened before."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from fingerprint import TASKS, fingerprint

from envs.robosuite_env import RobosuiteEnv


def wander(env, steps: int, seed: int):
    """Leaves the environment and its controllers in some state."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        env.step(env.action_space.sample())


@pytest.fixture(scope="module")
def fresh():
    """Fingerprints of seed 7, by task, of a process that did nothing else, and whether it opened graphics."""
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    command = [sys.executable, Path(__file__).with_name("fingerprint.py"), "7", *TASKS]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    return dict(zip([*TASKS, "graphics"], output, strict=True))


def test_a_seeded_reset_is_the_same_in_a_fresh_process_and_after_other_episodes(environments, fresh, task):
    env = environments[task].unwrapped
    wander(env, 12, seed=3)
    here = fingerprint(env, seed=7)
    wander(env, 5, seed=4)
    assert fingerprint(env, seed=7) == here == fresh[task]


def test_nothing_opens_a_graphics_context_before_the_first_frame_is_asked_for(fresh):
    assert fresh["graphics"] == "none"


def test_a_restored_state_continues_like_the_seeded_reset_it_came_from(environments, task):
    env = environments[task].unwrapped
    env.reset(seed=11)
    state = env.state()
    seeded = fingerprint(env, seed=11)
    wander(env, 9, seed=5)
    assert fingerprint(env, options={"state": state}) == seeded
    assert state.dtype == np.float64


def continued(env, actions, **reset):
    """What follows 30 actions, after a reset if there is one: observations, states and success."""
    if reset:
        env.reset(**reset)
    steps = [env.step(action) for action in actions]
    return [(np.concatenate(list(seen.values())).tobytes(), info["success"]) for seen, *_, info in steps], env.state()


@pytest.mark.parametrize("steps", [1, 20, 57])
def test_a_state_in_mid_episode_is_all_that_the_rest_of_it_depends_on(environments, task, steps):
    """In the hands of the expert: the fingers are closing, or hold something, when it is restored."""
    env = environments[task].unwrapped
    expert, rng = env.expert(), np.random.default_rng(steps)
    expert.reset(rng)
    seen, _ = env.reset(seed=2)
    for _ in range(steps):
        seen, *_ = env.step(expert.act(seen))
    state, actions = env.state(), rng.uniform(-1, 1, (30, 7))
    steps, end = continued(env, actions)
    wander(env, 5, seed=3)
    again, same_end = continued(env, actions, options={"state": state})
    assert steps == again and np.array_equal(end, same_end)


def test_where_a_door_stands_is_part_of_its_states():
    env, other = RobosuiteEnv("Door"), RobosuiteEnv("Door")
    env.reset(seed=1)
    wander(other, 3, seed=2)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 7))
    began = env.initial_state()
    steps, end = continued(env, actions)
    again, same_end = continued(other, actions, options={"state": began})
    assert steps == again and np.array_equal(end, same_end)


def test_what_demonstrations_keep_is_the_shorter_state_that_robomimic_has(environments, task):
    env = environments[task].unwrapped
    wander(env, 5, seed=3)
    env.reset(seed=11)
    began, seeded = env.initial_state(), fingerprint(env, seed=11)
    assert began.shape == (1 + env._model.nq + env._model.nv,) and len(began) < len(env.state())
    wander(env, 9, seed=5)
    assert fingerprint(env, options={"state": began}) == seeded
    assert np.array_equal(env.initial_state(), began)


def test_a_state_in_the_middle_of_an_episode_can_be_returned_to(lift):
    wander(lift, 20, seed=6)
    state = lift.state()
    first = fingerprint(lift, options={"state": state})
    wander(lift, 3, seed=8)
    assert fingerprint(lift, options={"state": state}) == first


def test_seeds_differ_and_unseeded_resets_go_on(lift):
    states = []
    for seed in (1, 2, None, None):
        lift.reset(seed=seed)
        states.append(lift.state())
    assert len({state.tobytes() for state in states}) == 4
    lift.reset(seed=2)
    lift.reset()
    assert np.array_equal(lift.state(), states[2])


def test_an_observation_tells_of_the_state_it_is_returned_with(environments, task):
    env = environments[task].unwrapped
    wander(env, 10, seed=9)
    seen, *_ = env.step(np.full(7, 0.3))
    again, _ = env.reset(options={"state": env.state()})
    assert all(np.array_equal(seen[key], again[key]) for key in seen)


def test_a_state_of_another_task_is_refused(lift):
    with pytest.raises(ValueError, match="Lift has states of 32 numbers, got \\(45,\\)"):
        lift.reset(options={"state": np.zeros(45)})


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        (np.zeros(6), r"expected an action of shape \(7,\), got \(6,\)"),
        ([0, 0, np.nan, 0, 0, 0, 0], r"expected finite numbers in an action, got \[ 0.  0. nan"),
        (np.array([0, 0, 0, 0, 0, 0, np.inf]), "expected finite numbers in an action"),
        (np.array([0, None, 0, 0, 0, 0, 0], dtype=object), "expected finite numbers in an action"),
        (np.array(["a"] * 7, dtype=object), "expected an action of numbers, got ndarray"),
        (None, r"expected an action of shape \(7,\), got \(\)"),
        ({"arm": 0}, "expected an action of numbers, got dict"),
        ([[0] * 6, 0], "expected an action of numbers, got list"),
    ],
)
def test_what_is_no_action_is_refused_and_moves_nothing(lift, action, complaint):
    lift.reset(seed=1)
    before = lift.state()
    with pytest.raises(ValueError, match=complaint) as refused:
        lift.step(action)
    assert "\n" not in str(refused.value) and np.array_equal(lift.state(), before)


@pytest.mark.parametrize("size", [32, 49])
@pytest.mark.parametrize("number", [np.nan, -np.inf, 1e12])
def test_a_state_with_numbers_that_a_simulator_cannot_have_is_refused(lift, size, number):
    lift.reset(seed=1)
    state = lift.state()
    wrong = state[:size].copy()
    wrong[size - 1] = number
    with pytest.raises(ValueError, match=rf"finite numbers below 1e\+10 in a state of Lift, .* {size - 1} \(1 such"):
        lift.reset(options={"state": wrong})
    assert np.array_equal(lift.state(), state)


@pytest.mark.parametrize("name", ["Lift-v0", "PushT-v0", "Avoid-v0"])
def test_what_the_simulator_would_begin_anew_from_without_a_word_is_an_error(name):
    env = gym.make(f"envs:{name}").unwrapped
    env.reset(seed=0)
    state = env.state()
    state[1:4] = 1e9
    env.reset(options={"state": state})
    with pytest.raises(FloatingPointError, match="the simulation became unstable and MuJoCo reset it"):
        env.step(np.zeros(env.action_space.shape))
    env.reset(seed=0)
    env.step(np.zeros(env.action_space.shape))
