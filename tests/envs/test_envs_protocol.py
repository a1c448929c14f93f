"""What an environment may offer besides Gymnasium's interface, in parts, also by a wrapper around it."""

import gymnasium as gym
import numpy as np
import pytest
from toy_handling import Handless, Tray

from ebt_policy.deploy.robot import spec_of
from ebt_policy.rollout.sim import needs
from envs.protocol import has_gripper, initial_state, layer, offer, rate, without_limit
from envs.record import record


class Bare(gym.Env):
    """x goes where it is sent, and is told in a buffer that is used again; nothing is offered but what must be."""

    metadata = {"render_modes": [], "render_fps": 5}
    observation_space = gym.spaces.Dict({"x": gym.spaces.Box(-9, 9, (), np.float32)})
    action_space = gym.spaces.Box(-0.185, 0.185, (1,), np.float32)

    def __init__(self, ends=10**6):
        self.ends, self.place = ends, np.zeros(())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place[...], self.steps = self.np_random.uniform(-1, 0), 0
        return {"x": self.place}, {}

    def step(self, action):
        self.place += float(action[0])
        self.steps += 1
        return {"x": self.place}, 0.0, self.steps == self.ends, False, {"success": np.array([self.place > 1])}


class Told(gym.Wrapper):
    """Offers for what it wraps."""

    def spec_dict(self):
        return {"action": {"mode": "delta", "gripper": "none"}, "hz": 7.0}

    def state(self):
        return np.array([float(self.env.unwrapped.place)])


class Onwards:
    """Asks for more than there is."""

    def reset(self, rng):
        pass

    def act(self, obs):
        return [0.5]


gym.register(id="Bare-v0", entry_point=Bare, max_episode_steps=50)
gym.register(id="Told-v0", entry_point=lambda **kwargs: Told(Bare(**kwargs)), max_episode_steps=50)


def test_what_a_wrapper_offers_is_found_from_outside_of_it():
    env = gym.make("Told-v0")
    assert isinstance(layer(env, "state"), Told) and rate(env) == 7.0 and not has_gripper(env)
    assert offer(env, "expert") is None and layer(env, "expert") is env
    env.reset(seed=1)
    assert initial_state(env) == env.unwrapped.place
    bare = gym.make("Bare-v0")
    assert initial_state(bare) is None and rate(bare) == 5.0


def test_an_environment_around_a_task_keeps_its_wrappers_and_leaves_out_its_time_limit():
    noisy = gym.make("envs:Noisy-v0", task="Told-v0", sigma=0.0, disable_env_checker=True, max_episode_steps=60)
    assert isinstance(layer(noisy, "state"), Told)
    noisy.reset(seed=0)
    assert [noisy.step(np.zeros(1))[3] for _ in range(60)] == [False] * 59 + [True]
    seen, _ = gym.make(
        "envs:Disturbed-v0", task="envs:PushTPixels-v0", indices=[0], size=48, disable_env_checker=True
    ).reset(seed=0)
    assert set(seen) == {"tool", "image"} and seen["image"].shape == (48, 48, 3)
    assert "TimeLimit" not in str(without_limit("envs:Avoid-v0"))


def test_noise_without_a_seed_is_drawn_too():
    env = gym.make("envs:Noisy-v0", task="Bare-v0", sigma=0.1, disable_env_checker=True)
    env.reset()
    env.step(np.zeros(1))


def test_what_is_missing_is_said_in_one_line_with_the_place_to_read():
    env = gym.make("Told-v0")
    needs(env, "replay.py", "state", "spec_dict")
    with pytest.raises(ValueError, match="^collect.py needs of Told-v0 .* not offer: expert: see envs/README.md$"):
        needs(env, "collect.py", "expert", "spec_dict")
    with pytest.raises(ValueError, match="CartPole-v1 .* names .a Dict space., actions of shape .Da,. .a Box space."):
        needs(gym.make("CartPole-v1"), "recover.py")


def test_a_robots_spec_has_what_is_said_and_guesses_nothing():
    told, bare = spec_of(gym.make("Told-v0")), spec_of(gym.make("Bare-v0"))
    assert told.hz == 7.0 and bare.hz == 5.0 and told.obs == bare.obs == {"x": (1,)}
    assert (told.action.mode, told.action.frame, told.action.gripper) == ("delta", "unknown", "none")
    assert {bare.action.frame, bare.action.mode, bare.action.rotation, bare.action.gripper} == {"unknown"}
    assert (bare.action.dim, bare.action.low, bare.action.high) == (1, -0.185, 0.185)
    with pytest.raises(ValueError, match="named observations and a control rate from CartPoleEnv.*envs/README.md"):
        spec_of(gym.make("CartPole-v1"))


def test_the_spec_is_of_the_observations_that_there_are_not_of_those_beneath_a_wrapper():
    with gym.make("envs:PushTPixels-v0", size=48) as pixels:
        assert spec_of(pixels).obs == {"image": (48, 48, 3), "tool": (2,)} and spec_of(pixels).action.mode == "absolute"


def test_a_misspelt_spec_is_refused_by_the_environments_name():
    env = Told(Bare())
    env.spec_dict = lambda: {"rate": 7.0}
    with pytest.raises(ValueError, match="expected spec_dict.. of <Told<Bare.* as in envs/README.md, got .*'rate'"):
        spec_of(env)


def test_a_recording_copies_what_was_seen_keeps_to_the_limits_and_ends_where_the_episode_does():
    episode = record(gym.make("Told-v0"), Onwards(), seed=4, noise=0.0, tail=3)
    assert episode["success"] and np.ptp(episode["obs/x"]) > 1 and episode["initial_state"] == episode["obs/x"][0]
    assert (episode["action"] == np.float32(0.185)).all() and len(episode["action"]) < 20
    short = record(gym.make("Told-v0", ends=4), Onwards(), seed=4, noise=0.0)
    assert len(short["action"]) == 4 and not short["success"]


@pytest.mark.parametrize("tray", [Tray, Handless])
def test_a_gripper_is_what_the_actions_are_said_to_have(tray):
    assert has_gripper(tray())
