"""Hand-guiding: a person takes the arm by the hand, and the way it was moved becomes the actions.

    action[t] = (position[t+1] - position[t]) / scale,    turn[t] = log(R[t+1] R[t]^-1) / turn

The arm is only ever told to be where it is, so it has to give way by itself: low stiffness, gravity compensated.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from ebt_policy.data.episodes import Episode
from ebt_policy.deploy.robot import Observation
from ebt_policy.deploy.teleop import HANDS, Asked, Device, Steering, verdict

REST = 0.002  # m, rad: an episode begins when the arm was moved farther than this


class Guided:
    """An arm moved by hand, with keys for the gripper and the verdict. What was done is recorded as executed as well.

    Not run on hardware.
    """

    steering = "guiding   move the arm by hand; of the keys, those for gripper, stopping and the end of episodes count"

    def __init__(self, keyboard: Device, steering: Steering, orientation: str | None = None, follows: float = 1.0):
        """orientation: observation with the hand's quaternion (xyzw), for robots that turn it; follows: share of a
        displacement asked for that the arm makes within a tick, by which labels have to be larger than what is seen.
        """
        if steering.motion.turn and orientation not in steering.spec.obs:
            raise ValueError(
                f"expected the observation with the hand's orientation among {sorted(steering.spec.obs)}, "
                f"got {orientation!r}: set device.orientation"
            )
        if not 0 < follows <= 1:
            raise ValueError(f"expected a share in (0, 1] that the arm follows, got {follows}")
        self.steering = f"{self.steering}\n{keyboard.steering}"
        self._keyboard, self._map, self._orientation, self._follows = keyboard, steering, orientation, follows
        self.begin()

    def __enter__(self) -> Guided:
        self._keyboard.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._keyboard.__exit__(*error)

    def begin(self) -> None:
        self._closed, self._start = False, None

    def ask(self, look: Observation, sent: np.ndarray | None) -> Asked:
        commands = self._keyboard.read().commands
        place = np.ravel(look.values[self._map.motion.key])
        self._start = place if self._start is None else self._start
        self._closed ^= "grip" in commands
        idle = np.abs(place - self._start).max() <= REST and "grip" not in commands
        stay = self._map.action(np.zeros(HANDS), self._closed, look, None)
        return Asked(stay, bool(idle), "halt" in commands, verdict(commands))

    def shown(self, episode: Episode) -> Episode:
        """The last observation only ends the last action."""
        if len(episode) < 2:
            raise ValueError("expected at least 2 steps of an arm moved by hand, got 1: move it")
        motion, spec = self._map.motion, self._map.spec.action
        places = episode.obs[motion.key].reshape(len(episode), -1).astype(float)
        moves = places[1:] if spec.mode == "absolute" else np.diff(places, axis=0) / self._follows
        parts = [moves / motion.scale]
        if motion.turn:
            turned = Rotation.from_quat(episode.obs[self._orientation])
            parts.append((turned[1:] * turned[:-1].inv()).as_rotvec() / motion.turn / self._follows)
        if spec.gripper != "none":
            parts.append(episode.action[:-1, -1:])
        action = np.clip(np.concatenate(parts, axis=1), spec.low, spec.high).astype(np.float32)
        obs = {key: values[:-1] for key, values in episode.obs.items()}
        return replace(episode, obs=obs, action=action, executed=action)
