"""Can: move a soda can from one bin into its place in the other."""

import numpy as np
from gymnasium.envs.registration import register

from envs.expert import CLOSE, Hand, Style, grasp_turn, holds, move, pick, release
from envs.robosuite_env import RobosuiteEnv

HORIZON = 400
CAN_WIDTH = 0.050  # m
GOAL = np.array([0.16, 0.355])  # m, in the can's quarter of the second bin; its centre is out of the arm's reach
QUARTER = np.array([[0.115, 0.295], [0.285, 0.515]])  # m, from and to, with a margin
RELEASE = 0.89  # m, height of the can's centre; it stands at 0.86


class CanExpert:
    """Takes the can from above, carries it over the bin walls, lets it go just above the floor."""

    def reset(self, rng: np.random.Generator):
        self.style = Style.draw(rng, spread=(0.0, 0.0, 0.008))
        self.carry = rng.uniform(1.02, 1.06)  # m, height of the can on its way
        self.goal = GOAL + rng.uniform(-0.012, 0.012, 2)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """obs of one step -> action (7,)."""
        hand, can = Hand.read(obs), obs["object"][:3].astype(float)
        grasp = can + [0.0, 0.0, 0.01 + self.style.offset[2]]
        turn = grasp_turn(hand, 0.0, np.pi)
        inside = np.all((can[:2] > QUARTER[0]) & (can[:2] < QUARTER[1])) and can[2] < RELEASE + 0.02
        held = holds(hand, grasp, CAN_WIDTH)
        if inside and (not held or can[2] < RELEASE):
            return release(hand, self.style, self.carry, CAN_WIDTH)
        if held:
            return self._carry(hand, can, turn)
        return pick(hand, self.style, grasp, turn, CAN_WIDTH)

    def _carry(self, hand: Hand, can: np.ndarray, turn: float) -> np.ndarray:
        """Up first, across once the can is clear of the walls, down as it nears the goal."""
        way = self.goal - can[:2]
        height = RELEASE - 0.02 + (self.carry - RELEASE) * np.clip((np.linalg.norm(way) - 0.02) / 0.06, 0, 1)
        clear = np.clip((can[2] - (self.carry - 0.06)) / 0.04, 0, 1) if np.linalg.norm(way) > 0.08 else 1.0
        slowly = np.clip(0.3 + (can[2] - 0.86) / 0.02, 0.3, 1.0)
        target = hand.position + [*(way * clear), height - can[2]]
        return move(hand, self.style, target, turn, CLOSE, slowly)


register(
    id="Can-v0",
    entry_point=RobosuiteEnv,
    kwargs={"task": "PickPlaceCan", "expert": CanExpert},
    max_episode_steps=HORIZON,
)
