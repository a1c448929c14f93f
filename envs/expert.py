"""What the scripted experts share: reading the hand, choosing a grasp yaw, coming down on an object, moving.

An expert decides from the present observation alone (poses and finger width): no timers, no hidden phase. A policy that
sees the same observation can therefore imitate it, and whatever goes wrong is simply met again from where it is.
Actions are (7,): a step of up to 0.05 m, a turn of up to 0.5 rad (both scaled to [-1, 1]), the gripper (1 closes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEP, TURN = 0.05, 0.5  # metres and radians of one action unit
OPEN, CLOSE = -1.0, 1.0
WIDE = 0.07  # finger width (m) from which the hand counts as open; 0.08 is fully open
MAX_YAW = 1.75  # rad from the rest pose: further out the last joint nears its stop


@dataclass(frozen=True)
class Hand:
    """The hand as observed."""

    position: np.ndarray  # (3,) m, between the finger tips
    rotation: np.ndarray  # (3, 3) columns: towards the arm's front, along the fingers' travel, out of the palm
    width: float  # m between the fingers

    @classmethod
    def read(cls, obs: dict[str, np.ndarray]) -> Hand:
        left, right = obs["robot0_gripper_qpos"]
        return cls(obs["robot0_eef_pos"].astype(float), rotation(obs["robot0_eef_quat"]), float(left - right))

    @property
    def yaw(self) -> float:
        """rad about the vertical, 0 at the rest pose."""
        return heading(self.rotation)


@dataclass(frozen=True)
class Style:
    """What differs from one demonstration to the next."""

    hover: float  # m above the grasp point at which the hand lines up
    speed: float  # largest action component
    gain: float  # part of the remaining way commanded in one step
    offset: np.ndarray  # (3,) m, where the object is held, in its own frame

    @classmethod
    def draw(cls, rng: np.random.Generator, spread: tuple[float, float, float]) -> Style:
        """`spread` (3,) m: the grasp offset is uniform within plus or minus this."""
        return cls(
            hover=rng.uniform(0.06, 0.10),
            speed=rng.uniform(0.8, 1.0),
            gain=rng.uniform(0.75, 0.9),
            offset=rng.uniform(-1, 1, 3) * spread,
        )


def move(hand: Hand, style: Style, target: np.ndarray, turn: float, grip: float, speed: float = 1.0) -> np.ndarray:
    """Action (7,) towards `target` (3,), turning by `turn` rad about the vertical, with the palm facing down."""
    step = style.gain * (target - hand.position) / STEP
    limit = style.speed * speed
    step *= min(1.0, limit / max(np.abs(step).max(), 1e-9))  # keep the direction: a straight path, not a dog-leg
    tilt = np.cross(hand.rotation[:, 2], [0.0, 0.0, -1.0])
    spin = np.clip(style.gain * (tilt + [0.0, 0.0, turn]) / TURN, -1, 1)
    return np.concatenate([step, spin, [grip]])


def pick(hand: Hand, style: Style, grasp: np.ndarray, turn: float, object_width: float) -> np.ndarray:
    """Line up above `grasp` (3,), come down as the error shrinks, close when there; open and rise after a miss."""
    offset = grasp - hand.position
    sideways = np.hypot(offset[0], offset[1])
    error = max(sideways, 0.05 * abs(turn))  # 0.05 m: a turn moves the finger tips about that far
    there = error < 0.010 and abs(offset[2]) < 0.008
    begun = hand.width < WIDE and error < 0.020 and abs(offset[2]) < 0.020  # a nudge must not reopen the hand
    missed = hand.width < object_width - 0.008
    height = style.hover if missed else style.hover * np.clip((error - 0.010) / 0.03, 0, 1)
    grip = CLOSE if (there or begun) and not missed else OPEN
    return move(hand, style, grasp + [0, 0, height], turn, grip)


def release(hand: Hand, style: Style, height: float, object_width: float) -> np.ndarray:
    """Open where the hand is; once the fingers are clear of the object, rise to `height` m."""
    clear = np.clip((hand.width - object_width - 0.006) / 0.01, 0, 1)
    return move(hand, style, np.array([*hand.position[:2], height]), 0.0, OPEN, speed=clear)


def holds(hand: Hand, grasp: np.ndarray, object_width: float) -> bool:
    """Whether the fingers, as wide as the object, are at the grasp point (3,)."""
    return bool(np.linalg.norm(grasp - hand.position) < 0.03 and abs(hand.width - object_width) < 0.004)


def grasp_turn(hand: Hand, yaw: float, period: float) -> float:
    """rad to turn so that the hand's yaw equals `yaw` modulo `period`, the nearest way that the wrist can go."""
    nearest = wrap(yaw - hand.yaw, period)
    turns = [nearest, nearest - period, nearest + period]
    return min(turns, key=lambda turn: (abs(hand.yaw + turn) > MAX_YAW, abs(turn)))


def wrap(angle: float, period: float) -> float:
    """`angle` modulo `period`, in [-period / 2, period / 2)."""
    return (angle + period / 2) % period - period / 2


def heading(rotation: np.ndarray) -> float:
    """rad about the vertical of a rotation's first axis."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """xyzw (4,) -> (3, 3)."""
    x, y, z, w = (float(v) for v in quaternion / np.linalg.norm(quaternion))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
