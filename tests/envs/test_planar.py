"""What PushT and Avoid share: the interface, exact states, refusals, demonstrations that repeat."""

import json

import gymnasium as gym
import numpy as np
import pytest
from fingerprint import fingerprint
from gymnasium.utils.env_checker import check_env
from tiny_runs import ROOT

from ebt_policy.data.store import open_episodes
from ebt_policy.rollout.sim import make_env, run_episode
from envs import from_env_args
from envs.record import Bursts, record

NOISE = {"push_t": 0.05, "avoid": 0.03}
IDS = {"push_t": "PushT-v0", "avoid": "Avoid-v0"}


@pytest.fixture(params=IDS)
def task(request):
    return request.param


@pytest.fixture
def env(task):
    made = gym.make(f"envs:{IDS[task]}", render_mode="rgb_array", size=64)
    yield made
    made.close()


def test_gymnasium_finds_nothing_wrong_with_planar_tasks(env):
    check_env(env.unwrapped, skip_render_check=True)


def test_seeds_reproduce_and_differ(env):
    env = env.unwrapped
    assert fingerprint(env, seed=3) == fingerprint(env, seed=3) != fingerprint(env, seed=4)


def test_a_state_continues_exactly_as_the_episode_that_it_was_taken_from(env, task):
    env = env.unwrapped
    expert = env.unwrapped.expert()
    expert.reset(np.random.default_rng(0))
    seen, _ = env.reset(seed=5)
    for _ in range(25):
        seen, *_ = env.step(expert.act(seen))
    state, actions = env.state(), np.random.default_rng(1).uniform(-1, 1, (30, 2))
    went_on = [env.step(action) for action in actions]
    again, _ = env.reset(options={"state": state})
    assert all(np.array_equal(again[key], seen[key]) for key in seen)
    for action, expected in zip(actions, went_on, strict=True):
        obs, reward, _, _, info = env.step(action)
        assert all(np.array_equal(obs[key], expected[0][key]) for key in obs)
        assert (reward, info) == (expected[1], expected[4])


def test_what_planar_tasks_cannot_take_is_refused(env, task):
    env = env.unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected an action of shape \\(2,\\), got \\(3,\\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="expected finite numbers in an action, got \\[ 0. nan\\]"):
        env.step(np.array([0, np.nan]))
    with pytest.raises(ValueError, match=f"{IDS[task]} has states of \\d+ numbers, got \\(32,\\)"):
        env.reset(options={"state": np.zeros(32)})
    with pytest.raises(ValueError, match=f"finite numbers below .* in a state of {IDS[task]}, got nan as number 3"):
        env.reset(options={"state": [0, 0, 0, np.nan, *env.state()[4:]]})
    with pytest.raises(ValueError, match="got 'human'"):
        type(env)(render_mode="human")


def test_actions_beyond_the_table_are_clipped_to_its_edge(env):
    env = env.unwrapped
    ends = []
    for action in ([1.0, -1.0], [50.0, -3.0]):
        env.reset(seed=0)
        ends.append([env.step(np.array(action))[0]["tool"] for _ in range(20)])
    assert np.array_equal(*ends)
    assert env.reset(seed=0)[0]["tool"].dtype == np.float32


def test_logs_of_episodes_keep_what_the_task_reports(task):
    class Still:
        chunks = []

        def reset(self, seed):
            pass

        def act(self, obs):
            return np.zeros(2)

    env = make_env(f"envs:{IDS[task]}", 3)
    report = run_episode(env, Still(), 0).report
    kept = {"push_t": {"coverage", "max_coverage", "success"}, "avoid": {"collided", "way", "success"}}
    assert set(report) == kept[task] and json.dumps(report)
    env.close()


def test_only_a_frame_that_is_asked_for_opens_graphics(env):
    env.reset(seed=0)
    env.step(np.array([0.5, -0.9]))
    assert env.unwrapped._renderer is None
    before = env.render()
    for _ in range(10):
        env.step(np.array([0.9, -0.9]))
    after = env.render()
    assert before.shape == (64, 64, 3) and before.dtype == np.uint8
    assert np.abs(before.astype(int) - after).max() > 30


def test_env_args_of_a_planar_task_lead_back_to_it(env):
    described = json.loads(json.dumps(env.unwrapped.spec_dict()))
    again = from_env_args(described["env_args"])
    assert described["action"]["mode"] == "absolute" and described["hz"] == 10
    assert fingerprint(again.unwrapped, seed=5) == fingerprint(env.unwrapped, seed=5)
    with pytest.raises(ValueError, match="registered here, got 'Juggling-v0'"):
        from_env_args({"env_name": "Juggling-v0", "type": 2, "env_kwargs": {}})


@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_planar_experts_succeed_while_disturbed_and_what_was_executed_repeats_it(env, task, seed):
    episode = record(env, env.unwrapped.expert(), seed, NOISE[task])
    assert episode["success"] and (episode["executed"] != episode["action"]).any()
    seen, _ = env.unwrapped.reset(options={"state": episode["initial_state"]})
    for t, action in enumerate(episode["executed"]):
        assert all(np.array_equal(seen[key], episode[f"obs/{key}"][t]) for key in seen)
        seen, _, _, _, info = env.unwrapped.step(action)
    assert info["success"]


def test_a_planar_expert_remembers_nothing_of_an_episode(env, task):
    episode = record(env, env.unwrapped.expert(), 1003, NOISE[task])
    other = env.unwrapped.expert()
    other.reset(np.random.default_rng([1003, 1]))
    for t in (20, 5, 13):
        seen = {key.removeprefix("obs/"): rows[t] for key, rows in episode.items() if key.startswith("obs/")}
        assert np.array_equal(other.act(seen).astype(np.float32), episode["action"][t])


def test_shipped_demonstrations_still_succeed(env, task):
    data = open_episodes(ROOT / "assets" / "demos" / f"{task}.zarr.zip")
    assert len(data) == 200 and data.success.all()
    for i in (0, 99, 199):
        episode = data.episode(i)
        env.unwrapped.reset(options={"state": episode.initial_state})
        assert any(env.unwrapped.step(action)[4]["success"] for action in episode.executed)


def test_noise_on_target_positions_is_as_large_everywhere_and_knows_no_gripper():
    disturb = Bursts(0.05, np.random.default_rng(0), steady=1.0, gripper=False)
    for place in ([0.0, 0.0], [0.7, -0.3]):
        noise = np.array([disturb(np.array(place)) - place for _ in range(30000)])
        np.testing.assert_allclose(noise[noise.any(axis=1)].std(axis=0), 0.05, rtol=0.05)
