"""Measure a trained denoiser on held-out images, in and out of distribution, and show what it does to some of them.

python scripts/denoise.py run=runs/image_ebt_mnist steps=[1,2,3]
python scripts/denoise.py run=runs/image_dit_mnist steps=[1,10,100]

Leaves denoise.json, gallery.html and pictures.png, three images at the strongest noise that both were trained at.
"""

from __future__ import annotations

from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from ebt_policy.bench import table
from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.split import evenly
from ebt_policy.rollout.gallery import pictures, write_gallery
from ebt_policy.rollout.restore import gains, measure
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.tasks.image import to_unit
from ebt_policy.train.evaluate import sha256
from ebt_policy.train.kinds.image import load_denoiser


@hydra.main(config_path="../configs", config_name="denoise", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    settings = OmegaConf.to_container(cfg)
    run, folder = Path(cfg.run), Path(cfg.out or Path(cfg.run) / "denoise")
    act = {name: value for name, value in settings.pop("method").items() if value is not None}
    denoiser, data = load_denoiser(run, **act)
    pixels = torch.from_numpy(data.held_out.pixels)
    sigmas = [*settings["inside"], *settings["outside"]]
    truth, ways = to_unit(pixels[evenly(len(pixels), cfg.images)]), (settings["steps"], settings["candidates"])
    rows = measure(denoiser, truth, sigmas, *ways, cfg.spread)
    for row in rows:
        row["inside"] = row["sigma"] in settings["inside"]
    result = {
        "run": settings | {"act": str(denoiser.model.act)},
        "rows": rows,
        "gains": gains(rows),
        "hashes": {"weights": sha256(run / "weights.safetensors"), "data": data.facts["hash"]},
        "versions": versions(),
    }
    write_result(folder / "denoise.json", result)
    shown = to_unit(pixels[evenly(len(pixels), cfg.pictures)])
    write_gallery(folder / "gallery.html", f"{run.resolve().name}: restored images", denoiser, shown, result, sigmas)
    some = pictures(denoiser, shown[:3], max(settings["inside"]), sorted(settings["steps"]))
    some.savefig(folder / "pictures.png", dpi=110)
    print(_table(rows))
    print(_gains(result["gains"]))
    print(f"-> {folder}")


def _table(rows: list[dict]) -> str:
    head = ["sigma, steps, candidates", "evaluations", "PSNR dB", "MSE", "SSIM"]
    lines = []
    for row in rows:
        where = "" if row["inside"] else " (outside)"
        figures = [_figure(row[name]) for name in ("psnr", "mse", "ssim")]
        name = f"{row['sigma']:g}{where}, {row['steps']}, {row['candidates']}"
        lines.append([name, f"{row.get('network_evaluations', 0):g}", *figures])
    return table(head, lines)


def _gains(rows: list[dict]) -> str:
    """A line per number of steps and candidates, a column per noise level."""
    if not rows:
        return ""
    lines = [
        [
            f"{row['steps']}, {row['candidates']}",
            *(f"{found['value']:+.2f}" for found in row["gain_db"].values()),
            "{:.2f} [{:.2f}, {:.2f}]".format(row["spearman"], *row["interval_of_these_sets"]),
        ]
        for row in rows
    ]
    head = [f"steps, candidates: dB over {rows[0]['over_steps']} step", *rows[0]["gain_db"]]
    return "\n" + table([*head, "Spearman with sigma"], lines)


def _figure(value: dict) -> str:
    low, high = value["interval"]
    return f"{value['mean']:.4g} [{low:.4g}, {high:.4g}]"


if __name__ == "__main__":
    explain("denoise", __doc__)
    main()
