"""Train what an experiment describes: a policy on demonstrations, a language model on text.

python scripts/train.py experiment=ebt_square fit.minutes=30 run=runs/square
"""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.train.run import train_run


@hydra.main(config_path="../configs", config_name="train", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    train_run(cfg)


if __name__ == "__main__":
    explain("train", __doc__)
    main()
