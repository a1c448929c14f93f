"""Watch a trained policy act, and measure how well each signal foretells that an episode will fail.

python scripts/monitor.py run=assets/checkpoints/ebt_square
python scripts/monitor.py run=assets/checkpoints/ebt_square around=envs:Noisy-v0 around_kwargs={sigma:0.2}
python scripts/monitor.py of=assets/checkpoints/ebt_square/monitor alpha=0.05
"""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.alarm import foretelling
from ebt_policy.rollout.evaluation import evaluate
from ebt_policy.rollout.monitor import Watch
from ebt_policy.rollout.result import write_result
from ebt_policy.rollout.sim import make_env
from ebt_policy.train.evaluate import subject
from ebt_policy.train.monitored import load_monitored

FILE = "monitor.json"


@hydra.main(config_path="../configs", config_name="monitor", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    if (cfg.run is None) == (cfg.of is None):
        raise ValueError(f"expected run=FOLDER to measure or of=FOLDER to judge again, got {cfg.run} and {cfg.of}")
    path = Path(cfg.of or cfg.out or Path(cfg.run) / "monitor") / FILE
    if cfg.of is None:
        write_result(path, measure(cfg))  # before they are judged, for which there may be too few failures
    result = json.loads(path.read_text())
    result["signals"] = foretelling(result["episodes"], cfg.alpha)
    write_result(path, result)
    print(f"{result['summary']['text']} -> {path}\n{table(result['signals'])}")


def measure(cfg: DictConfig) -> dict:
    """Monitored episodes, as `evaluate` describes them."""
    measured, watch = subject(cfg), OmegaConf.to_container(cfg.watch)
    make_agent = partial(load_monitored, measured.make_agent, cfg.run, Watch(**watch), cfg.data)
    make_agent()  # fails here, before any process starts, if the demonstrations are not there
    settings = measured.settings | around(cfg, measured.settings)
    with tqdm(total=cfg.episodes, unit="episode", desc="rollouts") as bar:
        result = evaluate(
            make_agent,
            **settings,
            **measured.described,
            after_success=0,  # a success that goes on would be watched for longer than it took
            seeds=range(cfg.first_seed, cfg.first_seed + cfg.episodes),
            processes=cfg.processes,
            on_episode=lambda log: bar.update(),
        )
    return result | {"run": result["run"] | {"env_kwargs": settings.get("env_kwargs")}, "watch": watch}


def around(cfg: DictConfig, settings: dict) -> dict:
    """What changes in the settings of `rollout` when the task is put into an environment around it."""
    if cfg.around is None:
        return {}
    kwargs = {"task": settings["env_id"]} | OmegaConf.to_container(cfg.around_kwargs or OmegaConf.create())
    limit = settings["max_steps"] or time_limit(settings["env_id"])
    return {"env_id": cfg.around, "max_steps": limit, "env_kwargs": kwargs}


def time_limit(env_id: str) -> int:
    """Control steps."""
    with closing(make_env(env_id)) as env:
        return env.spec.max_episode_steps


def table(signals: dict[str, dict]) -> str:
    """One line per signal."""
    lines = [f"{'':14}{'AUROC, equal time':22}{'by phase':22}{'AUPRC':20}{'false alarms':>14}{'caught':>8}{'lead':>6}"]
    for name, row in signals.items():
        alarm, lead = row["alarm"], row["alarm"]["lead_steps"]
        rates = f"{alarm['false_alarms']['rate']:14.2f}{alarm['caught']['rate']:8.2f}"
        roc, phase = _short(row["equal_time"]["auroc"]), _short(row["equal_time_phase"]["auroc"])
        lead = "-" if lead is None else f"{lead:.0f}"
        lines.append(f"{name:14}{roc:22}{phase:22}{_short(row['equal_time']['auprc']):20}{rates}{lead:>6}")
    return "\n".join(lines)


def _short(found: list[float]) -> str:
    value, low, high = found
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    explain("monitor", __doc__)
    main()
