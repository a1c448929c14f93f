"""Environments are slow to build: one of each for all tests, which leave them in any state."""

import gymnasium as gym
import pytest
from fingerprint import TASKS


@pytest.fixture(scope="session")
def environments():
    built = {task: gym.make(f"envs:{task.capitalize()}-v0", render_mode="rgb_array", size=64) for task in TASKS}
    yield built
    for env in built.values():
        env.close()


@pytest.fixture(scope="session")
def lift(environments):
    return environments["lift"].unwrapped


@pytest.fixture(params=TASKS)
def task(request):
    return request.param
