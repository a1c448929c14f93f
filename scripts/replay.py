"""Replay demonstrations open loop in simulation: python scripts/replay.py FILE [n]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
from rich.progress import track

from ebt_policy.cli import fail_cleanly
from ebt_policy.data.episodes import DataError, Episode, EpisodeData
from ebt_policy.data.store import open_episodes
from ebt_policy.rollout.sim import beginning
from envs import from_env_args
from envs.protocol import offer, succeeded, without_limit


@fail_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        description="Replays demonstrations open loop from their initial states, or from their seeds where the "
        "environment cannot return to a state, with the actions that were executed where the file has them, else with "
        "its actions, and counts those that still succeed.",
        epilog="example: python scripts/replay.py assets/demos/lift.zarr.zip 20 strict=true",
    )
    parser.add_argument("file", type=Path, help="our store or robomimic HDF5")
    parser.add_argument("n", nargs="?", help="only the first n episodes (default: all)")
    parser.add_argument(
        "settings",
        nargs="*",
        help="filter_key=NAME: of a robomimic file only these episodes; strict=true: refuse other simulator versions; "
        "env=ID: in this environment, such as my_tasks:Drawer-v0, and not in the one that the file names",
    )
    arguments = parser.parse_args()
    n, filter_key, strict, env_id = settings([arguments.n or "", *arguments.settings])

    data = open_episodes(arguments.file, filter_key)
    env = environment(data, env_id)
    for mismatch in version_mismatches(data, env):
        if strict:
            raise DataError(mismatch)
        print(f"warning: {mismatch}", file=sys.stderr)
    chosen = range(len(data) if n is None else min(n, len(data)))
    if not chosen:
        raise DataError(f"expected at least 1 episode to replay, got n={n}")
    outcomes = [replay(env, data.episode(i)) for i in track(chosen, "replaying")]
    failed = [i for i, ok in zip(chosen, outcomes, strict=True) if not ok]
    what = "executed" if data.executed is not None else "recorded"
    print(f"{sum(outcomes)} of {len(outcomes)} still succeed ({np.mean(outcomes):.1%}) under the actions {what}")
    if failed:
        print(f"not: {', '.join(map(str, failed))}")


def settings(words: list[str]) -> tuple[int | None, str | None, bool, str | None]:
    """["20", "strict=true"] -> n, filter_key, strict, env; DataError for anything else."""
    given = {}
    for word in filter(None, words):
        name, _, value = word.rpartition("=")
        given[name or "n"] = value
    unknown = given.keys() - {"n", "filter_key", "strict", "env"}
    if unknown or not given.get("n", "0").isdigit() or given.get("strict", "true") not in ("true", "false"):
        said = " ".join(filter(None, words))
        raise DataError(f"expected a number, filter_key=NAME, strict=true or env=ID, got {said!r}")
    n = int(given["n"]) if "n" in given else None
    return n, given.get("filter_key"), given.get("strict") == "true", given.get("env")


def environment(data: EpisodeData, env_id: str | None = None) -> gym.Env:
    """The environment that the user or the file names; DataError if nobody does, or nothing says how episodes began."""
    if not data.spec.env_args and env_id is None:
        raise DataError("expected the file to name its environment (env_args), it does not: say env=<environment>")
    env = from_env_args(data.spec.env_args) if env_id is None else without_limit(env_id)
    if beginning(env, data.episode(0)) is None:
        states = data.initial_state is not None or data.states is not None
        missing = "the environment has no state() for those, see envs/README.md" if states else "there are none"
        raise DataError(f"expected simulator states in the file, or seeds, {missing}: it cannot be replayed")
    if env.action_space.shape != (data.spec.action.dim,):
        raise DataError(f"expected actions of {env.action_space.shape[0]} numbers, got {data.spec.action.dim}")
    return env


def version_mismatches(data: EpisodeData, env: gym.Env) -> list[str]:
    recorded = data.spec.simulator
    return [
        f"recorded with {package} {recorded[package]}, replayed with {here}: the physics may differ"
        for package, here in offer(env, "versions", {}).items()
        if recorded.get(package, here) != here
    ]


def replay(env: gym.Env, episode: Episode) -> bool:
    """Whether the episode's actions solve the task at any time, from its initial state or its seed."""
    env.reset(**beginning(env, episode))
    for action in episode.action if episode.executed is None else episode.executed:
        _, _, terminated, truncated, info = env.step(action)
        if succeeded(info, env):
            return True
        if terminated or truncated:
            break
    return False


if __name__ == "__main__":
    main()
