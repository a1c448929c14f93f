"""A hand that takes a thing and raises it, without physics: what disturbances do to it can be worked out."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from tiny_runs import SHAPES, SPEC

REACH = 0.01  # m


class Tray(gym.Env):
    """Lift's observations and actions; a unit of action moves the hand by 1 cm. Success: the thing is 0.2 m up."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = gym.spaces.Dict({k: gym.spaces.Box(-9, 9, s, np.float32) for k, s in SHAPES.items()})
    action_space = gym.spaces.Box(-1, 1, (7,), np.float32)
    handles = frozenset({"grasped", "hand", "object_pose", "move_object", "push_arm", "opening"})

    def __init__(self, render_mode=None, room=lambda position: True):
        self.render_mode, self.room = render_mode, room

    def spec_dict(self):
        return SPEC.to_dict()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.thing, self.yaw = np.array([*self.np_random.uniform(-0.1, 0.1, 2), 0.0]), 0.0
        self.position, self.way, self.force, self.held = np.array([0, 0, 0.1]), np.zeros(3), np.zeros(3), False
        return self._obs(), {}

    def step(self, action):
        close = np.linalg.norm(self.position - self.thing) < REACH
        self.held = bool(action[-1] > 0 and (self.held or close))
        self.way = 0.01 * np.clip(action[:3], -1, 1) + 1e-4 * self.force
        self.position = self.position + self.way
        self.thing = self.position.copy() if self.held else self.thing * [1, 1, 0]
        return self._obs(), 0.0, False, False, self._info()

    def _info(self):
        return {"success": bool(self.thing[2] > 0.2), "report": {"height": float(self.thing[2])}}

    def grasped(self):
        return self.held

    def object_pose(self):
        return self.thing.copy(), self.yaw

    def hand(self):
        return self.position.copy(), self.way.copy()

    def move_object(self, way, turn):
        if not self.room(self.thing[:2] + way):
            return False
        self.thing = self.thing + [*way, 0]
        self.yaw += turn
        return True

    def push_arm(self, force):
        self.force = force

    def opening(self, action):
        return np.concatenate([action[:-1], [-1.0]])

    def render(self):
        frame = np.full((64, 64, 3), 240, np.uint8)
        for (x, _, z), colour in ((self.thing, (60, 160, 90)), (self.position, (40, 90, 200))):
            row, column = np.clip([int(60 - 200 * z), int(32 + 200 * x)], 4, 59)
            frame[row - 4 : row + 4, column - 4 : column + 4] = colour
        return frame

    def _obs(self):
        obs = {key: np.zeros(shape, np.float32) for key, shape in SHAPES.items()}
        obs["robot0_eef_pos"][:], obs["object"][:3] = self.position, self.thing
        return obs


class Picker:
    """Goes above the thing, down, closes, goes up; opens and begins again wherever it finds itself."""

    def __init__(self, speed=1.0):
        self.speed, self.chunks = speed, []

    def reset(self, seed):
        pass

    def act(self, obs):
        hand, thing = obs["robot0_eef_pos"], obs["object"][:3]
        off = np.linalg.norm(hand[:2] - thing[:2])
        near = np.linalg.norm(hand - thing) < REACH / 2
        target = np.array([*thing[:2], 0.3 if near else max(thing[2], 0.06 * (off > 0.005))])
        return np.array([*np.clip(100 * (target - hand), -self.speed, self.speed), 0, 0, 0, 1 if near else -1])


gym.register(id="Tray-v0", entry_point=Tray, max_episode_steps=120)
gym.register(id="Handless-v0", entry_point="toy_handling:Handless", max_episode_steps=120)
TRAY = "toy_handling:Tray-v0"


class Handless(Tray):
    handles = frozenset({"hand"})
