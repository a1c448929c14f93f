"""rollout: one seed, one episode, the same everywhere."""

from dataclasses import asdict
from functools import partial
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from toy_rollout import POINT, Dying, Raising, Scripted, ToyPolicy, toy_agent

from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.rollout.sim import beginning, make_env, rollout, run_episode, time_limit

SEEDS = [3, 90_000, 1, 17]


@pytest.fixture(scope="module")
def alone():
    return rollout(toy_agent, POINT, SEEDS)


def test_two_processes_give_what_one_gives_bit_for_bit(alone):
    seen = []
    spread = rollout(partial(toy_agent, steps=3), POINT, SEEDS, processes=2, on_episode=seen.append)
    assert spread == alone
    assert [log.seed for log in spread] == SEEDS
    assert sorted(log.seed for log in seen) == sorted(SEEDS)


def test_an_episode_does_not_depend_on_the_ones_before(alone):
    assert rollout(toy_agent, POINT, SEEDS[::-1])[::-1] == alone
    assert rollout(toy_agent, POINT, [17]) == alone[3:]


def test_other_seeds_and_other_samplers_give_other_episodes(alone):
    assert len({log.digest for log in alone}) == len(SEEDS)
    assert rollout(partial(toy_agent, steps=2), POINT, [3])[0].digest != alone[0].digest


def test_the_log_of_an_episode_fits_together(alone):
    for log in alone:
        assert log.success and 0 < log.length <= 60
        assert len(log.steps) == len(log.energies) == len(log.grad_norm) == len(log.latency)
        assert all(e[0] > e[-1] for e in log.energies)


def test_an_episode_goes_on_after_its_first_success():
    env = make_env(POINT, wind=0.0)
    steps = []
    held = run_episode(env, Scripted(), 4, after_success=10, on_step=steps.append)
    assert held.success and held.success_end
    assert steps == list(range(held.length + 10 + 1))
    left = run_episode(env, Scripted(leave_after=held.length), 4, after_success=10)
    assert left.success and not left.success_end and left.length == held.length
    stopped = run_episode(env, Scripted(leave_after=held.length), 4, after_success=0)
    assert stopped.success_end and stopped.length == held.length


def test_a_failure_lasts_until_the_time_limit():
    (log,) = rollout(partial(Scripted, leave_after=0), POINT, [4], max_steps=23, env_kwargs={"radius": 0.0})
    assert not log.success and not log.success_end and log.length == 23


def test_a_time_limit_is_that_of_the_registration_unless_one_is_given():
    assert time_limit(POINT) == 60 and time_limit(POINT, max_steps=7) == 7
    assert time_limit(POINT, env_kwargs={"wind": 0.0}) == 60


def test_a_demonstration_begins_from_its_state_where_the_environment_can_return_to_one_else_from_its_seed():
    class Stateful(gym.Wrapper):
        def state(self):
            return np.zeros(2)

    plain, stateful = make_env(POINT), Stateful(make_env(POINT))
    both = SimpleNamespace(initial_state=np.ones(2), states=np.zeros((3, 2)), seed=5)
    assert beginning(plain, both) == {"seed": 5}
    assert beginning(stateful, both)["options"]["state"].tolist() == [1, 1]
    assert beginning(stateful, SimpleNamespace(initial_state=None, states=both.states, seed=None))["options"]
    assert beginning(plain, SimpleNamespace(initial_state=None, states=both.states, seed=None)) is None


def test_an_environment_without_a_time_limit_is_refused():
    with pytest.raises(ValueError, match="expected a time limit, got none .* pass max_steps"):
        rollout(Scripted, "toy_rollout:EndlessPoint-v0", [0])
    assert rollout(Scripted, "toy_rollout:EndlessPoint-v0", [0], max_steps=40)[0].success


@pytest.mark.parametrize("seeds", [[], [1, 2, 1]])
def test_seeds_must_be_distinct(seeds):
    with pytest.raises(ValueError, match="expected one or more distinct seeds"):
        rollout(Scripted, POINT, seeds)


def test_a_worker_that_dies_is_reported():
    with pytest.raises(RuntimeError, match="a rollout worker died, .*: run with processes=1"):
        rollout(Dying, POINT, SEEDS, processes=2)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_an_episode_arrives_as_it_is(processes):
    with pytest.raises(ValueError, match="the arm fell off"):
        rollout(Raising, POINT, SEEDS[:2], processes=processes)


def test_the_number_of_threads_is_one_during_and_restored_after():
    before, during = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        rollout(Scripted, POINT, [0], on_episode=lambda log: during.append(torch.get_num_threads()))
        assert during == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_policy_without_energies_rolls_out():
    (log,) = rollout(lambda: ChunkedAgent(ToyPolicy(energies=False)), POINT, [0])
    assert log.success and not any(log.energies) and asdict(log)["grad_norm"][0] is None
