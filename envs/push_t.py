"""PushT: push a T-shaped block onto its outline; the score is how much of the outline the block covers."""

from __future__ import annotations

from functools import cached_property
from math import cos, sin
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.registration import register
from gymnasium.wrappers import AddRenderObservation, FilterObservation

from envs.planar import REACH, PlanarEnv, load_scene
from envs.polygons import Polygon, coverage, placed, rectangle
from envs.pushing import Block, Pose, push

HORIZON = 300  # 30 s
SCENE = "push_t.xml"
SOLVED = 0.95  # of the goal's area
GOAL = np.exp(0.25j * np.pi)  # the block's turn at the goal, at the table's centre
BLOCK_START, TOOL_START = 0.12, 0.22  # m from the table's centre along each axis, at most
APART = 0.10  # m between tool and block at the beginning: further than the T reaches


class PushTEnv(PlanarEnv):
    """A frictionless round tool and a block that stays where it is left.

    obs: tool (2,) m; block (4,): x, y in m, then cosine and sine of its turn; corners (16,): x, y in m of the corners
        of its two parts as seen from the tool, which say where it would be touched
    info: coverage now and max_coverage of the episode, both in [0, 1]; success, coverage of 0.95 or more now
    reward: coverage / 0.95, at most 1
    """

    name, scene = "PushT-v0", SCENE

    def expert(self) -> PushTExpert:
        return PushTExpert()

    @cached_property
    def _parts(self) -> list[Polygon]:
        block = t_block(self._model)
        return [rectangle(*box) for box in zip(block.centres.tolist(), block.halves.tolist(), strict=True)]

    @cached_property
    def _goal(self) -> list[Polygon]:
        return [placed(part, 0, complex(GOAL)) for part in self._parts]

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        block, tool = rng.uniform(-BLOCK_START, BLOCK_START, 2), rng.uniform(-TOOL_START, TOOL_START, 2)
        while np.hypot(*(tool - block)) < APART:
            tool = rng.uniform(-TOOL_START, TOOL_START, 2)
        return np.array([*block, rng.uniform(-np.pi, np.pi), *tool])

    def _nothing_yet(self) -> np.ndarray:
        return np.zeros(1)

    def _remember(self):
        self._coverage = coverage(self._here(), self._goal)
        self._memory[0] = max(self._memory[0], self._coverage)

    def _observe(self) -> dict[str, np.ndarray]:
        x, y, turn = self._data.qpos[:3]
        corners = np.array(self._here()).ravel() - complex(*self.tool)
        seen = {"tool": self.tool, "block": [x, y, cos(turn), sin(turn)], "corners": corners.view(float)}
        return {key: np.array(value, np.float32) for key, value in seen.items()}

    def _here(self) -> list[Polygon]:
        """The block's parts where they are."""
        x, y, turn = self._data.qpos[:3].tolist()
        return [placed(part, complex(x, y), complex(cos(turn), sin(turn))) for part in self._parts]

    def _report(self) -> dict[str, Any]:
        best = float(self._memory[0])
        return {"coverage": self._coverage, "max_coverage": best, "success": self._coverage >= SOLVED}

    def _reward(self, info: dict[str, Any]) -> float:
        return min(1.0, info["coverage"] / SOLVED)


def t_block(model: mujoco.MjModel) -> Block:
    boxes = [model.geom(name) for name in ("bar", "stem")]
    return Block(np.array([complex(*b.pos[:2]) for b in boxes]), np.array([complex(*b.size[:2]) for b in boxes]))


MARGIN = 0.008  # m between tool and block on the way round it
SPACING = 0.008  # m between the places at which a push may begin
ANGLES = np.exp(1j * np.radians([-40, -20, 0, 20, 40]))  # of a push to the inward normal there
HEADINGS = np.exp(2j * np.pi * np.arange(24) / 24)  # of a push from where the tool is
PIECE, PIECES = 0.004, 24  # m, and how many of them make the longest push
STRIDE = 0.03  # m ahead of the tool that it is sent at full speed; it gets there in two to three steps
THERE = 0.004  # m from the place at which a push begins
SLACK = 5e-4  # m by which it may come nearer to the block on its way
ENOUGH = 2e-4  # m by which a push must help


class PushTExpert:
    """Simulates straight pushes from everywhere around the block and makes the one that helps most for its length.

    It decides anew at every step, so that a push ends when it helps no more and a slip is mended. What lies near costs
    little to reach: that is why it does what it has begun, though it remembers nothing.
    """

    def __init__(self):
        model = load_scene(SCENE)
        self.block, self.radius = t_block(model), float(model.geom("tool").size[0])
        self.ring, self.inwards = _around(self.block, self.radius + MARGIN)

    def reset(self, rng: np.random.Generator):
        self.stride = STRIDE * rng.uniform(0.7, 1.0)
        self.effort = rng.uniform(0.05, 0.12)  # m: what a push costs besides its length; larger, fewer and longer ones

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """obs of one step -> action (2,)."""
        x, y, cosine, sine = obs["block"].astype(float)
        pose, tool = Pose(complex(x, y), complex(cosine, sine)), complex(*obs["tool"].astype(float))
        nearest, walks = self._walks(pose.inside(tool))
        starts = np.concatenate([np.repeat(pose.outside(self.ring), len(ANGLES)), np.full(len(HEADINGS), tool)])
        headings = np.concatenate([np.outer(pose.turn * self.inwards, ANGLES).ravel(), HEADINGS])
        walks = np.concatenate([np.repeat(walks, len(ANGLES)), np.zeros(len(HEADINGS))])
        gains, lengths = self._simulate(pose, starts, headings)
        best = np.argmax(gains / (walks + lengths + self.effort))
        if gains[best] < ENOUGH:
            target = tool
        elif abs(starts[best] - tool) < THERE:
            target = starts[best] + headings[best] * min(lengths[best], self.stride)
        else:
            target = pose.outside(self._towards(pose.inside(tool), nearest, best // len(ANGLES)))
        return np.clip(np.array([target.real, target.imag]) / REACH, -1, 1)

    def _walks(self, tool: complex) -> tuple[int, np.ndarray]:
        """The point of the ring nearest to a tool in the block's frame, and the way along the ring to each, (n,) m."""
        away, count = abs(self.ring - tool), len(self.ring)
        nearest = int(np.argmin(away))
        apart = abs(np.arange(count) - nearest)
        return nearest, away[nearest] + SPACING * np.minimum(apart, count - apart)

    def _simulate(self, pose: Pose, tool: np.ndarray, headings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much nearer (m) straight pushes bring the block at their best, (N,), and their lengths then, (N,) m."""
        before, after, reached = error(self.block, pose), [], _on_table(tool)
        for _ in range(PIECES):
            tool = tool + PIECE * headings
            pose = push(self.block, pose, tool, self.radius)
            after.append(np.where(reached & _on_table(tool), error(self.block, pose), np.inf))
        return before - np.min(after, axis=0), PIECE * (1 + np.argmin(after, axis=0))

    def _towards(self, tool: complex, nearest: int, goal: int) -> complex:
        """One stride round the block to a point of the ring, past corners where the way is clear; in its frame."""
        count = len(self.ring)
        steps = (goal - nearest + count // 2) % count - count // 2  # the shorter way round
        path = self.ring[(nearest + np.sign(steps) * np.arange(abs(steps) + 1)) % count]
        lines = tool + np.linspace(0.1, 1, 12)[:, None] * (path - tool)
        free = min(self.radius + MARGIN / 2, self.block.distance(tool) - SLACK)  # where it is, it may be
        seen = np.flatnonzero((self.block.distance(lines) >= free).all(axis=0))
        way = path[seen[-1] if len(seen) else 0] - tool
        return tool + way * min(1.0, self.stride / max(abs(way), 1e-9))


def error(block: Block, pose: Pose) -> np.ndarray:
    """Root mean square distance (m) of the block's points from where they belong."""
    return np.sqrt(abs(pose.at) ** 2 + block.spread * abs(pose.turn - GOAL) ** 2)


def _on_table(point: np.ndarray) -> np.ndarray:
    return np.maximum(abs(point.real), abs(point.imag)) <= REACH


def _around(block: Block, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Points all around the T, `margin` m from it, and at each the direction inwards; in its frame, anticlockwise."""
    (bar, stem), (wide, narrow) = block.centres.imag, block.halves + complex(margin, margin)
    top, under, foot = bar + wide.imag, bar - wide.imag, stem - narrow.imag
    left = [(-wide.real, top), (-wide.real, under), (-narrow.real, under), (-narrow.real, foot)]
    corners = np.array([complex(x, y) for x, y in left] + [complex(-x, y) for x, y in reversed(left)])
    edges = np.roll(corners, -1) - corners
    counts = np.round(abs(edges) / SPACING).astype(int)
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    inwards = 1j * edges / abs(edges)
    return np.repeat(corners, counts) + places * np.repeat(edges, counts), np.repeat(inwards, counts)


def seen_from_above(size: int = 96, camera: str = "top") -> gym.Env:
    """PushT from pixels: image (size, size, 3) uint8 in the block's place, and the tool, which a robot knows of."""
    env = PushTEnv(render_mode="rgb_array", size=size, camera=camera)
    return FilterObservation(AddRenderObservation(env, render_only=False, render_key="image"), ["tool", "image"])


register(id="PushT-v0", entry_point=PushTEnv, max_episode_steps=HORIZON)
register(id="PushTPixels-v0", entry_point=seen_from_above, max_episode_steps=HORIZON)
