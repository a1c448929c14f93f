"""Put a policy on a robot, one rung at a time: stage=check, replay, shadow, dry, run.

python scripts/deploy.py run=assets/checkpoints/ebt_lift robot=sim stage=run episodes=10 inject=0.06
python scripts/deploy.py robot=franka server=ws://gpu:8765 token=... out=runs/arm stage=check

A real arm's computer has no torch: what needs it is imported where it is used.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from ebt_policy.cli import explain, fail_cleanly
from ebt_policy.data.spec import Spec
from ebt_policy.data.store import open_episodes, write_store
from ebt_policy.deploy import ladder
from ebt_policy.deploy.client import RemotePlanner
from ebt_policy.deploy.clock import Clock, FakeClock, WallClock
from ebt_policy.deploy.control import Monitor, Operator, Outcome, control
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.link import Delayed, Threaded
from ebt_policy.deploy.plan import Planner, Terms
from ebt_policy.deploy.record import Recorder
from ebt_policy.deploy.robot import Robot, SimRobot
from ebt_policy.deploy.robots import connect
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Scheduler, Timing
from ebt_policy.deploy.watch import FrozenPictures, Keyboard, SteepPlans

if TYPE_CHECKING:
    from ebt_policy.deploy.planner import LocalPlanner
    from ebt_policy.rollout.sim import EpisodeLog

UNHURRIED = 60.0  # s that planning may really take where the clock is not real


@dataclass(frozen=True)
class Desk:
    """Everything that a rung needs, as the config has it."""

    cfg: DictConfig
    trained: DictConfig | None  # the run's own config; None: it is where the server is
    inner: Robot
    limits: Limits
    clock: Clock
    planner: Planner
    terms: Terms
    timing: Timing
    operator: Operator | None  # one for all episodes: two that read the same keyboard would take each other's keys

    @property
    def simulated(self) -> bool:
        return isinstance(self.inner, SimRobot)

    @property
    def robot(self) -> SafeRobot:
        return SafeRobot(self.inner, self.limits, self.clock)

    def demos(self):
        if not self.cfg.demos and self.trained is None:
            raise ValueError("expected demos=<file of demonstrations>, or run=<folder> whose task has one")
        return open_episodes(self.cfg.demos or self.trained.task.data, obs_keys=list(self.terms.spec["obs"]))


@hydra.main(config_path="../configs", config_name="deploy", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    stages = {"check": check, "replay": replay, "shadow": shadow, "dry": dry, "run": run}
    if cfg.stage not in stages:
        raise ValueError(f"stage is one of {', '.join(stages)}, got {cfg.stage!r}")
    with laid_out(cfg) as desk:
        stages[cfg.stage](desk)


@contextmanager
def laid_out(cfg: DictConfig) -> Iterator[Desk]:
    trained = trained_by(cfg)
    limits = Limits.from_dict(OmegaConf.to_container(cfg.robot).get("limits") or {})
    real = cfg.robot.kind != "sim"
    clock = FakeClock() if cfg.clock == "fake" and not real else WallClock()
    with arm(cfg, clock) if real else simulated(cfg, trained, clock) as robot:
        planner = remote(cfg, robot.spec) if cfg.server else local(cfg)
        timing = Timing(
            hz=robot.spec.hz,
            observe=planner.terms.observe,
            plan=planner.terms.plan,
            moving=robot.spec.action.dim - (robot.spec.action.gripper != "none"),
            delta=robot.spec.action.mode == "delta",
            deadline=UNHURRIED if isinstance(clock, FakeClock) else None,
            **OmegaConf.to_container(cfg.timing) | {"execute": cfg.timing.execute or planner.terms.execute},
        )
        operator = None if isinstance(clock, FakeClock) else Keyboard(sys.stdin, print)
        yield Desk(cfg, trained, robot, limits, clock, planner, planner.terms, timing, operator)


def arm(cfg: DictConfig, clock: Clock) -> nullcontext[Robot]:
    return nullcontext(connect(OmegaConf.to_container(cfg.robot), clock))  # who enters it closes it


def trained_by(cfg: DictConfig) -> DictConfig | None:
    """The run's own config; None for an arm whose policy is behind a server."""
    if cfg.run is None and cfg.server and cfg.robot.kind != "sim":
        return None
    if cfg.run is None:
        raise ValueError("expected run=<folder of a training run or checkpoint>, or a real robot and server=ws://...")
    from ebt_policy.train.build import load_config

    return load_config(Path(cfg.run))


@contextmanager
def simulated(cfg: DictConfig, trained: DictConfig, clock: Clock) -> Iterator[SimRobot]:
    from ebt_policy.rollout.sim import make_env

    with closing(make_env(cfg.robot.env or trained.task.env)) as env:
        yield SimRobot.from_dict(OmegaConf.to_container(cfg.robot), env, clock, cfg.first_seed)


def local(cfg: DictConfig) -> LocalPlanner:
    from ebt_policy.deploy.planner import LocalPlanner
    from ebt_policy.train.build import load_policy
    from ebt_policy.train.evaluate import sha256

    act = {} if cfg.policy.steps is None else {"steps": cfg.policy.steps}
    model = sha256(Path(cfg.run) / "weights.safetensors")
    return LocalPlanner(load_policy(cfg.run, **act), model, cfg.policy.continuity, cfg.policy.warm)


def remote(cfg: DictConfig, spec: Spec) -> RemotePlanner:
    return RemotePlanner(cfg.server, spec, cfg.token, cfg.codec, cfg.first_seed)


def check(desk: Desk) -> None:
    delay = desk.cfg.robot.delays.observation + desk.cfg.robot.delays.jitter
    with desk.robot as robot:
        said = ladder.check(robot, desk.planner, desk.terms, desk.timing, delay)
    if not desk.cfg.server:
        error = desk.planner.round_trip(desk.demos().action)
        said.append(f"actions survive normalising and back to {error:.1e}")
    print("\n".join(f"ok: {line}" for line in said))


def replay(desk: Desk) -> None:
    data = desk.demos()
    episode = data.episode(desk.cfg.demo)
    robot = desk.robot
    with robot:
        if desk.simulated and episode.initial_state is not None:
            desk.inner.reset(desk.cfg.first_seed, {"state": episode.initial_state})
            robot.reset()
        passed = ladder.replay(robot, episode, desk.cfg.slower)
    print(f"demonstration {desk.cfg.demo}, {desk.cfg.slower} times slower: {passed:.1%} of the commands sent unchanged")
    report_causes(robot)
    if desk.simulated:
        print("the task was solved" if desk.inner.success else "the task was not solved")


def shadow(desk: Desk) -> None:
    data = desk.demos()
    error, idle = ladder.shadow(desk.planner, desk.terms, data, range(min(5, len(data))))
    print(f"mean error of planned against demonstrated actions {np.round(error, 3).tolist()}")
    print(f"the same for an arm that never moves               {np.round(idle, 3).tolist()}")


def dry(desk: Desk) -> None:
    spoken = ladder.DryRobot(desk.inner, lambda action: print(np.round(action, 3).tolist()))
    robot = SafeRobot(spoken, desk.limits, desk.clock)
    with robot:
        outcome = drive(desk, robot, min(desk.cfg.seconds, 2.0), Recorder())
    print(f"{outcome.ticks} ticks, nothing was moved; {outcome.changed} commands would have been changed")
    report_causes(robot)


def run(desk: Desk) -> None:
    if desk.cfg.out is None and desk.cfg.run is None:
        raise ValueError("expected out=<folder of the log>")
    folder = Path(desk.cfg.out or Path(desk.cfg.run) / "deploy")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ticks.jsonl").unlink(missing_ok=True)
    with desk.robot as robot:
        run_simulated(desk, robot, folder) if desk.simulated else run_arm(desk, robot, folder)
    report_causes(robot)


def run_simulated(desk: Desk, robot: SafeRobot, folder: Path) -> None:
    from ebt_policy.rollout.report import write_report
    from ebt_policy.rollout.result import write_result

    logs, episodes, jumps, begin = [], [], [], perf_counter()
    spec = Spec.from_dict(desk.terms.spec)
    for i in range(desk.cfg.episodes):
        seed = desk.cfg.first_seed + i
        desk.inner.reset(seed)
        robot.reset()
        desk.planner.reset(seed)
        outcome = drive(desk, robot, desk.cfg.seconds, recorder := Recorder(), lambda: desk.inner.success)
        recorder.append_to(folder / "ticks.jsonl", i)
        episodes.append(recorder.episode(spec, desk.inner.success, seed))
        logs.append(logged(seed, desk.inner.success, outcome, recorder))
        jumps.append(ladder.jumps(recorder.ticks, outcome.joints, robot.motion.scale, robot.size, robot.spec.hz))
        print(f"{seed}: {'solved' if desk.inner.success else outcome.stopped or 'not solved'}, {outcome.ticks} ticks")
        robot.release()
    write_store(folder / "episodes.zarr.zip", spec, episodes)
    joints = {"acceleration": [np.round(at, 3).tolist() for at in jumps]}  # m/s^2, an episode each
    write_result(folder / "eval.json", result_of(desk, logs, perf_counter() - begin) | {"joints": joints})
    write_report(folder, video_note="none is made of deployments")
    print(f"{sum(log.success for log in logs)} of {len(logs)} solved -> {folder}")
    if (at := np.concatenate(jumps)).size:
        print(f"acceleration at joints of plans: p95 {np.percentile(at, 95):.1f}, at most {at.max():.1f} m/s^2")


def run_arm(desk: Desk, robot: SafeRobot, folder: Path) -> None:
    """Once, until the time is over or somebody interrupts; what was done is written whatever happens."""
    recorder = Recorder()
    try:
        outcome = drive(desk, robot, desk.cfg.seconds, recorder)
        late = np.percentile([1000 * tick.late for tick in recorder.ticks], [50, 95, 100])
        print(f"{outcome.ticks} ticks, {outcome.missed} missed, {outcome.held} held, {outcome.refused} plans refused")
        print("ticks late by {:.1f} ms in the median, p95 {:.1f}, at most {:.1f}".format(*late))
        print(f"stopped: {outcome.stopped}" if outcome.stopped else "not stopped")
    finally:
        if recorder.ticks:
            recorder.append_to(folder / "ticks.jsonl", 0)
            spec = Spec.from_dict(desk.terms.spec)
            write_store(folder / "episodes.zarr.zip", spec, [recorder.episode(spec)])
            print(f"{len(recorder.ticks)} ticks -> {folder}")


def drive(
    desk: Desk, robot: SafeRobot, seconds: float, recorder: Recorder, done: Callable[[], bool] = lambda: False
) -> Outcome:
    """One stretch of control of an entered robot."""
    scheduler = Scheduler(desk.timing, desk.clock.now())
    fake = isinstance(desk.clock, FakeClock)
    planned = Delayed(desk.planner, desk.clock, lambda: desk.cfg.inject) if fake else Threaded(desk.planner)
    with closing(planned) as link:
        return control(
            *(robot, link, scheduler, desk.clock, seconds),
            keys=tuple(desk.terms.spec["obs"]),
            done=done,
            on_tick=recorder,
            monitors=monitors(desk.cfg.alarms),
            operator=desk.operator,
        )


def monitors(alarms: DictConfig) -> list[Monitor]:
    kinds = {"frozen": FrozenPictures, "grad_norm": SteepPlans}
    return [kinds[name](limit) for name, limit in alarms.items() if limit is not None]


def logged(seed: int, success: bool, outcome: Outcome, recorder: Recorder) -> EpisodeLog:
    """An episode as the report reads it; one energy for each plan."""
    from ebt_policy.rollout.sim import EpisodeLog

    plans = [tick.plan for tick in recorder.ticks if tick.plan is not None]
    sent = b"".join(tick.sent.tobytes() for tick in recorder.ticks)
    return EpisodeLog(
        seed=seed,
        success=success,
        success_end=success,
        length=outcome.ticks,
        steps=[plan.steps for plan in plans],
        energies=[[] if plan.energy is None else [plan.energy] for plan in plans],
        grad_norm=[plan.grad_norm for plan in plans],
        digest=hashlib.sha256(sent).hexdigest()[:16],
        latency=[plan.seconds for plan in plans],
    )


def result_of(desk: Desk, logs: list[EpisodeLog], seconds: float) -> dict:
    from ebt_policy.rollout.result import describe

    said = {"env_id": desk.cfg.robot.env or desk.trained.task.env, "max_steps": None, "after_success": 0}
    config = {"deploy": OmegaConf.to_container(desk.cfg)}
    return {"run": said} | describe(logs, seconds) | {"hashes": {"weights": desk.terms.model}, "config": config}


def report_causes(robot: SafeRobot) -> None:
    causes = [i.cause for i in robot.interventions]
    for cause in sorted(set(causes), key=causes.count, reverse=True)[:8]:
        print(f"  changed {causes.count(cause)} times: {cause}")


if __name__ == "__main__":
    explain("deploy", __doc__)
    main()
