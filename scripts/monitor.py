"""Watch a trained policy act, and measure how well each signal foretells that an episode will fail.

python scripts/monitor.py run=assets/checkpoints/ebt_square
python scripts/monitor.py run=assets/checkpoints/ebt_square around=envs:Noisy-v0 around_kwargs={sigma:0.2} until=1
python scripts/monitor.py of=assets/checkpoints/ebt_square/monitor alpha=0.05
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter

import hydra
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from ebt_policy import bounds
from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.alarm import foretelling, least
from ebt_policy.rollout.kept import Kept
from ebt_policy.rollout.monitor import Watch
from ebt_policy.rollout.recovery import benchmarked
from ebt_policy.rollout.result import EpisodeLog, describe, versions, write_result
from ebt_policy.rollout.sim import rollout, time_limit
from ebt_policy.train.evaluate import subject
from ebt_policy.train.monitored import load_monitored

FILE = "monitor.json"


@hydra.main(config_path="../configs", config_name="monitor", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    if (cfg.run is None) == (cfg.of is None):
        raise ValueError(f"expected run=FOLDER to measure or of=FOLDER to judge again, got {cfg.run} and {cfg.of}")
    for name, within in (("episodes", "[1, inf)"), ("until", "[1, inf) or null"), ("most", "[1, inf)")):
        bounds.whole(name, cfg[name], within)
    least(cfg.alpha)  # fails here, before anything is run, if there is no such promise
    path = Path(cfg.of) / FILE if cfg.of else folder(cfg) / FILE
    if cfg.of is None:
        write_result(path, measure(cfg))  # before they are judged, for which there may be too few failures
    result = json.loads(path.read_text())
    result["signals"] = foretelling(result["episodes"], cfg.alpha)
    write_result(path, result)
    print(f"{result['summary']['text']} -> {path}\n{table(result['signals'])}")


def folder(cfg: DictConfig) -> Path:
    return Path(cfg.out or Path(cfg.run) / "monitor")


def measure(cfg: DictConfig) -> dict:
    """Monitored episodes, as `evaluate` describes them; those that were played before are taken from their file."""
    measured, watch = subject(cfg), OmegaConf.to_container(cfg.watch)
    make_agent = partial(load_monitored, measured.make_agent, cfg.run, Watch(**watch), cfg.data)
    make_agent()  # fails here, before any process starts, if the demonstrations are not there
    settings = {"env_kwargs": None} | measured.settings | around(cfg, measured.settings)
    settings |= {"after_success": 0}  # a success that goes on would be watched for longer than it took
    flops, about = measured.described.get("flops"), {"hashes": measured.described["hashes"]}
    about |= {"config": measured.described.get("config", {})}
    run = {name: settings[name] for name in ("env_id", "max_steps", "after_success", "env_kwargs")}
    facts = benchmarked({"run": run, "seeds": [], "versions": versions(), **about})
    began = perf_counter()
    with Kept(folder(cfg), facts | {"watch": watch}) as kept:
        for seeds in blocks(cfg, kept):
            play(kept, seeds, make_agent, settings, cfg.processes)
    logs = [kept.logs[seed] for seed in seeds]
    return {"run": run} | describe(logs, perf_counter() - began, cfg.processes, flops) | about | {"watch": watch}


def blocks(cfg: DictConfig, kept: Kept) -> Iterator[range]:
    """Seeds of the episodes to have, ever more of them, until those that are kept are enough."""
    wanted = [max(n, cfg.until or 0) for n in least(cfg.alpha)]
    if cfg.episodes < 1:
        raise ValueError(f"expected at least one episode, got episodes={cfg.episodes}")
    if cfg.until is None and cfg.episodes < sum(wanted):
        failures, successes = wanted
        print(f"judging signals takes {failures} failures and {successes} successes: set until=1", file=sys.stderr)
    for count in range(cfg.episodes, max(cfg.episodes, cfg.most) + 1, cfg.episodes):
        yield (seeds := range(cfg.first_seed, cfg.first_seed + count))
        outcomes = [kept.logs[seed].success for seed in seeds]
        found = outcomes.count(False), outcomes.count(True)
        if cfg.until is None or all(f >= w for f, w in zip(found, wanted, strict=True)):
            return
    print(f"stopped after {count} episodes, the most that may be: set most=... for more", file=sys.stderr)


def play(kept: Kept, seeds: range, make_agent, settings: dict, processes: int) -> None:
    """Those of `seeds` that are not kept yet."""
    missing = [seed for seed in seeds if seed not in kept.logs]
    with tqdm(total=len(seeds), initial=len(seeds) - len(missing), unit="episode", desc="rollouts") as bar:

        def note(log: EpisodeLog) -> None:
            kept.add(log)
            outcomes = [kept.logs[seed].success for seed in seeds if seed in kept.logs]
            bar.set_postfix_str(f"{outcomes.count(True)} succeeded, {outcomes.count(False)} failed", refresh=False)
            bar.update()

        if missing:
            rollout(make_agent, seeds=missing, processes=processes, on_episode=note, **settings)


def around(cfg: DictConfig, settings: dict) -> dict:
    """What changes in the settings of `rollout` when the task is put into an environment around it."""
    if cfg.around is None:
        return {}
    kwargs = {"task": settings["env_id"]} | settings.get("env_kwargs", {})
    kwargs |= OmegaConf.to_container(cfg.around_kwargs or OmegaConf.create())
    return {"env_id": cfg.around, "max_steps": time_limit(**settings), "env_kwargs": kwargs}


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
