"""Episodes in a simulator, in one process or several, with the same outcome either way."""

from __future__ import annotations

import hashlib
import multiprocessing as mp
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import connection
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from ebt_policy import bounds
from ebt_policy.rollout.agent import Agent
from ebt_policy.rollout.result import EpisodeLog


def rollout(
    make_agent: Callable[[], Agent],
    env_id: str,
    seeds: Sequence[int],
    *,
    processes: int = 1,
    max_steps: int | None = None,
    after_success: int = 10,
    env_kwargs: dict[str, Any] | None = None,
    on_episode: Callable[[EpisodeLog], None] | None = None,
) -> list[EpisodeLog]:
    """One episode per seed, in the order of `seeds`: the seed sets the initial state and the agent's sampler.

    Every worker builds the environment and the agent once and computes on one thread, so the logs are the same bit for
    bit with 1 or n processes. With several, `make_agent` must pickle: a module-level function or a functools.partial.

    max_steps: None keeps the environment's own time limit. after_success: an episode goes on for so many steps after
    its first success (0 stops there), so that `success_end` tells a held success from a passing one.
    on_episode: called in this process as each episode ends, in any order.
    """
    seeds = _distinct(seeds)
    bounds.whole("processes", processes, "[1, inf)")
    bounds.whole("max_steps", max_steps, "[1, inf) or null")
    bench = _Bench(make_agent, env_id, max_steps, after_success, env_kwargs or {}, torch.get_float32_matmul_precision())
    logs: dict[int, EpisodeLog] = {}
    with closing(_here(bench, seeds) if min(processes, len(seeds)) == 1 else _spread(bench, seeds, processes)) as run:
        for log in run:
            logs[log.seed] = log
            if on_episode is not None:
                on_episode(log)
    return [logs[seed] for seed in seeds]


def make_env(env_id: str, max_steps: int | None = None, **kwargs: Any) -> gym.Env:
    """The environment with a time limit; ValueError if neither it nor the caller sets one."""
    limit = {} if max_steps is None else {"max_episode_steps": max_steps}
    env = gym.make(env_id, disable_env_checker=True, **limit, **kwargs)
    if env.spec is None or env.spec.max_episode_steps is None:
        env.close()
        raise ValueError(f"expected a time limit, got none for {env_id}: register max_episode_steps or pass max_steps")
    return env


def time_limit(env_id: str, max_steps: int | None = None, env_kwargs: dict[str, Any] | None = None) -> int:
    """Control steps after which an episode of `rollout` with these settings ends."""
    if max_steps is not None:
        return max_steps
    with closing(make_env(env_id, **env_kwargs or {})) as env:
        return env.spec.max_episode_steps


def rate(env: gym.Env) -> float | None:
    """Control steps a second, if the environment says so."""
    said = env.get_wrapper_attr("spec_dict")() if env.has_wrapper_attr("spec_dict") else {}
    return said.get("hz") or env.metadata.get("render_fps")


def beginning(env: gym.Env, episode: Any) -> dict[str, Any] | None:
    """Arguments of `reset` that bring back how a demonstration began: its state, if the environment can return to one,
    else its seed; None if neither tells."""
    states = [episode.initial_state, None if episode.states is None else episode.states[0]]
    start = next((state for state in states if state is not None), None)
    if start is not None and env.has_wrapper_attr("state"):
        return {"options": {"state": start}}
    return None if episode.seed is None else {"seed": episode.seed}


def needs(env: gym.Env, who: str, *offers: str) -> None:
    """ValueError, in one line with the place to read, unless the environment or what it wraps has all of `offers`.

    Everybody needs observations that have names, and actions within limits.
    """
    missing = [name for name in offers if not env.has_wrapper_attr(name)]
    if not isinstance(env.observation_space, gym.spaces.Dict):
        missing.append("observations with names (a Dict space)")
    if not isinstance(env.action_space, gym.spaces.Box) or len(env.action_space.shape) != 1:
        missing.append("actions of shape (Da,) (a Box space)")
    if missing:
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        raise ValueError(f"{who} needs of {name} what it does not offer: {', '.join(missing)}: see envs/README.md")


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch sums in another order on another number of threads: episodes repeat exactly only on the same number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_episode(
    env: gym.Env,
    agent: Agent,
    seed: int,
    after_success: int = 10,
    on_step: Callable[[int], None] | None = None,
) -> EpisodeLog:
    """One episode until `after_success` steps past its first success, termination or the time limit.

    on_step: called with 0 after the reset and with t after step t, e.g. to render.
    """
    obs, _ = env.reset(seed=seed)
    agent.reset(seed)
    on_step = on_step or _ignore
    on_step(0)
    first, digest = None, hashlib.sha256()
    for step in count(1):
        action = agent.act(obs)
        digest.update(action.tobytes())
        obs, _, terminated, truncated, info = env.step(action)
        success = _success(info, env)
        if success and first is None:
            first = step
        on_step(step)
        if terminated or truncated or (first is not None and step - first >= after_success):
            break
    return EpisodeLog(
        seed=seed,
        success=first is not None,
        success_end=success,
        length=step if first is None else first,
        steps=[c.steps for c in agent.chunks],
        energies=[c.energies for c in agent.chunks],
        grad_norm=[c.grad_norm for c in agent.chunks],
        digest=digest.hexdigest()[:16],
        latency=[c.latency for c in agent.chunks],
        report=info.get("report", {}),
        signals=[c.signals for c in agent.chunks if c.signals],
    )


@dataclass(frozen=True)
class _Bench:
    """What a process needs to run episodes."""

    make_agent: Callable[[], Agent]
    env_id: str
    max_steps: int | None
    after_success: int
    env_kwargs: dict[str, Any]
    precision: str  # of float32 matmuls: a setting of this process that a new one would not have


class _Stage:
    """An environment and an agent, built once for many episodes."""

    def __init__(self, bench: _Bench):
        self.env = make_env(bench.env_id, bench.max_steps, **bench.env_kwargs)
        self.agent = bench.make_agent()
        self.after_success = bench.after_success
        self.agent.reset(0)
        self.agent.act(self.env.reset(seed=0)[0])  # a network's first call is slow and would count as latency

    def play(self, seed: int) -> EpisodeLog:
        return run_episode(self.env, self.agent, seed, self.after_success)


def _here(bench: _Bench, seeds: list[int]) -> Iterator[EpisodeLog]:
    with one_thread():
        stage = _Stage(bench)
        with closing(stage.env):
            yield from map(stage.play, seeds)


def _spread(bench: _Bench, seeds: list[int], processes: int) -> Iterator[EpisodeLog]:
    workers = min(processes, len(seeds))
    pool = ProcessPoolExecutor(workers, mp.get_context("spawn"), initializer=_enter, initargs=(bench,))
    try:
        for done in as_completed([pool.submit(_play, seed) for seed in seeds]):
            yield done.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a rollout worker died, probably killed for lack of memory ({workers} processes): run with processes=1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_WORKER: dict[str, Any] = {}  # of a worker process: its bench and, from its first episode on, its stage


def _enter(bench: _Bench) -> None:
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(bench.precision)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _WORKER["bench"] = bench


def _play(seed: int) -> EpisodeLog:
    if "stage" not in _WORKER:  # here and not in _enter, so that an error reaches the caller with its message
        _WORKER["stage"] = _Stage(_WORKER["bench"])
    return _WORKER["stage"].play(seed)


def _die_with_parent() -> None:
    """A killed evaluation leaves no workers behind."""
    connection.wait([mp.parent_process().sentinel])
    os._exit(1)


def _distinct(seeds: Sequence[int]) -> list[int]:
    seeds = [int(s) for s in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"expected one or more distinct seeds, got {seeds[:10]}: give each episode its own")
    return seeds


def _success(info: dict, env: gym.Env) -> bool:
    if "success" not in info:
        raise ValueError(f"expected info['success'] from {env.spec.id}, got {sorted(info)}: report it in every step")
    return bool(np.all(info["success"]))


def _ignore(step: int) -> None:
    pass
