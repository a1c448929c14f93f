"""Disturb a trained policy in mid-episode and count how often it recovers; compare two that were disturbed alike.

python scripts/recover.py run=assets/checkpoints/ebt_square episodes=100
python scripts/recover.py runs=[assets/checkpoints/ebt_square,assets/checkpoints/diffusion_square]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import hydra
from omegaconf import DictConfig
from tqdm import tqdm

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.recovery import FILE, benchmarked, collect, compare, read_recovery
from ebt_policy.rollout.recovery_page import video_path, write_page
from ebt_policy.rollout.result import evaluate, versions, write_result
from ebt_policy.rollout.video import RenderError, record
from ebt_policy.train.evaluate import Subject, subject
from envs.disturb import DISTURBANCES, Disturbance

SOURCES = [Path(__file__).resolve().parent.parent / "envs" / name for name in ("disturb.py", "handling.py")]
CASES = 10  # videos of a kind


@hydra.main(config_path="../configs", config_name="recover", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    if (cfg.run is None) == (cfg.runs is None) or (cfg.runs is not None and len(cfg.runs) != 2):
        raise ValueError(f"expected run=FOLDER to measure or runs=[ONE,OTHER] to compare, got {cfg.run} and {cfg.runs}")
    if cfg.runs is None:
        measure(cfg)
    else:
        tell(*map(Path, cfg.runs))


def measure(cfg: DictConfig) -> None:
    """Every cell that is not there yet; recover.json and recover.html of all that were asked for."""
    folder, measured = Path(cfg.out or Path(cfg.run) / "recover"), subject(cfg)
    cells, disturbances = {}, chosen(cfg.kinds, cfg.strengths)
    for disturbance in disturbances:
        path = folder / "cells" / f"{disturbance.name}.json"
        cells[disturbance.name] = _cell(cfg, measured, disturbance, path)
        result = collect(cells)
        print(f"{disturbance.name:14}", result["cells"][disturbance.name]["text"], flush=True)
    write_result(folder / FILE, result)
    videos, note = _film(measured, disturbances, result["seeds"], folder) if cfg.video else ({}, "")
    print(f"-> {write_page(folder, videos, note)}")


def tell(one: Path, other: Path) -> None:
    """Prints how two runs differ."""
    a, b = (read_recovery(run if (run / FILE).exists() else run / "recover") for run in (one, other))
    print(f"one: {one}\nother: {other}\nhit in both; p of the exact McNemar test, as it is and corrected by Holm")
    for name, test in compare(a, b).items():
        differ = f"only one {test['only_one']}, only other {test['only_other']} of {test['shared']}"
        texts = f"one {a['cells'][name]['text']}, other {b['cells'][name]['text']}"
        print(f"{name:14} {texts}: {differ}, p {test['p']:.3g}, {test['p_holm']:.3g}")


def chosen(kinds: Sequence[str], strengths: Sequence[int]) -> list[Disturbance]:
    known = {d.kind for d in DISTURBANCES}
    if unknown := [*sorted(set(kinds) - known), *sorted(set(strengths) - {1, 2, 3})]:
        raise ValueError(f"expected kinds of {', '.join(sorted(known))} and strengths of 1, 2, 3, got {unknown}")
    found = [d for d in DISTURBANCES if d.kind in kinds and d.strength in (0, *strengths)]
    if not found:
        raise ValueError(f"expected kinds and strengths, got kinds={kinds} and strengths={strengths}")
    return found


def _cell(cfg: DictConfig, measured: Subject, disturbance: Disturbance, path: Path) -> dict:
    """The evaluation under one disturbance, from its file if that is of the same weights, settings and versions."""
    settings, seeds = _settings(measured, disturbance), list(range(cfg.first_seed, cfg.first_seed + cfg.episodes))
    described = measured.described | {"hashes": measured.described["hashes"] | {"disturbances": _hash()}}
    run = {"env_id": settings["env_kwargs"]["task"], "max_steps": settings["max_steps"], "after_success": 0}
    wanted = {"run": run, "seeds": seeds, "versions": versions(), **described}
    if path.exists() and benchmarked(found := json.loads(path.read_text())) == benchmarked(wanted):
        return found
    with tqdm(total=len(seeds), unit="episode", desc=disturbance.name, leave=False) as bar:
        result = evaluate(
            measured.make_agent,
            seeds=seeds,
            processes=cfg.processes,
            on_episode=lambda log: bar.update(),
            after_success=0,  # what hits a policy after its success asks for no recovery
            **settings,
            **described,
        )
    write_result(path, result | {"run": run})
    return json.loads(path.read_text())


def _settings(measured: Subject, disturbance: Disturbance) -> dict:
    """Of `rollout`: the environment of the run, disturbed."""
    task = measured.settings["env_id"]
    return {
        "env_id": "envs:Disturbed-v0",
        "max_steps": measured.settings["max_steps"] or gym.spec(task.split(":")[-1]).max_episode_steps,
        "env_kwargs": {"task": task, "index": DISTURBANCES.index(disturbance)},
    }


def _hash() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()


def _film(measured: Subject, disturbances: list[Disturbance], seeds: list[int], folder: Path) -> tuple[dict, str]:
    """Videos of the first cases of every kind, at its greatest strength: cell -> seeds; and why there are none."""
    agent, videos = measured.make_agent(), {}
    strongest = {d.kind: d for d in disturbances}  # the last of a kind stays
    try:
        for disturbance in strongest.values():
            settings = _settings(measured, disturbance)
            for seed in seeds[:CASES]:
                record(agent, path=folder / video_path(disturbance.name, seed), seed=seed, after_success=0, **settings)
                videos.setdefault(disturbance.name, []).append(seed)
    except RenderError as error:
        return videos, f"no more videos: {error}"
    return videos, ""


if __name__ == "__main__":
    explain("recover", __doc__)
    main()
