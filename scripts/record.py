"""Record demonstrations: a person steers the robot, and what was kept is added to a file that training reads.

python scripts/record.py task=lift device=keyboard out=runs/mine.zarr.zip episodes=10

Every episode is in the file as soon as it is kept; a run that is killed loses the one that was running.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.episodes import DataError, Episode, with_obs_keys
from ebt_policy.data.spec import Spec
from ebt_policy.data.store import append_episode, check_appendable, open_episodes
from ebt_policy.deploy.clock import Clock, WallClock
from ebt_policy.deploy.control import Tick
from ebt_policy.deploy.devices.keyboard import Keyboard
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.record import Recorder
from ebt_policy.deploy.robot import Observation, SimRobot
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.teleop import Steering, Teleoperator, Verdict, demonstrate
from ebt_policy.rollout.sim import make_env
from ebt_policy.train.build import make

SHOWN_EVERY = 5  # ticks
SHORTEST = 2  # ticks
PLACE = {"float": "{:.3f}".format}


@dataclass(frozen=True)
class Desk:
    """Everything that recording needs, as the config has it."""

    cfg: DictConfig
    inner: SimRobot
    robot: SafeRobot
    spec: Spec  # of the file
    clock: Clock
    operator: Teleoperator


@hydra.main(config_path="../configs", config_name="record", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, frame: sys.exit(128 + number))  # leave by the way that stops the arm
    with laid_out(cfg, WallClock()) as desk:
        record(desk)


@contextmanager
def laid_out(cfg: DictConfig, clock: Clock) -> Iterator[Desk]:
    limits = Limits.from_dict(OmegaConf.to_container(cfg.robot).get("limits") or {})
    with closing(make_env(cfg.robot.env or cfg.task.env)) as env:
        robot = SimRobot.from_dict(OmegaConf.to_container(cfg.robot), env, clock, cfg.first_seed)
        steering = Steering(robot.spec, robot.motion, **cfg.steering)
        operator = make(cfg.device)(Keyboard(clock, cfg.hold), steering)
        spec = with_obs_keys(robot.spec, list(cfg.task.obs))
        yield Desk(cfg, robot, SafeRobot(robot, limits, clock), spec, clock, operator)


def record(desk: Desk) -> None:
    """Until enough episodes are kept or the operator quits."""
    cfg, out, kept = desk.cfg, Path(desk.cfg.out), 0
    seed = first_seed(desk, out)
    with desk.operator, desk.robot:  # the arm stops before the keyboard is let go
        print(desk.operator.steering)
        verdict = ""
        while kept < cfg.episodes and verdict != "quit":
            print(f"episode {kept + 1} of {cfg.episodes}, seed {seed}: it begins when you steer")
            verdict, episode = episode_of(desk, seed)
            if verdict == "keep" and episode is not None:
                append_episode(out, desk.spec, episode)
                kept += 1
            print(f"\r\x1b[K{'kept' if verdict == 'keep' else 'discarded'}: {told(episode)}")
            seed += episode is not None
    print(f"{kept} episodes added to {out}" if kept else "nothing was kept")


def first_seed(desk: Desk, out: Path) -> int:
    """The first seed that the file does not have; DataError if what is recorded here does not fit into it."""
    if not out.name.endswith(".zarr.zip"):
        raise DataError(f"expected out=<file>.zarr.zip, which can be added to, got {out.name!r}")
    if not out.exists():
        return desk.cfg.first_seed
    data = open_episodes(out)
    empty = np.empty(0)
    check_appendable(data, desk.spec, Episode({}, empty, executed=empty, initial_state=empty, success=False, seed=0))
    return max(desk.cfg.first_seed, int(data.seed.max()) + 1)


def episode_of(desk: Desk, seed: int) -> tuple[Verdict, Episode | None]:
    """One episode from the initial state of `seed`; None if nobody steered."""
    recorder, solved = Recorder(), False
    desk.inner.reset(seed)
    desk.robot.reset()
    initial = desk.inner.env.unwrapped.state()

    def on_tick(tick: Tick) -> None:
        nonlocal solved  # before the arm brakes, which is not recorded
        recorder(tick)
        solved = desk.inner.success

    verdict = demonstrate(desk.robot, desk.operator, desk.clock, desk.cfg.seconds, on_tick, status_line(desk))
    if len(recorder.ticks) < SHORTEST:
        return verdict, None
    episode = desk.operator.shown(recorder.episode(desk.spec, solved, seed))
    return verdict, replace(episode, initial_state=initial)


def told(episode: Episode | None) -> str:
    if episode is None:
        return "nothing, nobody steered"
    return f"{len(episode)} steps, {'solved' if episode.success else 'not solved'}"


def status_line(desk: Desk) -> Callable[[Observation, int, str], None]:
    """What the operator sees while steering: a line with where things are, written over itself."""
    keys, turns = with_obs_keys(desk.inner.spec, [desk.inner.motion.key, *desk.cfg.show]).obs, count()

    def show(look: Observation, ticks: int, held: str) -> None:
        if next(turns) % SHOWN_EVERY == 0:
            places = [f"{key} {np.array2string(look.values[key].ravel()[:3], formatter=PLACE)}" for key in keys]
            seconds = f"{ticks / desk.robot.spec.hz:5.1f} s"
            held = f"HELD: {held}" if held else ""
            sys.stdout.write("\r\x1b[K" + "  ".join([seconds, *places, held]))
            sys.stdout.flush()

    return show


if __name__ == "__main__":
    explain("record", __doc__)
    main()
