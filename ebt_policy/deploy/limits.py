"""What an arm may do: limits that each robot declares, all of them, before anything moves.

n dimensions of the arm's position: 3 for a hand in m, one for each joint in rad
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np

from ebt_policy import bounds
from ebt_policy.deploy.motion import LimitsError, MotionLimits, Vector

Plane = tuple[Sequence[float], float]  # (normal of length 1, offset)

REACH = "[-1000, 1000]"  # m, rad: what lies outside is in other units, or no limit
SIZE = "(0, 1000]"
WAIT = "(0, 60]"  # s: an arm that nobody stops for longer is one without a watchdog
SEARCHED = 1000  # points between the corners of what box and planes leave
PARALLEL, ROUNDING, THIN = 1e-9, 1e-9, 1e-6


@dataclass(frozen=True)
class Workspace:
    """Where an arm may be sent: within a box, on one side of each plane, outside of each sphere."""

    low: tuple[float, ...]  # (n,) m, or rad of joints
    high: tuple[float, ...]
    planes: tuple[Plane, ...]  # (normal, offset): normal . x >= offset stays allowed
    spheres: tuple[tuple[tuple[float, ...], float], ...]  # (centre, radius): kept out of
    margin: float  # m that is kept from all of them, for what the arm overshoots

    def __post_init__(self):
        for name in ("low", "high"):
            bounds.numbers(name, getattr(self, name), REACH, error=LimitsError)
        n = len(self.low)
        if len(self.high) != n or not n:
            raise LimitsError(f"expected a low and a high for each dimension, got {self.low} and {self.high}")
        bounds.number("margin", self.margin, "[0, 1000]", LimitsError)
        if not all(low + 2 * self.margin < high for low, high in zip(self.low, self.high, strict=True)):
            raise LimitsError(f"expected low < high with the margin {self.margin} inside, got {self.low}, {self.high}")
        _check_pairs("planes", self.planes, ("normal", "offset"), n, REACH)
        _check_pairs("spheres", self.spheres, ("centre", "radius"), n, SIZE)
        if any(not math.isclose(math.hypot(*normal), 1, rel_tol=1e-3) for normal, _ in self.planes):
            raise LimitsError("expected planes (normal, offset) with normals of length 1")
        if (self.planes or self.spheres) and not self._leaves_room():
            raise LimitsError(
                "expected room for the arm inside of the box, before all planes and outside of all spheres, they leave "
                "none: measure them again; a plane's normal points to where the arm may be"
            )

    def _leaves_room(self) -> bool:
        """Whether there is a point, among many, that the arm may be at."""
        corners = self._corners()
        if not len(corners) or np.linalg.matrix_rank(corners - corners[0], THIN) < len(self.low):
            return False
        shares = np.random.default_rng(0).dirichlet(np.full(len(corners), 0.5), SEARCHED)
        points = np.concatenate([corners, shares @ corners])
        gaps = [np.linalg.norm(points - centre, axis=1) - radius for centre, radius in self.spheres]
        return bool((np.min(gaps, axis=0) > self.margin).any()) if gaps else True

    def _corners(self) -> np.ndarray:
        """Those of what box and planes leave, (m, n): where n of their sides meet."""
        n, inside = len(self.low), np.eye(len(self.low))
        normals = np.array([*inside, *-inside, *(normal for normal, _ in self.planes)])
        offsets = np.r_[self.low, np.negative(self.high), [offset for _, offset in self.planes]] + self.margin
        sides = np.array(list(combinations(range(len(offsets)), n)))
        sides = sides[np.abs(np.linalg.det(normals[sides])) > PARALLEL]
        points = np.linalg.solve(normals[sides], offsets[sides][..., None])[..., 0]
        return points[(points @ normals.T >= offsets - ROUNDING).all(axis=1)]

    def depth(self, path: Sequence[Vector]) -> float:
        """How far outside a polygon line comes at its worst, m; at most 0 if it stays inside."""
        return max(self.depths(path))

    def depths(self, path: Sequence[Vector]) -> list[float]:
        """How far it comes beyond each side of the box, behind each plane and into each sphere."""
        axes = zip(self.low, zip(*path, strict=True), self.high, strict=True)
        box = [depth for low, x, high in axes for depth in (low - min(x), max(x) - high)]
        planes = [max(_behind(plane, point, ()) for point in path) for plane in self.planes]
        ways = list(zip(path, path[1:], strict=False)) or [(path[0], path[0])]
        spheres = [radius - min(_distance(centre, a, b) for a, b in ways) for centre, radius in self.spheres]
        return [depth + self.margin for depth in (*box, *planes, *spheres)]

    def reach(self, start: Vector, moves: Sequence[Vector], sides: Sequence[Plane]) -> list[float]:
        """As `depths`, of an arm that follows each of these moves (n,) wholly, partly or not at all.

        sides: the planes that stand for the spheres.
        """
        box = []
        for low, x, high, *along in zip(self.low, start, self.high, *moves, strict=True):
            box += [low - x - sum(min(0.0, a) for a in along), x + sum(max(0.0, a) for a in along) - high]
        planes = [_behind(plane, start, moves) for plane in (*self.planes, *sides)]
        return [depth + self.margin for depth in (*box, *planes)]

    def sides(self, start: Vector, moves: Sequence[Vector], before: Sequence[Plane] = ()) -> tuple[Plane, ...]:
        """For each sphere a plane that touches it, chosen so that the moves stay off it as far as possible.

        before: those of a motion that these moves go on with. What stayed off them still does.
        """
        end = [sum(x) for x in zip(start, *moves, strict=True)]
        chosen = []
        for i, (centre, radius) in enumerate(self.spheres):
            options = [_touching(centre, radius, start), _touching(centre, radius, end), *before[i : i + 1]]
            chosen.append(min(options, key=lambda plane: _behind(plane, start, moves)))
        return tuple(chosen)

    def nearest(self, point: Vector) -> Vector:
        """The point, or one inside that is close to it."""
        edges = zip(self.low, point, self.high, strict=True)
        point = [min(max(x, low + self.margin), high - self.margin) for low, x, high in edges]
        for normal, offset in self.planes:
            lacking = offset + self.margin - sum(a * x for a, x in zip(normal, point, strict=True))
            if lacking > 0:
                point = [x + lacking * a for a, x in zip(normal, point, strict=True)]
        for centre, radius in self.spheres:
            distance = math.dist(centre, point)
            if 0 < distance < radius + self.margin:
                out = (radius + self.margin) / distance
                point = [c + out * (x - c) for c, x in zip(centre, point, strict=True)]
        return point


@dataclass(frozen=True)
class GripperLimits:
    """What the last number of an action may be."""

    low: float
    high: float
    dwell: float  # s between a change of direction and the next

    def __post_init__(self):
        for name, within in (("low", REACH), ("high", REACH), ("dwell", "[0, 60]")):
            bounds.number(name, getattr(self, name), within, LimitsError)
        if not self.low < self.high:
            raise LimitsError(f"expected low < high, got {self}")


@dataclass(frozen=True)
class Limits:
    """Everything that is kept; nothing has a default, because nobody else knows the arm and what stands around it."""

    workspace: Workspace
    motion: MotionLimits
    turn: MotionLimits | None  # rad; null for robots that are not turned
    gripper: GripperLimits | None  # null for robots without
    watchdog: float  # s without a fresh action until the arm is stopped
    stale: float  # s that an observation may be old

    def __post_init__(self):
        for name in ("watchdog", "stale"):
            bounds.number(f"limits.{name}", getattr(self, name), WAIT, LimitsError)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Limits:
        """From plain data, such as a robot's YAML; LimitsError names what is missing or unknown."""
        data = _complete(cls, data, "limits")
        parts = {"workspace": Workspace, "motion": MotionLimits, "turn": MotionLimits, "gripper": GripperLimits}
        made = {
            name: None if data[name] is None and name in ("turn", "gripper") else _made(kind, data[name], name)
            for name, kind in parts.items()
        }
        return cls(**made, watchdog=data["watchdog"], stale=data["stale"])


def _complete(kind: type, data: Any, name: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise LimitsError(f"expected {name} as a mapping, got {data!r}: declare them in the robot's YAML")
    known = [f.name for f in fields(kind)]
    missing = [f.name for f in fields(kind) if f.name not in data and f.default is MISSING]
    unknown = sorted(set(data) - set(known))
    if missing or unknown:
        said = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(unknown)} unknown"] * bool(unknown)
        raise LimitsError(f"expected {name} with {', '.join(known)}: {'; '.join(said)}")
    return dict(data)


def _made(kind: type, data: Any, name: str):
    data = {key: _frozen(value) for key, value in _complete(kind, data, f"limits.{name}").items()}
    try:
        return kind(**data)
    except LimitsError as error:
        raise LimitsError(f"limits.{name}: {error}") from error


def _check_pairs(name: str, pairs: Any, parts: tuple[str, str], n: int, within: str) -> None:
    """Of a list of (vector (n,), number), whose parts have these names."""
    vector, number = parts
    shaped = isinstance(pairs, list | tuple) and all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs)
    if not shaped:
        raise LimitsError(f"expected {name} as a list of [{vector}, {number}], got {pairs!r}: [] for none")
    for i, (numbers, value) in enumerate(pairs):
        bounds.numbers(f"{name}[{i}].{vector}", numbers, REACH, error=LimitsError)
        bounds.number(f"{name}[{i}].{number}", value, within, LimitsError)
        if len(numbers) != n:
            raise LimitsError(f"expected planes and spheres in {n} dimensions, as the box: joints have none")


def _frozen(value: Any):
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _behind(plane: Plane, start: Vector, moves: Sequence[Vector]) -> float:
    """How far behind a plane an arm may come that follows each of these moves wholly, partly or not at all."""
    along = [sum(a * x for a, x in zip(plane[0], m, strict=True)) for m in (start, *moves)]
    return plane[1] - along[0] - sum(min(0.0, x) for x in along[1:])


def _touching(centre: Vector, radius: float, point: Vector) -> Plane:
    """The plane between a sphere and a point that is outside of it."""
    distance = math.dist(centre, point) or 1.0
    normal = [(x - c) / distance for x, c in zip(point, centre, strict=True)]
    return normal, radius + sum(a * c for a, c in zip(normal, centre, strict=True))


def _distance(point: Vector, a: Vector, b: Vector) -> float:
    """From a point to the way between a and b."""
    way = [y - x for x, y in zip(a, b, strict=True)]
    length = sum(w * w for w in way)
    if length == 0:
        return math.dist(point, a)
    along = sum(w * (p - x) for w, p, x in zip(way, point, a, strict=True)) / length
    along = min(max(along, 0.0), 1.0)
    return math.dist(point, [x + along * w for x, w in zip(a, way, strict=True)])
