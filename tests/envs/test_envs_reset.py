"""What a reset promises: the same beginning, and the same continuation, whatever happened before."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fingerprint import TASKS, fingerprint


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


def test_an_action_of_another_size_is_refused(lift):
    with pytest.raises(ValueError, match="expected an action of shape \\(7,\\), got \\(6,\\)"):
        lift.step(np.zeros(6))
