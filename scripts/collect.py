"""Collect demonstrations of a scripted expert.

python scripts/collect.py task=square episodes=200 noise=0.25

Episodes are saved one by one, so a run that was killed goes on where it was; the file does not depend on `processes`.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig
from rich.progress import Progress

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.episodes import DataError, Episode
from ebt_policy.data.spec import Spec
from ebt_policy.data.store import write_store
from ebt_policy.deploy.robot import spec_of
from ebt_policy.rollout.sim import make_env, needs
from envs.record import part, record_into

HOPELESS = 20  # tries without a success after which nothing more is tried


@hydra.main(config_path="../configs", config_name="collect", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    out = Path(cfg.out)
    if out.exists():
        raise DataError(f"expected a new file, {out} exists: delete it or choose another with out=...")
    spec = described(cfg.task.env)
    folder = claim(out, {"env": cfg.task.env, "noise": cfg.noise, "spec": spec.to_dict()})
    seeds = successes(folder, cfg)
    digest = write_store(out, spec, (load(part(folder, seed)) for seed in seeds))
    shutil.rmtree(folder)
    print(f"wrote {out}: {len(seeds)} of the {seeds[-1] - cfg.first_seed + 1} tried succeeded, sha256 {digest}")


def described(env_id: str) -> Spec:
    """What data recorded in an environment says about itself; one that cannot be recorded in fails here, not in a
    worker."""
    with closing(make_env(env_id)) as env:
        needs(env, "collect.py", "expert", "spec_dict")
        return spec_of(env)


def claim(out: Path, settings: dict) -> Path:
    """The folder of `out`'s parts; DataError if parts made under other settings are in it."""
    folder = out.with_name(f"{out.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "settings.json"
    settings = json.loads(json.dumps(settings))
    if note.exists() and json.loads(note.read_text()) != settings:
        raise DataError(f"expected parts made under {settings} in {folder}, got {note.read_text()}: delete the folder")
    note.write_text(json.dumps(settings))
    return folder


def successes(folder: Path, cfg: DictConfig) -> list[int]:
    """The first `cfg.episodes` seeds whose episodes succeed; records what is not yet in `folder`."""
    with Progress() as progress:
        bar = progress.add_task(cfg.task.name, total=cfg.episodes)
        while True:
            good, missing = survey(folder, cfg.first_seed, cfg.episodes)
            progress.update(bar, completed=len(good))
            if not missing:
                return good
            if not good and missing[0] - cfg.first_seed >= HOPELESS:
                raise RuntimeError(f"none of {missing[0] - cfg.first_seed} tries succeeded: is it this task's expert?")
            for done in record_all(folder, cfg, missing):
                progress.update(bar, completed=len(good) + done)


def survey(folder: Path, first_seed: int, episodes: int) -> tuple[list[int], list[int]]:
    """The first `episodes` seeds that may be needed: which of them are recorded and succeeded, which are missing."""
    good, missing = [], []
    for seed in count(first_seed):
        if len(good) + len(missing) == episodes:
            return good, missing
        path = part(folder, seed)
        if not path.exists():
            missing.append(seed)
        elif np.load(path)["success"]:
            good.append(seed)


def record_all(folder: Path, cfg: DictConfig, seeds: list[int]) -> Iterator[int]:
    """Records `seeds` in `cfg.processes` processes; yields now and then how many are done."""
    spawn = multiprocessing.get_context("spawn")
    shares = [seeds[i :: cfg.processes] for i in range(min(cfg.processes, len(seeds)))]
    settings = (folder, cfg.task.env, cfg.noise)
    workers = [spawn.Process(target=record_into, args=(*settings, share), daemon=True) for share in shares]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.5)
        yield sum(part(folder, seed).exists() for seed in seeds)
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("a recording process failed, see above: run the same command again to go on")


def load(path: Path) -> Episode:
    with np.load(path) as saved:
        obs = {name.removeprefix("obs/"): saved[name] for name in saved.files if name.startswith("obs/")}
        return Episode(
            obs=obs,
            action=saved["action"],
            executed=saved["executed"],
            initial_state=saved.get("initial_state"),
            success=bool(saved["success"]),
            seed=int(saved["seed"]),
        )


if __name__ == "__main__":
    explain("collect", __doc__)
    main()
