"""As many trials for every method: trains and rolls out each, and says which was the best.

Best is who succeeds most often, and of several such, or without rollouts (episodes=0), who errs least on held-out data.

python scripts/tune.py tasks=[square] 'trials=["fit.lr=1e-3","fit.lr=2e-3"]'      # start it again to go on
"""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path

import hydra
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.train.build import load_config
from ebt_policy.train.cells import WEIGHTS, Cell, result_of
from ebt_policy.train.evaluate import sha256
from ebt_policy.train.log import read_log
from ebt_policy.train.run import train_run

RESULTS = Path(__file__).resolve().parent.parent / "assets" / "results"


@hydra.main(config_path="../configs", config_name="tune", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    if not (cfg.tasks and cfg.methods and cfg.trials):
        raise ValueError(f"expected tasks, methods and trials, got {cfg.tasks}, {list(cfg.methods)}, {cfg.trials}")
    for task in cfg.tasks:
        tune(cfg, task)


def tune(cfg: DictConfig, task: str) -> None:
    rows = [measured(cfg, task, method, trial) for trial, method in product(cfg.trials, cfg.methods)]
    best = {method: _best([row for row in rows if row["method"] == method]) for method in cfg.methods}
    out = Path(cfg.out.format(task=task) if cfg.out else RESULTS / f"tuning_{task}.json")
    settings = OmegaConf.to_container(cfg, resolve=True)
    hashes = {"data": rows[0]["data"]}
    write_result(out, {"best": best, "trials": rows, "settings": settings, "versions": versions(), "hashes": hashes})
    print(*(f"{method}: {trial}" for method, trial in best.items()), f"-> {out}", sep="\n")


def measured(cfg: DictConfig, task: str, method: str, trial: str) -> dict:
    """One trial, trained unless it has been, and rolled out unless it has been."""
    folder = Path(cfg.folder) / task
    run = folder / f"{method}_{trial}".replace("=", "_").replace(" ", "_")
    setting = compose("train", [*cfg.settings, f"task={task}", f"method={method}", *trial.split()])
    setting.run, setting.resume = str(run), (run / "config.yaml").exists()
    log = run / "train.jsonl"
    if not any(row["update"] >= setting.fit.updates for row in read_log(log)):
        print("train.py", run, flush=True)
        train_run(setting)
    summary = {"successes": 0, "episodes": 0}
    if cfg.episodes:
        cell = Cell(run, cfg.methods[method], cfg.first_seed, cfg.episodes)
        configure = partial(compose, "eval")
        summary = result_of(cell, folder, configure, processes=cfg.processes)["summary"]
    last = read_log(log)[-1]
    row = {"method": method, "trial": trial, "sampling": dict(cfg.methods[method]), "seed": setting.fit.seed}
    row |= {key: last[key] for key in ("update", "seconds", "val_error")}
    hashes = {"weights": sha256(run / WEIGHTS), "data": load_config(run).data.hash}
    return row | {"summary": summary} | hashes


def _best(rows: list[dict]) -> str:
    return min(rows, key=lambda row: (-row["summary"]["successes"], row["val_error"]))["trial"]


if __name__ == "__main__":
    explain("tune", __doc__)
    main()
