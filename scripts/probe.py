"""Read the class of held-out images, linearly, from a trained denoiser, beside an untrained one and the pixels.

python scripts/probe.py run=runs/image_ebt_mnist
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.images import Tiles
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.rollout.stats import SuccessRate
from ebt_policy.tasks.image import to_unit
from ebt_policy.tasks.probe import features, read
from ebt_policy.train.build import load_config
from ebt_policy.train.evaluate import sha256
from ebt_policy.train.kinds.image import denoiser, load_denoiser


@hydra.main(config_path="../configs", config_name="probe", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    run = Path(cfg.run)
    trained, data = load_denoiser(run)
    if data.train.label is None:
        raise ValueError(f"the images that {run} was trained on have no labels: give a run on digits")
    torch.manual_seed(0)
    untrained = denoiser(load_config(run, "image")).eval().requires_grad_(False)
    parts = [(to_unit(torch.from_numpy(tiles.pixels)), _labels(tiles)) for tiles in (data.train, data.held_out)]
    inputs = {"pixels": [images.flatten(1) for images, _ in parts]}
    for name, model in (("untrained", untrained), ("trained", trained)):
        by_part = [features(model, images, cfg.sigma) for images, _ in parts]
        inputs |= {f"{name}, block {i + 1}": pair for i, pair in enumerate(zip(*by_part, strict=True))}
    (_, label), (_, held_out_label) = parts
    rows = []
    for name, (x, held_out) in inputs.items():
        reading = read(x, label, held_out, held_out_label)
        rate = SuccessRate(reading.correct, reading.held_out)
        rows.append({"features": name} | asdict(reading) | {"accuracy": rate.rate, "interval": list(rate.interval)})
        print(f"{name}: {rate}")
    result = {"run": OmegaConf.to_container(cfg), "rows": rows}
    result |= {"hashes": {"weights": sha256(run / "weights.safetensors"), "data": data.facts["hash"]}}
    print(f"-> {write_result(Path(cfg.out or run / 'probe.json'), result | {'versions': versions()})}")


def _labels(tiles: Tiles) -> torch.Tensor:
    return torch.from_numpy(tiles.label)


if __name__ == "__main__":
    explain("probe", __doc__)
    main()
