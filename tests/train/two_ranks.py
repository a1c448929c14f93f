"""Trains as one of several processes, like scripts/train.py, and writes down the weights that this one ends with."""

import os
from pathlib import Path

import hydra
import safetensors.torch

from ebt_policy.train.run import train_run

CONFIGS = str(Path(__file__).resolve().parents[2] / "configs")


@hydra.main(config_path=CONFIGS, config_name="train", version_base="1.3")
def main(cfg):
    policy = train_run(cfg)
    own = {name: value for name, value in policy.state_dict().items() if not name.startswith("replay")}
    safetensors.torch.save_file(own, f"rank{os.environ['RANK']}.safetensors")


if __name__ == "__main__":
    main()
