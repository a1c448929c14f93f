"""Disturb policies in mid-episode, all alike, count how often they recover, and test whether they differ in it.

python scripts/recover.py compare=square                                      # the policies of configs/recover.yaml
python scripts/recover.py run=assets/checkpoints/ebt_square episodes=12 video=true   # one, with videos
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.rollout.evaluation import evaluate
from ebt_policy.rollout.recovery import benchmarked, collect, together
from ebt_policy.rollout.recovery_page import first_cases, video_path, write_page
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.rollout.sim import make_env, needs, time_limit
from ebt_policy.rollout.video import RenderError, record_all
from ebt_policy.train.evaluate import Subject, subject
from envs.disturb import DISTURBANCES

SOURCES = [Path(__file__).resolve().parent.parent / "envs" / name for name in ("disturb.py", "handling.py")]


@hydra.main(config_path="../configs", config_name="recover", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    measure(cfg)


def measure(cfg: DictConfig) -> None:
    """Every block that is not there yet, then the JSON of all blocks so far; recover.html at the end."""
    indices = chosen(cfg.kinds, cfg.strengths)
    if cfg.episodes < 1:
        raise ValueError(f"expected at least one episode of each kind and strength, got episodes={cfg.episodes}")
    subjects = {name: limited(subject(acting)) for name, acting in policies(cfg).items()}  # fails before any is run
    indices, timed, word = possible(indices, next(iter(subjects.values())).settings, cfg.after)
    print(word, end="", flush=True)
    folder = Path(cfg.out or (Path(cfg.run, "recover") if cfg.run else Path("runs/recover", cfg.compare)))
    file, played = Path(cfg.json or folder / "recover.json"), {name: [] for name in subjects}
    for i in range(cfg.episodes):
        first = cfg.first_seed + i * len(indices)
        seeds = range(first, first + len(indices))  # every disturbance once
        for name, measured in subjects.items():
            path = folder / "blocks" / re.sub(r"[^\w@.-]+", "_", name) / f"{first}.json"
            played[name].append(_block(measured, seeds, indices, timed, cfg.processes, path))
        write_result(file, result := collect(played))
        told = (f"{name} {about['all']['text']}" for name, about in result["policies"].items())
        print(f"{i + 1} of {cfg.episodes}: recovered {', '.join(told)}", flush=True)
    for test in result["tests"]:
        print(f"{test['scope']:12} {test['one']} - {test['other']}: {test['difference']:+.2f}, p {test['p_holm']:.3g}")
    note = _film(subjects, result, indices, timed, folder) if cfg.video else ""
    print(f"-> {file}\n-> {write_page(folder, result, note)}")


def policies(cfg: DictConfig) -> dict[str, DictConfig]:
    """Name -> how it acts, as in configs/acting.yaml: `run` alone, or those listed for the task to `compare`."""
    if (cfg.run is None) == (cfg.compare is None):
        raise ValueError(f"expected run=FOLDER or compare=square, got run={cfg.run} and compare={cfg.compare}")
    if cfg.run is not None:
        return {Path(cfg.run).name: cfg}
    names = list(cfg.policies) if cfg.only is None else list(cfg.only)
    if unknown := set(names) - set(cfg.policies):
        raise ValueError(f"expected only=[...] of {', '.join(cfg.policies)}, got {', '.join(sorted(unknown))}")
    listed = {name: {**cfg.policies[name], "run": cfg.policies[name].run.format(task=cfg.compare)} for name in names}
    return {name: OmegaConf.merge(cfg, acting) for name, acting in listed.items()}


def chosen(kinds: Sequence[str], strengths: Sequence[int]) -> list[int]:
    """Indices of `DISTURBANCES`."""
    known = {d.kind for d in DISTURBANCES[1:]}
    if unknown := [*sorted(set(kinds) - known), *sorted(set(strengths) - {1, 2, 3})]:
        raise ValueError(f"expected kinds of {', '.join(sorted(known))} and strengths of 1, 2, 3, got {unknown}")
    found = [i for i, d in enumerate(DISTURBANCES) if d.kind in kinds and d.strength in strengths]
    if not found:
        raise ValueError(f"expected kinds and strengths, got kinds={kinds} and strengths={strengths}")
    return found


def limited(measured: Subject) -> Subject:
    """With the task's time limit among its settings, which a disturbed task does not have of itself."""
    return replace(measured, settings=measured.settings | {"max_steps": time_limit(**measured.settings)})


def possible(indices: list[int], settings: dict, after: float) -> tuple[list[int], dict, str]:
    """Those that the task of `settings` can take; when those begin that it cannot time, {} if there are none; a line
    about the others for people, empty if there are none. ValueError if the task can take none of them.
    """
    asked = [DISTURBANCES[index] for index in indices]
    with closing(make_env(settings["env_id"], settings["max_steps"], **settings.get("env_kwargs", {}))) as env:
        needs(env, "recover.py")
        lacking = {disturbance: disturbance.lacks(env) for disturbance in asked}
        timed = {"after": after} if any(d.timed(env) for d in asked if not lacking[d]) else {}
    missing = {disturbance.kind: methods for disturbance, methods in lacking.items() if methods}
    word = "; ".join(f"{kind} needs {', '.join(methods)}" for kind, methods in missing.items())
    word = f"{settings['env_id']} does not take all disturbances, see envs/README.md: {word}\n" if word else ""
    found = [index for index, disturbance in zip(indices, asked, strict=True) if not lacking[disturbance]]
    if not found:
        raise ValueError(word.strip())
    return found, timed, word


def _block(
    measured: Subject, seeds: Sequence[int], indices: list[int], timed: dict, processes: int, path: Path
) -> dict:
    """As many cases as there are disturbances, each meeting another one; from its file if that is of the same weights,
    settings and versions.
    """
    settings = _settings(measured, indices, timed)
    described = measured.described | {"hashes": measured.described["hashes"] | {"disturbances": _hash()}}
    run = {"env_id": measured.settings["env_id"], "max_steps": settings["max_steps"], "after_success": 0}
    run |= {"cells": [DISTURBANCES[index].name for index in indices]} | timed
    run |= {name: measured.settings[name] for name in ("env_kwargs",) if measured.settings.get(name)}
    wanted = {"run": run, "seeds": list(seeds), "versions": versions(), **described}
    if path.exists() and benchmarked(found := json.loads(path.read_text())) == benchmarked(wanted):
        return found
    with tqdm(total=2 * len(seeds), unit="episode", desc=path.parent.name, leave=False) as bar:
        disturbed, undisturbed = (
            evaluate(
                measured.make_agent,
                seeds=seeds,
                processes=processes,
                on_episode=lambda log: bar.update(),
                **way,
                **described,
            )
            for way in (settings, _settings(measured, [0], timed))
        )
    write_result(path, together(disturbed, undisturbed, run))
    return json.loads(path.read_text())


def _settings(measured: Subject, indices: list[int], timed: dict) -> dict:
    """Of `rollout`: the environment of the run, disturbed. Nothing that comes after a success asks for recovery."""
    task = {"task": measured.settings["env_id"]} | measured.settings.get("env_kwargs", {})
    return {
        "env_id": "envs:Disturbed-v0",
        "max_steps": measured.settings["max_steps"],
        "after_success": 0,
        "env_kwargs": task | {"indices": indices} | timed,
    }


def _hash() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()


def _film(subjects: dict[str, Subject], result: dict, indices: list[int], timed: dict, folder: Path) -> str:
    """Videos of the first cases of every kind that are not there yet; returns why some are missing, if so."""
    cases = {name: [e for found in first_cases(result, name).values() for e in found] for name in subjects}
    paths = {name: {folder / video_path(e): e["seed"] for e in found} for name, found in cases.items()}
    for name, measured in subjects.items():
        missing = {path: seed for path, seed in paths[name].items() if not path.exists()}
        films = record_all(measured.make_agent(), paths=missing, **_settings(measured, indices, timed))
        try:
            deque(tqdm(films, total=len(missing), unit="video", desc=name, leave=False), maxlen=0)
        except RenderError as error:
            return f"some videos are missing: {error}"
    return ""


if __name__ == "__main__":
    explain("recover", __doc__)
    main()
