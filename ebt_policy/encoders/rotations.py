"""Quaternions as rotation matrices: q and -q are one rotation, and a network should not have to learn that.

xyzw quaternion (..., 4) -> first two columns of its matrix (..., 6), continuous and unique (Zhou et al., 2019)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Rotations(nn.Module):
    """Replaces the quaternions inside of low-dimensional observations; what it does not know it passes on."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], quaternions: Mapping[str, Sequence[int]] | None = None):
        """quaternions: key -> columns at which a quaternion starts, e.g. {"object": [3, 10]}."""
        super().__init__()
        self.columns = {key: sorted(starts) for key, starts in (quaternions or {}).items()}
        for key, starts in self.columns.items():
            if key not in shapes or len(shapes[key]) != 1 or any(s + 4 > shapes[key][0] for s in starts):
                known = {k: v for k, v in shapes.items() if len(v) == 1}
                raise ValueError(
                    f"no quaternions at columns {starts} of {key!r}: expected 4 columns each within {known}"
                )
        self.shapes = {
            key: (shape[0] + 2 * len(self.columns[key]),) if key in self.columns else tuple(shape)
            for key, shape in shapes.items()
        }

    def forward(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """obs[k] (..., *shape) -> obs[k] (..., *self.shapes[k])."""
        return {key: self._replace(obs[key], self.columns.get(key, ())) for key in self.shapes}

    def _replace(self, x: Tensor, starts: Sequence[int]) -> Tensor:
        if not starts:
            return x
        parts, end = [], 0
        for start in starts:
            parts += [x[..., end:start], two_columns(x[..., start : start + 4])]
            end = start + 4
        return torch.cat([*parts, x[..., end:]], dim=-1)


def two_columns(quaternion: Tensor) -> Tensor:
    """xyzw (..., 4), of any length but 0 -> the first two columns of the rotation matrix (..., 6)."""
    x, y, z, w = nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    first = (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w))
    second = (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w))
    return torch.stack([*first, *second], dim=-1)
