"""gallery.html of a denoiser: images noised, restored in more and more steps, and true, with energies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ebt_policy.rollout import page, plots
from ebt_policy.rollout.result import write_atomic
from ebt_policy.tasks.image import Denoiser, add_noise, psnr, restore, squared_errors

INCH = 1.15  # side of a picture


def write_gallery(
    path: Path, title: str, denoiser: Denoiser, truth: Tensor, result: dict, sigmas: Sequence[float]
) -> Path:
    """truth (n, C, S, S): the images to show; result: with the `rows` of `measure`, whose steps are shown too."""
    rows = [row for row in result["rows"] if row["candidates"] == 1]
    steps = sorted({row["steps"] for row in rows} - {0})
    body = [f"<h1>{page.escape(title)}</h1>", page.section("Quality", page.image(plots.svg_uri(curves(rows)), "PSNR"))]
    for sigma in sigmas:
        text = (
            "Below each image its PSNR in dB, and its energy E where there is one: E compares images with one another."
        )
        figure = pictures(denoiser, truth, sigma, steps)
        body.append(page.section(f"Noise {sigma:g}", page.image(plots.svg_uri(figure), "images"), page.note(text)))
    body.append(page.section("What made this", page.table(result["run"] | result["hashes"] | result["versions"])))
    return write_atomic(path, page.page(title, body))


def curves(rows: Sequence[dict]) -> Figure:
    """PSNR, with its interval, against steps, a line for each noise level."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    plots.style(axes)
    for sigma in sorted({row["sigma"] for row in rows}):
        taken = [row for row in rows if row["sigma"] == sigma]
        x = np.arange(len(taken))
        mean = np.array([row["psnr"]["mean"] for row in taken])
        low, high = np.array([row["psnr"]["interval"] for row in taken]).T
        axes.errorbar(x, mean, [mean - low, high - mean], marker="o", markersize=3.5, capsize=2, label=f"{sigma:g}")
    axes.set_xticks(x, [str(row["steps"]) for row in taken])
    axes.title.set_text("Restored images by noise level")
    axes.set_xlabel("steps (0: as given)")
    axes.set_ylabel("PSNR, dB")
    axes.legend(frameon=False, title="sigma", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def pictures(denoiser: Denoiser, truth: Tensor, sigma: float, steps: Sequence[int]) -> Figure:
    """A row per image of truth (n, C, S, S): noised, after each number of steps, true."""
    noised = add_noise(truth, sigma)
    columns = [("noised", noised, _energies(denoiser, noised, sigma))]
    for count in steps:
        restored = restore(denoiser, noised, sigma, count)
        energies = None if restored.energies is None else restored.energies[-1]
        columns.append((f"{count} step" + "s" * (count > 1), restored.images, energies))
    columns.append(("truth", truth, _energies(denoiser, truth, sigma)))
    figure = Figure(figsize=(INCH * len(columns), 1.3 * INCH * len(truth)), layout="constrained")
    grid = figure.subplots(len(truth), len(columns), squeeze=False)
    for axes, (name, images, energies) in zip(grid.T, columns, strict=True):
        decibels = psnr(squared_errors(images, truth))
        for i, cell in enumerate(axes):
            said = f"{decibels[i]:.1f} dB" if name != "truth" else ""
            said += "" if energies is None else f"\nE {energies[i]:.4g}"
            _show(cell, images[i], said, name if i == 0 else "")
    return figure


def _energies(denoiser: Denoiser, images: Tensor, sigma: float) -> Tensor | None:
    """(n,) of images as they are, if the method has energies."""
    energies = restore(denoiser, images, sigma, steps=1).energies
    return None if energies is None else energies[0]


def _show(axes: Axes, image: Tensor, below: str, above: str) -> None:
    """image (C, S, S) in [-1, 1]."""
    pixels = ((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(below, color=plots.FAINT, fontsize=7)
    axes.title.set(text=above, color=plots.INK, fontsize=8.5)
