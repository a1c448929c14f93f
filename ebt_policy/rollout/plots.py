"""The figures of a report, as matplotlib figures and as data URIs.

rows  training log, one dict per entry    episodes  as in an evaluation's JSON    K  descent steps
"""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ebt_policy.rollout.stats import SuccessRate

if TYPE_CHECKING:
    from ebt_policy.rollout.powerlaw import PowerLaw

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
GOOD, BAD = "#2f6fb3", "#d9731a"  # told apart by colour-blind readers too
ENERGY = "#7a4fb5"
SEVERAL = (GOOD, BAD, "#3a9a6b", ENERGY, "#b0413e", FAINT)
MARKERS = "osD^v*"
CURVES = {  # key of the training log -> title; others follow under their own names
    "loss": "Training loss",
    "val_error": "Held-out action error",
    "val_energy_drop": "Fall of the energy in a descent, held out",
    "energy_fall": "Fall of the energy in a descent",
    "energy_grad": "Norm of the energy's gradient",
    "val_energy_grad": "Norm of the energy's gradient, held out",
    "grad_norm": "Norm of the weights' gradient",
    "lr": "Learning rate",
}
POINTS = 500  # per curve: more cannot be seen
COLUMNS = 3


def training_curves(rows: Sequence[dict]) -> Figure | None:
    """One small plot per number in the log against the update; None if there is nothing to plot."""
    found = {key for row in rows for key, value in row.items() if _number(value)} - {"update", "seconds", "wall"}
    keys = [k for k in CURVES if k in found] + sorted(found - set(CURVES))
    if not keys:
        return None
    lines = -(-len(keys) // COLUMNS)
    figure, grid = _figure(10.4, 2.35 * lines, lines, COLUMNS)
    for axes, key in zip(grid, keys, strict=False):
        x, y = _series(rows, key)
        axes.plot(x, y, color=GOOD, linewidth=1.2)
        if (y > 0).all() and y.max() > 20 * y.min():
            axes.set_yscale("log")
        else:
            axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.title.set_text(CURVES.get(key, key))
    for axes in grid[len(keys) :]:
        axes.remove()
    figure.supxlabel("update", color=FAINT, fontsize=8.5)
    return figure


def energy_by_step(episodes: Sequence[dict]) -> Figure | None:
    """Median and quartiles, over all chunks, of the energy before each descent step and of the result."""
    chunks = [_floats(chunk) for episode in episodes for chunk in episode["energies"] if len(chunk) > 1]
    if not chunks:
        return None
    longest = max(map(len, chunks))
    table = np.full((len(chunks), longest), np.nan)  # (chunks, K+1); samples may stop early
    for row, chunk in zip(table, chunks, strict=True):
        row[: len(chunk)] = chunk
    figure, (axes,) = _figure(5.1, 2.9)
    low, median, high = np.nanpercentile(table, [25, 50, 75], axis=0)
    k = np.arange(longest)
    axes.fill_between(k, low, high, color=ENERGY, alpha=0.2, linewidth=0, label="quartiles")
    axes.plot(k, median, color=ENERGY, marker="o", markersize=3.5, label="median")
    axes.title.set_text(f"Energy during the descent, {len(chunks)} chunks")
    axes.set_xlabel("descent steps taken")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return figure


def energy_by_chunk(episodes: Sequence[dict]) -> Figure | None:
    """Energy of the chunks as an episode goes on; successes, failures and what nobody could judge apart."""
    if not any(chunk for episode in episodes for chunk in episode["energies"]):
        return None
    figure, (axes,) = _figure(5.1, 2.9)
    for success, colour, label in ((True, GOOD, "successes"), (False, BAD, "failures"), (None, FAINT, "unknown")):
        planned = [e["energies"] for e in episodes if e["success"] is success and e["energies"]]
        finals = [[_floats(chunk)[-1] for chunk in chunks] for chunks in planned]
        if not finals:
            continue
        width = _lasting(finals)
        table = [[final[i] for final in finals if i < len(final)] for i in range(width)]
        low, median, high = np.array([np.nanpercentile(column, [25, 50, 75]) for column in table]).T
        x = np.arange(1, width + 1)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, median, color=colour, marker="o", markersize=3, label=f"{label} ({len(finals)})")
    axes.title.set_text("Energy of the chosen chunks over an episode")
    axes.set_xlabel("chunk of the episode")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return figure


def latency_histogram(latency: Sequence[Sequence[float]]) -> Figure | None:
    """Seconds per chunk, in milliseconds; the slowest percent is left out of view."""
    values = 1000 * np.concatenate([_floats(x) for x in latency]) if latency else np.zeros(0)
    if not len(values):
        return None
    figure, (axes,) = _figure(5.1, 2.5)
    median, p95, limit = np.percentile(values, [50, 95, 99])
    axes.hist(values, bins=40, range=(min(values), max(limit, min(values) * 1.01)), color=GOOD, alpha=0.55)
    for value, name in ((median, "median"), (p95, "95 %")):
        axes.axvline(value, color=INK, linewidth=1)
        axes.annotate(
            f" {name} {value:.3g}", (value, 0.97), xycoords=("data", "axes fraction"), va="top", fontsize=8, color=INK
        )
    axes.title.set_text("Time to plan a chunk")
    axes.set_xlabel("ms")
    axes.set_ylabel("chunks")
    return figure


def success_violins(rates: Mapping[str, SuccessRate]) -> Figure:
    """What counts of successes say of success rates: posteriors as violins, the shares seen and their intervals.

    A line for each, which many and long names need.
    """
    figure, (axes,) = _figure(6.4, 0.9 + 0.32 * len(rates))
    grid = np.linspace(0, 1, 401)
    for y, rate in enumerate(rates.values()):
        density = rate.posterior(grid)
        half = 0.4 * density / density.max()
        seen = density > 1e-3 * density.max()
        axes.fill_between(100 * grid[seen], y - half[seen], y + half[seen], color=GOOD, alpha=0.3, linewidth=0)
        axes.hlines(y, *(100 * end for end in rate.interval), color=INK, linewidth=1.2)
        axes.plot(100 * rate.rate, y, color=GOOD, marker="o", markersize=4)
    axes.set_yticks(range(len(rates)), [f"{name}, {r.successes}/{r.episodes}" for name, r in rates.items()])
    axes.set_ylim(max(len(rates), 1) - 0.5, -0.5)  # the first on top; margins would grow with their number
    ends = np.array([rate.interval for rate in rates.values()]).reshape(-1, 2)
    low, high = (ends.min(), ends.max()) if len(ends) else (0, 1)
    axes.set_xlim(max(100 * low - 10, -2), min(100 * high + 10, 102))  # near rates merge on the whole scale
    axes.set_xlabel("success, %")
    axes.grid(axis="y", visible=False)
    return figure


def pareto(points: Sequence[dict], cost: str, label: str) -> Figure:
    """Success in per cent of points (family, rate, interval and a cost each), and a line along their front.

    Points whose cost is not known are left out.
    """
    figure, (axes,) = _figure(5.1, 3.4)
    families = dict.fromkeys(p["family"] for p in points)
    for i, (family, marker) in enumerate(zip(families, itertools.cycle(MARKERS), strict=False)):
        own = [p for p in points if p["family"] == family and p[cost]]
        x, y = [p[cost] for p in own], np.array([100 * p["rate"] for p in own])
        ends = 100 * np.array([p["interval"] for p in own]).reshape(-1, 2).T  # (2, n)
        colour = SEVERAL[i % len(SEVERAL)]
        axes.errorbar(x, y, abs(ends - y), fmt=marker, color=colour, markersize=5, elinewidth=0.7, label=family)
    best = front([p for p in points if p[cost]], cost)
    axes.step([p[cost] for p in best], [100 * p["rate"] for p in best], where="post", color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)
    axes.set_ylabel("success, %")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def front(points: Sequence[dict], cost: str) -> list[dict]:
    """The Pareto front, cheapest first: points than which none succeeds more often at no more cost."""
    found, best = [], -1.0
    for point in sorted(points, key=lambda p: (p[cost], -p["rate"])):
        if point["rate"] > best:
            found, best = [*found, point], point["rate"]
    return found


def power_laws(cells: Sequence[dict], laws: Mapping[str, Mapping[str, PowerLaw]]) -> Figure:
    """Held-out loss against each quantity of `laws` (quantity -> method -> law): cells, and laws with their bands."""
    figure, panels = _figure(5.1 * len(laws), 3.4, 1, len(laws))
    for axes, (quantity, by_method) in zip(panels, laws.items(), strict=True):
        for (method, law), colour in zip(by_method.items(), itertools.cycle(SEVERAL), strict=False):
            own = [(cell[quantity], cell["val_loss"]) for cell in cells if cell["method"] == method]
            axes.plot(*np.array(own).T, "o", color=colour, markersize=3.5, alpha=0.6)
            x = np.geomspace(law.x[0], law.x[-1], 50)
            axes.plot(x, law(x), color=colour, linewidth=1.2, label=f"{method}, exponent {law.exponent:.3g}")
            if (band := law.band(x)) is not None:
                axes.fill_between(x, *band, color=colour, alpha=0.15, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel=quantity, ylabel="held-out loss, nats a token")
        axes.yaxis.set_major_locator(LogLocator(subs=np.arange(1, 10, 0.25)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
        axes.yaxis.set_minor_locator(LogLocator(subs=[]))
        axes.tick_params(which="minor", colors=FAINT, labelsize=8, length=2)
        axes.legend(frameon=False, fontsize=7.5)
    return figure


def svg_uri(figure: Figure) -> str:
    """A figure that a page can hold in itself."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=8, length=3)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=FAINT, fontsize=8.5)
    axes.yaxis.label.set(color=FAINT, fontsize=8.5)
    axes.title.set(color=INK, fontsize=9.5)


def _figure(width: float, height: float, lines: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Inches; without pyplot, which would keep global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid:
        style(axes)
    return figure, grid


def _series(rows: Sequence[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Updates and values (n,), n <= POINTS; each value stands for the mean of its neighbours."""
    pairs = [(row.get("update", i), row[key]) for i, row in enumerate(rows) if _number(row.get(key))]
    x, y = np.array(pairs, dtype=float).T
    parts = np.array_split(np.arange(len(x)), min(POINTS, len(x)))
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _lasting(finals: list[list[float]]) -> int:
    """Chunks until fewer than a quarter of the episodes go on: beyond, the quartiles mean little."""
    lengths = sorted(map(len, finals))
    return max(lengths[int(0.75 * (len(lengths) - 1))], 1)


def _number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _floats(values) -> np.ndarray:
    """None, which stands for infinity or NaN in the JSON, becomes NaN."""
    return np.array(values, dtype=float)
