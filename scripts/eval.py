"""Measure a trained policy in simulation.

python scripts/eval.py run=assets/checkpoints/ebt_lift episodes=100 method.steps=2
"""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.train.evaluate import evaluate_run


@hydra.main(config_path="../configs", config_name="eval", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    result, folder = evaluate_run(cfg)
    print(f"{result['summary']['text']} at {result['compute']['steps_per_chunk']:g} steps a chunk -> {folder}")


if __name__ == "__main__":
    explain("eval", __doc__)
    main()
