"""Noise on actions: the same for every policy, and nothing else changes."""

import gymnasium as gym
import numpy as np
import pytest

NOISY = "envs:Noisy-v0"
CAR = "MountainCarContinuous-v0"  # its state shows the action


def velocities(env_id, seed, steps=5, **kwargs):
    env = gym.make(env_id, disable_env_checker=True, **kwargs)
    first = env.reset(seed=seed)[0]
    return first, [env.step(np.zeros(1, np.float32))[0][1] for _ in range(steps)]


def test_no_noise_is_the_task_itself():
    (one, path), (other, same) = velocities(CAR, 3), velocities(NOISY, 3, task=CAR, sigma=0.0)
    np.testing.assert_array_equal(one, other)
    assert path == same


def test_noise_follows_from_the_seed_and_leaves_the_initial_state_as_it_is():
    (one, path), (other, again) = (velocities(NOISY, 3, task=CAR, sigma=0.5) for _ in range(2))
    np.testing.assert_array_equal(one, velocities(CAR, 3)[0])
    np.testing.assert_array_equal(one, other)
    assert path == again and path != velocities(CAR, 3)[1]


def test_actions_have_the_spread_that_was_asked_for_within_their_limits():
    env = gym.make(NOISY, disable_env_checker=True, task=CAR, sigma=0.3)
    executed, inner = [], env.unwrapped.step
    env.unwrapped.step = lambda action: executed.append(action) or inner(action)
    env.reset(seed=0)
    for _ in range(300):
        env.step(np.full(1, 0.2, np.float32))
    executed = np.concatenate(executed)
    assert executed.mean() == pytest.approx(0.2, abs=0.06) and executed.std() == pytest.approx(0.3, abs=0.04)
    assert executed.max() <= 1 and executed.dtype == np.float32


def test_a_negative_spread_is_refused():
    with pytest.raises(ValueError, match="expected a standard deviation sigma >= 0 in action units, got -1"):
        gym.make(NOISY, task=CAR, sigma=-1.0)
