"""Sample trained policies in several ways, on the same initial states, and keep how often each succeeds.

python scripts/sweep.py runs=[runs/mine] 'samplings=[{steps: 2}, {steps: 2, noise: [0, 0.2]}]' out=runs/mine/sweep.json
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import hydra
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.train.cells import Cell, result_of
from ebt_policy.train.checkpoint import CheckpointError


@hydra.main(config_path="../configs", config_name="sweep", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    cfg = OmegaConf.to_container(cfg, resolve=True)
    if not (cfg["runs"] and cfg["samplings"]):
        raise ValueError(f"expected runs and samplings, got {cfg['runs']} and {cfg['samplings']}")
    rows = [measured(cfg, Path(run), sampling) for run in cfg["runs"] for sampling in cfg["samplings"]]
    settings = {key: cfg[key] for key in ("runs", "samplings", "first_seed", "episodes")}
    write_result(Path(cfg["out"]), {"rows": rows, "settings": settings, "versions": versions()})
    print(*(f"{row['run']} {row['sampling']}: {row['text']}" for row in rows), f"-> {cfg['out']}", sep="\n")


def measured(cfg: dict, run: Path, sampling: dict) -> dict:
    """How often a run succeeds when it samples in one way."""
    cell = Cell(run, sampling, cfg["first_seed"], cfg["episodes"])
    result = result_of(cell, Path(cfg["folder"]), partial(compose, "eval"), processes=cfg["processes"])
    if result is None:
        raise CheckpointError(f"expected weights in {run}, which has none: give folders of training runs")
    found = {key: result["summary"][key] for key in ("successes", "episodes", "interval", "text")}
    latency = result["timing"]["latency_median"]
    return {"run": run.name, "sampling": sampling, **found, "latency": latency, "hashes": result["hashes"]}


if __name__ == "__main__":
    explain("sweep", __doc__)
    main()
