"""Lift: raise a cube off the table."""

import numpy as np
from gymnasium.envs.registration import register

from envs.expert import CLOSE, Hand, Style, grasp_turn, heading, holds, move, pick, rotation
from envs.robosuite_env import RobosuiteEnv

HORIZON = 400
CUBE_WIDTH = 0.042  # m
TABLE = 0.8  # m


class LiftExpert:
    """Takes the cube across two faces and raises it straight up."""

    def reset(self, rng: np.random.Generator):
        self.style = Style.draw(rng, spread=(0.004, 0.004, 0.003))
        self.height = TABLE + rng.uniform(0.12, 0.16)  # m, where the raised cube is kept

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """obs of one step -> action (7,)."""
        hand = Hand.read(obs)
        cube, turned = obs["object"][:3].astype(float), rotation(obs["object"][3:7])
        grasp = cube + turned @ self.style.offset + [0.0, 0.0, 0.006]
        if holds(hand, grasp, CUBE_WIDTH):
            slowly = np.clip(0.3 + (cube[2] - TABLE - 0.021) / 0.02, 0.3, 1.0)  # the fingers are still tightening
            target = [*hand.position[:2], hand.position[2] + self.height - cube[2]]
            return move(hand, self.style, np.array(target), 0.0, CLOSE, slowly)
        return pick(hand, self.style, grasp, grasp_turn(hand, heading(turned), np.pi / 2), CUBE_WIDTH)


register(
    id="Lift-v0",
    entry_point=RobosuiteEnv,
    kwargs={"task": "Lift", "expert": LiftExpert},
    max_episode_steps=HORIZON,
)
