"""Square: put a square nut over a square peg."""

import numpy as np
from gymnasium.envs.registration import register

from envs.expert import CLOSE, MAX_YAW, Hand, Style, grasp_turn, heading, holds, move, pick, release, rotation, wrap
from envs.robosuite_env import RobosuiteEnv

HORIZON = 400
HANDLE = np.array([0.063, 0.0, 0.004])  # m, in the nut's frame: further in or down, fingers meet the ring or the table
HANDLE_WIDTH = 0.032  # m
PEG = np.array([0.23, 0.10])  # m; 7 mm of play on each side
PEG_TOP = 0.95  # m
TABLE = 0.83  # m, height of a nut lying on it
RELEASE = 0.855  # m, low enough to count as placed


class SquareExpert:
    """Takes the nut by its handle, centres it above the peg, square with it, lowers it and lets go."""

    def reset(self, rng: np.random.Generator):
        self.style = Style.draw(rng, spread=(0.004, 0.0, 0.001))
        self.carry = PEG_TOP + rng.uniform(0.035, 0.055)  # m, height of the nut on its way

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """obs of one step -> action (7,)."""
        hand = Hand.read(obs)
        nut, turned = obs["object"][:3].astype(float), rotation(obs["object"][3:7])
        grasp = nut + turned @ (HANDLE + self.style.offset)
        held = holds(hand, grasp, HANDLE_WIDTH)
        on_peg = np.abs(nut[:2] - PEG).max() < 0.02 and nut[2] < PEG_TOP - 0.02
        if on_peg and (not held or nut[2] < RELEASE):
            return release(hand, self.style, self.carry, HANDLE_WIDTH)
        if held:
            return self._place(hand, nut, _square_turn(hand, heading(turned)))
        return pick(hand, self.style, grasp, grasp_turn(hand, heading(turned), np.pi), HANDLE_WIDTH)

    def _place(self, hand: Hand, nut: np.ndarray, turn: float) -> np.ndarray:
        """Up first, across once clear of the peg, down as centre and angle come right."""
        way = PEG - nut[:2]
        error = max(np.linalg.norm(way), 0.1 * abs(turn))
        threaded = nut[2] < PEG_TOP and error < 0.02
        height = TABLE if threaded else TABLE + (self.carry - TABLE) * np.clip((error - 0.003) / 0.004, 0, 1)
        clear = 1.0 if error < 0.02 else np.clip((nut[2] - PEG_TOP - 0.005) / 0.02, 0, 1)
        slowly = np.clip(0.3 + (nut[2] - TABLE) / 0.02, 0.3, 1.0)  # the fingers are still tightening
        target = hand.position + [*(way * clear), height - nut[2]]
        return move(hand, self.style, target, turn, CLOSE, slowly)


def _square_turn(hand: Hand, yaw: float) -> float:
    """rad to the nearest of the nut's orientations on the peg in which the arm reaches its handle."""
    turns = [wrap(goal - yaw, 2 * np.pi) for goal in (np.pi / 2, np.pi, -np.pi / 2)]  # not 0: away from the robot
    return min(turns, key=lambda turn: (abs(hand.yaw + turn) > MAX_YAW, abs(turn)))


register(
    id="Square-v0",
    entry_point=RobosuiteEnv,
    kwargs={"task": "NutAssemblySquare", "expert": SquareExpert},
    max_episode_steps=HORIZON,
)
