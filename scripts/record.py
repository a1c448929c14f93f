"""Record demonstrations: a person steers the robot, and what was kept is added to a file that training reads.

python scripts/record.py task=lift device=keyboard out=runs/mine.zarr.zip episodes=10
python scripts/record.py robot=franka robot.arm.host=172.16.0.2 device=spacemouse out=runs/mine.zarr.zip

Every episode is in the file as soon as it is kept; a run that is killed loses the one that was running. Whether a task
is solved only a simulator knows: of a real arm it is not stored. An arm's computer has no torch: what needs it is
imported where it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import CONFIGS, explain, fail_cleanly, leave_on_signals
from ebt_policy.data.episodes import DataError, Episode, with_obs_keys
from ebt_policy.data.spec import Spec
from ebt_policy.data.store import append_episode, check_appendable, open_episodes
from ebt_policy.deploy.clock import Clock, WallClock
from ebt_policy.deploy.control import Tick
from ebt_policy.deploy.devices.keyboard import Keyboard
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.record import Recorder
from ebt_policy.deploy.robot import Observation, Robot, SimRobot
from ebt_policy.deploy.robots import connect
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.scene import Scene, Simulated, Unwatched
from ebt_policy.deploy.simulated import in_task
from ebt_policy.deploy.teleop import Steering, Teleoperator, Verdict, demonstrate
from ebt_policy.deploy.watch import monitors

SHOWN_EVERY = 5  # ticks
SHORTEST = 2  # ticks
PLACE = {"float": "{:.3f}".format}
SAID = {True: ", solved", False: ", not solved", None: ""}


@dataclass(frozen=True)
class Desk:
    """Everything that recording needs, as the config has it."""

    cfg: DictConfig
    inner: Robot
    robot: SafeRobot
    scene: Scene
    spec: Spec  # of the file
    clock: Clock
    operator: Teleoperator

    @property
    def simulated(self) -> bool:
        return isinstance(self.inner, SimRobot)


@hydra.main(config_path="../configs", config_name="record", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    leave_on_signals()
    with laid_out(cfg, WallClock()) as desk:
        record(desk)


@contextmanager
def laid_out(cfg: DictConfig, clock: Clock) -> Iterator[Desk]:
    said = OmegaConf.to_container(cfg.task).get("robot")
    settings = in_task(OmegaConf.to_container(cfg.robot), said, CONFIGS / "robot" / "sim.yaml")
    limits, real = Limits.from_dict(settings.get("limits") or {}), cfg.robot.kind != "sim"
    with nullcontext(connect(settings, clock)) if real else simulated(cfg, settings, clock) as robot:
        steering = Steering(robot.spec, robot.motion, **cfg.steering)
        operator = hydra.utils.instantiate(cfg.device, _convert_="all")(Keyboard(clock, cfg.hold), steering)
        spec = robot.spec if real else with_obs_keys(robot.spec, list(cfg.task.obs))
        scene = Unwatched() if real else Simulated(robot)
        yield Desk(cfg, robot, SafeRobot(robot, limits, clock), scene, spec, clock, operator)


@contextmanager
def simulated(cfg: DictConfig, settings: dict[str, Any], clock: Clock) -> Iterator[SimRobot]:
    from ebt_policy.rollout.sim import make_env, needs

    with closing(make_env(cfg.robot.env or cfg.task.env)) as env:
        needs(env, "robot=sim", "spec_dict")
        yield SimRobot.from_dict(settings, env, clock, cfg.first_seed)


def record(desk: Desk) -> None:
    """Until enough episodes are kept or the operator quits."""
    cfg, out, kept = desk.cfg, Path(desk.cfg.out), 0
    seed = first_seed(desk, out)
    with desk.operator, desk.robot:  # the arm stops before the keyboard is let go
        print(desk.operator.steering)
        verdict = ""
        while kept < cfg.episodes and verdict != "quit":
            place = f"seed {seed}" if desk.simulated else "put everything where it belongs"
            print(f"episode {kept + 1} of {cfg.episodes}, {place}: it begins when you steer")
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
    data, empty = open_episodes(out), np.empty(0)
    known = {"success": False, "seed": 0} if desk.simulated else {}
    known |= {"initial_state": empty} if desk.simulated and desk.inner.env.has_wrapper_attr("state") else {}
    check_appendable(data, desk.spec, Episode({}, empty, executed=empty, **known))
    return max(desk.cfg.first_seed, int(data.seed.max()) + 1) if desk.simulated else desk.cfg.first_seed


def episode_of(desk: Desk, seed: int) -> tuple[Verdict, Episode | None]:
    """One episode, in simulation from the initial state of `seed`; None if nobody steered."""
    recorder = Recorder()
    desk.scene.ready(seed)
    desk.robot.reset()
    known = {"initial_state": began(desk), "seed": seed} if desk.simulated else {}

    def on_tick(tick: Tick) -> None:
        recorder(tick)
        desk.scene.over()  # looks before the arm brakes, which is not recorded

    alarms = [] if desk.simulated else monitors(desk.cfg.alarms)  # simulated pictures of what stands still are the same
    settings = desk.cfg.seconds, on_tick, status_line(desk), alarms
    verdict = demonstrate(desk.robot, desk.operator, desk.clock, *settings)
    if len(recorder.ticks) < SHORTEST:
        return verdict, None
    episode = desk.operator.shown(recorder.episode(desk.spec, desk.scene.success()))
    return verdict, replace(episode, **known)


def began(desk: Desk) -> np.ndarray | None:
    """What an episode that was just reset begins from, if the simulator can say."""
    from envs.protocol import initial_state

    return initial_state(desk.inner.env)


def told(episode: Episode | None) -> str:
    return "nothing, nobody steered" if episode is None else f"{len(episode)} steps{SAID[episode.success]}"


def status_line(desk: Desk) -> Callable[[Observation, int, str], None]:
    """What the operator sees while steering: a line with where things are, written over itself."""
    keys, turns = [key for key in (desk.inner.motion.key, *desk.cfg.show) if key in desk.inner.spec.obs], count()

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
