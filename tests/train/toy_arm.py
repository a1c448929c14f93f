"""An environment with Lift's observations and actions and no physics: done after a few steps, always a success."""

import gymnasium as gym
import numpy as np
from tiny_runs import SHAPES, SPEC


class ToyArm(gym.Env):
    def __init__(self, dim=7, drop=None, task="Lift", **action):
        spaces = {k: gym.spaces.Box(-1, 1, s, np.float32) for k, s in SHAPES.items() if k != drop}
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1, 1, (dim,), np.float32)
        self.task, self.action = task, action

    def spec_dict(self):
        said = SPEC.to_dict()
        return said | {"action": said["action"] | self.action, "env_args": {"env_name": self.task}}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        return self._observe(), 1.0, True, False, {"success": True}

    def _observe(self):
        return {k: self.np_random.uniform(-1, 1, s.shape).astype(np.float32) for k, s in self.observation_space.items()}


gym.register(id="ToyArm-v0", entry_point=ToyArm, max_episode_steps=5)
gym.register(id="SixJoints-v0", entry_point=ToyArm, max_episode_steps=5, kwargs={"dim": 6})
gym.register(id="Blind-v0", entry_point=ToyArm, max_episode_steps=5, kwargs={"drop": "object"})
gym.register(id="Absolute-v0", entry_point=ToyArm, max_episode_steps=5, kwargs={"mode": "absolute"})
gym.register(id="OtherTask-v0", entry_point=ToyArm, max_episode_steps=5, kwargs={"task": "Stack"})
