"""The energy of an episode's chunks as a strip that fills up along a video.

h, w  pixels of the strip
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ebt_policy.rollout.plots import ENERGY, FAINT, GOOD, style
from ebt_policy.rollout.sim import EpisodeLog

DPI = 100
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 22, 22  # pixels around the axes
AHEAD = 0.2  # how much is seen of what has not happened yet


class Timeline:
    """Draws the whole strip once; a frame then costs a copy and a cursor."""

    def __init__(self, log: EpisodeLog, chunk_starts: Sequence[int], end: int, width: int, height: int):
        """end: the last control step. width, height: pixels."""
        self.end, self.inner = max(end, 1), width - LEFT - RIGHT
        self.done = _draw(log, [*chunk_starts, end], self.end, width, height)
        faded = 255 - (255 - self.done[TOP:-BOTTOM].astype(float)) * AHEAD
        self.ahead = self.done.copy()
        self.ahead[TOP:-BOTTOM, LEFT:] = faded[:, LEFT:].astype(np.uint8)

    def at(self, step: int) -> np.ndarray:
        """The strip (h, w, 3) uint8 with the cursor at control step `step`."""
        x = LEFT + round(min(step / self.end, 1) * (self.inner - 1))
        strip = self.ahead.copy()
        strip[:, :x] = self.done[:, :x]
        strip[TOP:-BOTTOM, x - 1 : x + 1] = (31, 41, 51)
        return strip


def _draw(log: EpisodeLog, edges: list[int], end: int, width: int, height: int) -> np.ndarray:
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    box = LEFT / width, BOTTOM / height, 1 - (LEFT + RIGHT) / width, 1 - (TOP + BOTTOM) / height
    axes = figure.add_axes(box)
    style(axes)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(0, end)
    if any(log.energies):
        _energies(axes, log.energies, edges)
        axes.set_title("energy of each plan, while it is executed", loc="left", fontsize=8.5)
    else:
        axes.set_yticks([])
        axes.set_title("control steps", loc="left", fontsize=8.5)
    if log.success:
        axes.axvline(log.length, color=GOOD, linewidth=2)
        side = "right" if log.length > 0.8 * end else "left"
        text = axes.text(log.length, 0.97, " success ", color=GOOD, fontsize=8.5, va="top", ha=side)
        text.set_transform(axes.get_xaxis_transform())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _energies(axes, energies: list[list[float]], edges: list[int]) -> None:
    """Each plan's energy while it is executed; dots where its descent came from, as far as they fit."""
    for chunk, start, stop in zip(energies, edges, edges[1:], strict=False):
        axes.plot([start, stop], [chunk[-1]] * 2, color=ENERGY, linewidth=2.5, solid_capstyle="butt")
        axes.plot([start] * len(chunk), chunk, color=FAINT, linewidth=0.8, marker="o", markersize=2)
    finals = np.array([chunk[-1] for chunk in energies], dtype=float)
    finals = finals[np.isfinite(finals)]
    if not len(finals):
        return
    low, high = finals.min(), finals.max()
    spread = max(high - low, 0.05 * max(abs(low), abs(high)), 1e-6)
    axes.set_ylim(low - 0.2 * spread, high + 0.6 * spread)
    axes.locator_params(axis="y", nbins=4)
