"""The plane geometry of shapes made of rectangles that do not overlap, such as the T of PushT.

Points are complex numbers: x + iy. To turn by a is to multiply by exp(ia).
"""

from __future__ import annotations

from collections.abc import Sequence

Polygon = list[complex]  # convex, corners anticlockwise


def rectangle(centre: complex, half: complex) -> Polygon:
    """From `centre` and half its width and height."""
    w, h = half.real, half.imag
    return [centre + complex(x, y) for x, y in ((-w, -h), (w, -h), (w, h), (-w, h))]


def placed(polygon: Polygon, position: complex, turn: complex) -> Polygon:
    """Turned about the origin by a `turn` of length 1, then moved."""
    return [position + turn * corner for corner in polygon]


def area(polygon: Polygon) -> float:
    """By the shoelace formula; 0 without corners."""
    return sum(_cross(p, q) for p, q in _edges(polygon)) / 2


def overlap(one: Polygon, other: Polygon) -> Polygon:
    """Corners of the intersection of two convex polygons (Sutherland & Hodgman 1974): `one`, cut along each edge of
    `other`."""
    for start, end in _edges(other):
        heights = [_cross(end - start, corner - start) for corner in one]  # negative outside
        cut = []
        for (p, q), (hp, hq) in zip(_edges(one), _edges(heights), strict=True):
            if hp >= 0:
                cut.append(p)
            if hp * hq < 0:
                cut.append(p + (q - p) * hp / (hp - hq))
        one = cut
    return one


def coverage(shape: Sequence[Polygon], goal: Sequence[Polygon]) -> float:
    """Part of `goal`'s area that `shape` covers, in [0, 1]; each is made of polygons that do not overlap."""
    covered = sum(area(overlap(part, target)) for part in shape for target in goal)
    return min(1.0, covered / sum(area(target) for target in goal))


def _edges(corners: list) -> list[tuple]:
    return list(zip(corners, corners[1:] + corners[:1], strict=True))


def _cross(p: complex, q: complex) -> float:
    return p.real * q.imag - p.imag * q.real
