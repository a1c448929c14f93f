"""Avoid: reach a line past rows of posts; eight ways round them are equally short.

Where demonstrations take each of several ways, their mean collides: success tells whether a policy averages, and the
entropy of the ways that it took whether it keeps them all.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.registration import register

from envs.planar import REACH, PlanarEnv, load_scene

HORIZON = 100  # 10 s
SCENE = "avoid.xml"
START, SPREAD = np.array([0.0, -0.2]), np.array([0.02, 0.01])  # m, the tool's first position, plus or minus
LINE = 0.2  # m, the line's y
NOT_YET = -1

Rows = list[tuple[float, list[float]]]  # y of a row (m), x of its posts in order


class AvoidEnv(PlanarEnv):
    """A round tool among posts.

    obs: tool (2,) m
    info: collided, in this episode; way, the gaps gone through as one digit a row, counted from the left, from 0;
          success, on or past the line and not collided
    """

    name, scene = "Avoid-v0", SCENE

    def __init__(self, **render: Any):
        super().__init__(**render)
        self._rows = rows(self._model)

    def expert(self) -> AvoidExpert:
        return AvoidExpert()

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        return START + rng.uniform(-SPREAD, SPREAD)

    def _nothing_yet(self) -> np.ndarray:
        return np.array([0.0, NOT_YET, NOT_YET, NOT_YET])  # collided; the gap of each row

    def _advance(self):
        """One control period of physics, watched at every step of it: a touch may be short."""
        gaps = self._memory[1:].astype(int).tolist()
        for _ in range(self._substeps):
            before = self.tool.tolist()
            mujoco.mj_step(self._model, self._data)
            gaps = passed(gaps, before, self.tool.tolist(), self._rows)
            if self._data.ncon:
                self._memory[0] = 1.0
        self._memory[1:] = gaps

    def _observe(self) -> dict[str, np.ndarray]:
        return {"tool": self.tool.astype(np.float32)}

    def _report(self) -> dict[str, Any]:
        collided, *gaps = self._memory.astype(int).tolist()
        reached = bool(self.tool[1] >= LINE)
        return {"collided": bool(collided), "way": _written(gaps), "success": reached and not collided}


def rows(model: mujoco.MjModel) -> Rows:
    """The posts of a scene, row by row as the tool meets them."""
    posts = [model.geom(i).pos for i in range(model.ngeom) if model.geom(i).name.startswith("post")]
    heights = sorted({float(y) for _, y, _ in posts})
    return [(height, sorted(float(x) for x, y, _ in posts if y == height)) for height in heights]


def passed(gaps: list[int], before: Sequence[float], after: Sequence[float], rows: Rows) -> list[int]:
    """The gaps gone through after one more straight move, from `before` to `after` (2,) m; going back undoes."""
    gaps = list(gaps)
    for row, (height, posts) in enumerate(rows):
        if (before[1] < height) != (after[1] < height):
            share = (height - before[1]) / (after[1] - before[1])
            forward = after[1] >= height
            gaps[row] = bisect(posts, before[0] + share * (after[0] - before[0])) if forward else NOT_YET
    return gaps


def way(path: np.ndarray, rows: Rows) -> str:
    """The gaps that a path (T, 2) m goes through, as in `info["way"]`."""
    gaps = [NOT_YET] * len(rows)
    for before, after in zip(path[:-1], path[1:], strict=True):
        gaps = passed(gaps, before, after, rows)
    return _written(gaps)


def mode_entropy(ways: Sequence[str]) -> float:
    """Entropy in bits of the ways that episodes took: 0 if all took the same, 3 if the eight shortest are as common."""
    if not ways:
        raise ValueError("expected the ways of at least 1 episode, got none")
    share = np.array(list(Counter(ways).values())) / len(ways)
    return float(-(share * np.log2(share)).sum())


def _written(gaps: Sequence[int]) -> str:
    return "".join(str(gap) for gap in gaps if gap != NOT_YET)


class AvoidExpert:
    """Goes left or right of a post in every row by the toss of a coin, through the middle of each gap or nearly so."""

    def __init__(self):
        self.rows = rows(load_scene(SCENE))

    def reset(self, rng: np.random.Generator):
        self.stride = rng.uniform(0.018, 0.026)  # m ahead of the tool that it is sent
        gaps = np.cumsum(rng.integers(0, 2, len(self.rows)))
        spacing = self.rows[-1][1][1] - self.rows[-1][1][0]
        middles = [(gap - len(posts) / 2) * spacing for gap, (_, posts) in zip(gaps, self.rows, strict=True)]
        self.goals = middles + rng.uniform(-0.006, 0.006, len(middles))

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """obs of one step -> action (2,)."""
        tool = obs["tool"].astype(float)
        ahead = [(x, y + 0.01) for x, (y, _) in zip(self.goals, self.rows, strict=True) if tool[1] < y]
        target = np.array(ahead[0] if ahead else (tool[0], LINE + 0.03))
        away = target - tool
        return (tool + away * min(1.0, self.stride / max(np.hypot(*away), 1e-9))) / REACH


register(id="Avoid-v0", entry_point=AvoidEnv, max_episode_steps=HORIZON)
