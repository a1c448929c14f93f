"""Train robomimic's own BC-RNN-GMM, by robomimic's own training, on demonstrations of ours: an outside anchor.

python scripts/anchor.py task=square updates=20000
python scripts/eval.py run=runs/bc_rnn_square/model.pth trust=true env=envs:Square-v0 episodes=100
"""

from __future__ import annotations

import shutil
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.robomimic_write import write_robomimic
from ebt_policy.train.kinds.robot import demonstrations

EPOCH = 100  # updates


@hydra.main(config_path="../configs", config_name="anchor", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    out = Path(cfg.out).resolve()
    if cfg.updates < EPOCH or cfg.updates % EPOCH:
        raise ValueError(f"expected updates in hundreds, which are robomimic's epochs, got {cfg.updates}")
    if out.exists():
        raise ValueError(f"{out} exists: delete it, or set out=<another folder>")
    try:
        from robomimic.scripts.train import train
    except ImportError as error:
        raise ValueError(f"robomimic is needed ({error}): see the README, section How it works") from error
    data = demonstrations(cfg)
    out.mkdir(parents=True)
    write_robomimic(out / "demos.hdf5", data)
    train(recipe(cfg, out), torch.device(cfg.device))
    (trained,) = (out / "robomimic").glob("*/models/*.pth")
    shutil.copy(trained, out / "model.pth")
    print(f"-> {out / 'model.pth'}")


def recipe(cfg: DictConfig, out: Path):
    """robomimic's configuration: as its study has BC-RNN on low-dimensional observations, but for the budget."""
    from robomimic.config import config_factory

    config = config_factory("bc")
    with config.values_unlocked():
        config.experiment.name, config.train.output_dir = "robomimic", str(out)
        config.experiment.rollout.enabled = config.experiment.render_video = False
        config.experiment.logging.terminal_output_to_txt = config.experiment.logging.log_tb = False
        config.experiment.epoch_every_n_steps = EPOCH
        config.experiment.save.every_n_epochs = config.train.num_epochs = cfg.updates // EPOCH
        config.train.data, config.train.seed, config.train.batch_size = str(out / "demos.hdf5"), cfg.seed, cfg.batch
        config.train.cuda = cfg.device != "cpu"
        config.train.seq_length = config.algo.rnn.horizon = cfg.horizon
        config.observation.modalities.obs.low_dim = list(cfg.task.obs)
        config.algo.rnn.enabled = config.algo.gmm.enabled = True
        config.algo.actor_layer_dims = ()
        config.algo.optim_params.policy.learning_rate.initial = cfg.lr
    return config


if __name__ == "__main__":
    explain("anchor", __doc__)
    main()
