"""What `rollout` costs beside the simulator and the network, and what a second process gains.

    python scripts/bench_rollout.py --out assets/results/bench_rollout.json

Overhead: an episode of an agent, without the seconds of its planning, over the bare simulator's reset and the
same actions again. Processes: episodes of equal length in one process and in two, without the workers' start.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ebt_policy.bench import Ratio, Times, ratios_table, save, times_table, untrained
from ebt_policy.cli import fail_cleanly
from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.rollout.sim import make_env, one_thread, rollout, run_episode
from ebt_policy.tasks.robot import ActionChunk, Policy
from ebt_policy.train.build import load_policy

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
EPISODE, BARE, ONE, TWO = "rollout besides planning", "bare simulator", "1 process", "2 processes"


@fail_cleanly
def main() -> None:
    args = _parser().parse_args()
    env_id = _config(args.task, args.net).task.env
    make_agent = partial(make_agent_of, args.run, args.task, args.net)
    with one_thread():
        times = overhead(make_agent().policy, env_id, args.rounds, args.steps)
    times |= processes(make_agent, env_id, args.repeats, args.episodes, args.steps)
    ratios = [
        Ratio.of(f"{EPISODE} / {BARE}", times[EPISODE], times[BARE], "<= 1.10"),
        Ratio.of(f"speed of {TWO} / {ONE}", times[ONE], times[TWO], ">= 1.7"),
    ]
    print(times_table(f"an episode of {args.steps} steps", times))
    print("\n" + ratios_table(ratios))
    save(args, times, ratios)


def overhead(policy: Policy, env_id: str, rounds: int, steps: int) -> dict[str, Times]:
    """Seconds of an episode besides planning, and of the bare simulator under the same actions."""
    timed = TimedPolicy(policy)
    env, agent, times = make_env(env_id, steps), Remembering(timed), {EPISODE: Times(), BARE: Times()}
    for seed in range(rounds + 1):
        before = timed.planning
        episode = _seconds(lambda seed=seed: run_episode(env, agent, seed, after_success=steps))
        bare = _seconds(lambda seed=seed: replay(env.unwrapped, seed, agent.actions))
        if seed:  # the first one finds cold caches
            times[EPISODE].add(*(episode - (timed.planning - before)))
            times[BARE].add(*bare)
    env.close()
    return times


def processes(make_agent: Callable, env_id: str, repeats: int, episodes: int, steps: int) -> dict[str, Times]:
    """Seconds an episode, all of one length, in one process and in two that have started already."""
    times = {ONE: Times(), TWO: Times()}
    for _ in range(repeats):
        for count, name in enumerate(times, 1):
            ends = []
            rollout(
                make_agent,
                env_id,
                range(episodes),
                processes=count,
                max_steps=steps,
                after_success=steps,
                on_episode=lambda log, ends=ends: ends.append(time.perf_counter()),
            )
            times[name].wall.append((ends[-1] - ends[count - 1]) / (episodes - count))
    return times


class TimedPolicy:
    """A policy that adds up the seconds, wall and CPU, of its planning: all that the network computes."""

    def __init__(self, policy: Policy):
        self.policy, self.planning = policy, np.zeros(2)
        self.spec, self.horizon, self.device = policy.spec, policy.horizon, policy.device

    def predict_action(self, *args, **settings) -> ActionChunk:
        chunk = self._timed(self.policy.predict_action)(*args, **settings)
        return chunk if chunk.score is None else replace(chunk, score=self._timed(chunk.score))

    def _timed(self, call: Callable) -> Callable:
        def timed(*args, **settings):
            start = _now()
            result = call(*args, **settings)
            self.planning = self.planning + (_now() - start)  # a new array: `overhead` keeps the old one
            return result

        return timed


class Remembering(ChunkedAgent):
    """An agent that keeps the actions of its episode."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.actions: list[np.ndarray] = []

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        self.actions.append(super().act(obs))
        return self.actions[-1]


def replay(env: gym.Env, seed: int, actions: list[np.ndarray]) -> None:
    env.reset(seed=seed)
    for action in actions:
        env.step(action)


def make_agent_of(run: Path | None, task: str, net: str) -> ChunkedAgent:
    """Of a trained run, else with random weights; a module-level function, so that worker processes can make theirs."""
    if run is not None:
        return ChunkedAgent(load_policy(run))
    return ChunkedAgent(untrained(_config(task, net))[0].eval().requires_grad_(False))


def _config(task: str, net: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [f"task={task}", f"net={net}"])


def _seconds(call: Callable[[], object]) -> np.ndarray:
    start = _now()
    call()
    return _now() - start


def _now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a trained policy (default: random weights)")
    parser.add_argument("--task", default="lift", help="configs/task/<name>.yaml")
    parser.add_argument("--net", default="small", help="configs/net/<name>.yaml, without --run")
    parser.add_argument("--steps", type=int, default=100, help="of an episode")
    parser.add_argument("--rounds", type=int, default=10, help="episodes of which the overhead is taken")
    parser.add_argument("--episodes", type=int, default=16, help="of one rollout, to compare 1 and 2 processes")
    parser.add_argument("--repeats", type=int, default=3, help="rollouts with 1 and with 2 processes")
    parser.add_argument("--out", type=Path, help="JSON, e.g. assets/results/bench_rollout.json")
    return parser


if __name__ == "__main__":
    main()
