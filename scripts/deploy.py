"""Put a policy on a robot, one rung at a time: stage=check, replay, shadow, dry, run.

python scripts/deploy.py run=assets/checkpoints/ebt_lift robot=sim stage=run episodes=10 inject=0.06
python scripts/deploy.py robot=franka server=ws://gpu:8765 token=... out=runs/arm stage=check

A real arm's computer has no torch: what needs it is imported where it is used.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import hydra
import numpy as np
from omegaconf import DictConfig, OmegaConf

from ebt_policy import bounds
from ebt_policy.cli import CONFIGS, explain, fail_cleanly, leave_on_signals
from ebt_policy.data.episodes import Episode, EpisodeData, from_episodes
from ebt_policy.data.spec import Spec
from ebt_policy.data.store import open_episodes, write_data
from ebt_policy.deploy import ladder
from ebt_policy.deploy.client import RemotePlanner
from ebt_policy.deploy.clock import Clock, FakeClock, WallClock
from ebt_policy.deploy.control import Operator, Outcome, control
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.link import Delayed, Threaded
from ebt_policy.deploy.plan import Planner, Terms
from ebt_policy.deploy.record import Recorder, summary
from ebt_policy.deploy.robot import Robot, SimRobot
from ebt_policy.deploy.robots import connect
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.scene import Scene, Simulated, Unwatched, Watched
from ebt_policy.deploy.schedule import Scheduler, Timing
from ebt_policy.deploy.simulated import in_task
from ebt_policy.deploy.watch import Keyboard, monitors
from ebt_policy.rollout.report import write_report
from ebt_policy.rollout.result import EpisodeLog, describe, write_result

if TYPE_CHECKING:
    from ebt_policy.deploy.planner import LocalPlanner

SEEDS = "[0, 9e18]"
UNHURRIED = 60.0  # s that planning may really take where the clock is not real
SAID = {True: "solved", False: "not solved", None: "success unknown"}
KEYS = {True: "succeeded", False: "failed"}  # filter keys


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
    scene: Scene

    @property
    def simulated(self) -> bool:
        return isinstance(self.inner, SimRobot)

    @property
    def robot(self) -> SafeRobot:
        return SafeRobot(self.inner, self.limits, self.clock)

    def demos(self):
        if not self.cfg.demos and self.trained is None:
            raise ValueError("expected demos=<file of demonstrations>, or run=<folder> whose task has one")
        task = {} if self.trained is None else self.trained.task
        stated = {name: task.get(name) for name in ("hz", "action")}
        key = None if self.cfg.demos else task.filter_key
        return open_episodes(self.cfg.demos or task.data, key, list(self.terms.spec["obs"]), **stated)


@dataclass
class Trial:
    """One episode of a run, as far as it came."""

    seed: int
    recorder: Recorder = field(default_factory=Recorder)
    success: bool | None = None  # None: unknown


@hydra.main(config_path="../configs", config_name="deploy", version_base="1.3")
@fail_cleanly
def main(cfg: DictConfig) -> None:
    stages = {"check": check, "replay": replay, "shadow": shadow, "dry": dry, "run": run}
    if cfg.stage not in stages:
        raise ValueError(f"stage is one of {', '.join(stages)}, got {cfg.stage!r}")
    leave_on_signals()
    with laid_out(cfg) as desk:
        stages[cfg.stage](desk)


@contextmanager
def laid_out(cfg: DictConfig) -> Iterator[Desk]:
    check_settings(cfg)
    trained = trained_by(cfg)
    cfg = placed(cfg, trained)
    limits = Limits.from_dict(OmegaConf.to_container(cfg.robot).get("limits") or {})
    real = cfg.robot.kind != "sim"
    clock = FakeClock() if cfg.clock == "fake" and not real else WallClock()
    with arm(cfg, clock) if real else simulated(cfg, trained, clock) as robot, planning(cfg, robot.spec) as planner:
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
        yield Desk(cfg, trained, robot, limits, clock, planner, planner.terms, timing, operator, scene(robot, operator))


def check_settings(cfg: DictConfig) -> None:
    """ValueError for what would be found out only when the arm moves, or never."""
    if cfg.clock not in ("fake", "wall"):
        raise ValueError(f"clock is fake or wall, got {cfg.clock!r}")
    for name, within in (("episodes", "[1, inf)"), ("demo", "[0, inf)"), ("slower", "[1, inf)"), ("first_seed", SEEDS)):
        bounds.whole(name, cfg[name], within)
    bounds.number("inject", cfg.inject, "[0, 60]")
    bounds.number("seconds", cfg.seconds, "(0, inf)")
    monitors(cfg.alarms)


def scene(robot: Robot, operator: Keyboard | None) -> Scene:
    if isinstance(robot, SimRobot):
        return Simulated(robot)
    return Watched(operator) if sys.stdin.isatty() else Unwatched()


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


def placed(cfg: DictConfig, trained: DictConfig | None) -> DictConfig:
    """The config with what robot=sim is in the task that the policy was trained for."""
    said = None if trained is None else OmegaConf.to_container(trained.task).get("robot")
    cfg = cfg.copy()
    cfg.robot = in_task(OmegaConf.to_container(cfg.robot), said, CONFIGS / "robot" / "sim.yaml")
    return cfg


@contextmanager
def simulated(cfg: DictConfig, trained: DictConfig, clock: Clock) -> Iterator[SimRobot]:
    """In the environment that the policy was trained for, or in the one that is named."""
    from ebt_policy.rollout.sim import make_env, needs
    from ebt_policy.train.evaluate import environment_of

    settings = environment_of(Spec.from_dict(OmegaConf.to_container(trained.spec)), cfg.robot.env, trained)
    cfg.robot.env = settings["env_id"]
    with closing(make_env(settings["env_id"], settings["max_steps"], **settings.get("env_kwargs", {}))) as env:
        needs(env, "robot=sim", "spec_dict")
        yield SimRobot.from_dict(OmegaConf.to_container(cfg.robot), env, clock, cfg.first_seed)


def local(cfg: DictConfig) -> LocalPlanner:
    from ebt_policy.deploy.planner import LocalPlanner
    from ebt_policy.train.build import load_policy
    from ebt_policy.train.evaluate import sha256

    act = {} if cfg.policy.steps is None else {"steps": cfg.policy.steps}
    model = sha256(Path(cfg.run) / "weights.safetensors")
    policy = load_policy(cfg.run, **act)
    policy.spec = policy.spec.stating(cfg.policy.hz, cfg.policy.action)
    return LocalPlanner(policy, model, cfg.policy.continuity, cfg.policy.warm)


def planning(cfg: DictConfig, spec: Spec) -> AbstractContextManager[Planner]:
    """Here, or behind a server, which is let go at the end: it serves one robot at a time."""
    if not cfg.server:
        return nullcontext(local(cfg))
    return closing(RemotePlanner(cfg.server, spec, cfg.token, cfg.codec, cfg.first_seed))


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
    bounds.whole("demo", desk.cfg.demo, f"[0, {len(data) - 1}]")
    episode = data.episode(desk.cfg.demo)
    robot = desk.robot
    with robot:
        if desk.simulated:
            begin_as(desk.inner, episode)
            robot.reset()
        passed = ladder.replay(robot, episode, desk.cfg.slower)
    print(f"demonstration {desk.cfg.demo}, {desk.cfg.slower} times slower: {passed:.1%} of the commands sent unchanged")
    report_causes(Counter(i.cause for i in robot.interventions))
    if desk.simulated:
        print("the task was solved" if desk.inner.success else "the task was not solved")


def begin_as(robot: SimRobot, episode: Episode) -> None:
    """As the demonstration began, where anything tells how."""
    from ebt_policy.rollout.sim import beginning

    if began := beginning(robot.env, episode):
        robot.reset(**({"seed": 0} | began))


def shadow(desk: Desk) -> None:
    data = desk.demos()
    error, idle = ladder.shadow(desk.planner, desk.terms, data, range(min(5, len(data))))
    print(f"mean error of planned against demonstrated actions {told(error)}")
    print(f"the same for an arm that never moves               {told(idle)}")


def told(numbers: np.ndarray) -> list[float]:
    """(n,) to three decimals, also of float32."""
    return [round(float(number), 3) for number in numbers]


def dry(desk: Desk) -> None:
    spoken = ladder.DryRobot(desk.inner, lambda action: print(told(action)))
    robot = SafeRobot(spoken, desk.limits, desk.clock)
    with robot:
        outcome = drive(desk, robot, min(desk.cfg.seconds, 2.0), Recorder())
    print(f"{outcome.ticks} ticks, nothing was moved; {outcome.changed} commands would have been changed")
    report_causes(Counter(i.cause for i in robot.interventions))


def run(desk: Desk) -> None:
    """Episodes, one after another; what was done is written whatever ends them, when the arm is at rest."""
    if desk.cfg.out is None and desk.cfg.run is None:
        raise ValueError("expected out=<folder of the log>")
    if desk.cfg.episodes > 1 and isinstance(desk.scene, Unwatched):
        raise ValueError(f"expected a terminal, where somebody resets the scene, for episodes={desk.cfg.episodes}")
    folder = Path(desk.cfg.out or Path(desk.cfg.run) / "deploy")
    folder.mkdir(parents=True, exist_ok=True)
    (log := folder / "ticks.jsonl").unlink(missing_ok=True)
    trials, begin = [], perf_counter()
    try:
        with desk.robot as robot:
            while len(trials) < desk.cfg.episodes and desk.scene.ready(seed := desk.cfg.first_seed + len(trials)):
                trials.append(Trial(seed))
                attempt(desk, robot, trials[-1], log)
    finally:
        if done := [trial for trial in trials if trial.recorder.ticks]:
            write(desk, folder, done, perf_counter() - begin)


def attempt(desk: Desk, robot: SafeRobot, trial: Trial, log: Path) -> None:
    """One episode of an entered robot, at whose end it stands."""
    robot.release()
    robot.reset()
    desk.planner.reset(trial.seed)
    try:
        outcome = drive(desk, robot, desk.cfg.seconds, trial.recorder, desk.scene.over)
        robot.brake("the episode is over")
        trial.success = desk.scene.success()
        stopped = f", {outcome.stopped}" if outcome.stopped else ""
        print(f"{trial.seed}: {SAID[trial.success]}, {outcome.ticks} ticks{stopped}")
    finally:
        trial.recorder.append_to(log, trial.seed - desk.cfg.first_seed)


def write(desk: Desk, folder: Path, trials: list[Trial], seconds: float) -> None:
    """The page before the store, which refuses numbers that are not finite."""
    result = result_of(desk, trials, seconds)
    write_result(folder / "eval.json", result)
    write_report(folder, video_note="none is made of deployments")
    write_data(folder / "episodes.zarr.zip", stored(desk, trials))
    print(f"{result['summary']['text']}, {result['control']['ticks']} ticks -> {folder}")
    late = (1000 * result["control"][f"late_{name}"] for name in ("median", "p95", "max"))
    print("ticks late by {:.1f} ms in the median, p95 {:.1f}, at most {:.1f}".format(*late))
    if at := list(chain.from_iterable(result.get("joints", {}).get("acceleration", []))):
        print(f"acceleration at joints of plans: p95 {np.percentile(at, 95):.1f}, at most {max(at):.1f} m/s^2")
    report_causes(Counter(result["control"]["causes"]))


def stored(desk: Desk, trials: list[Trial]) -> EpisodeData:
    """Every episode with its log; success only if it is known of all, and filter keys for those of which it is."""
    spec, known = Spec.from_dict(desk.terms.spec), all(trial.success is not None for trial in trials)
    masks = {name: np.array([trial.success is word for trial in trials]) for word, name in KEYS.items()}
    episodes = [t.recorder.episode(spec, t.success if known else None, t.seed) for t in trials]
    logs = [trial.recorder.log() for trial in trials]
    return from_episodes(spec, [replace(e, log=log) for e, log in zip(episodes, logs, strict=True)], masks)


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


def result_of(desk: Desk, trials: list[Trial], seconds: float) -> dict:
    """As of an evaluation, with how the control loop went and, of displacements, how plans joined (m/s^2)."""
    env = desk.cfg.robot.env if desk.simulated else desk.cfg.robot.kind
    config = OmegaConf.to_container(desk.cfg)
    del config["token"]
    said = {"run": {"env_id": env, "max_steps": round(desk.cfg.seconds * desk.timing.hz), "after_success": 0}}
    said |= describe([logged(trial) for trial in trials], seconds)
    said |= {"control": summary([trial.recorder for trial in trials], desk.timing.hz)}
    if desk.timing.delta:
        said["joints"] = {"acceleration": [told(accelerations(desk, trial)) for trial in trials]}
    return said | {"hashes": {"weights": desk.terms.model}, "config": {"deploy": config}}


def logged(trial: Trial) -> EpisodeLog:
    """An episode as the report reads it; one energy for each plan."""
    ticks = trial.recorder.ticks
    plans = [tick.plan for tick in ticks if tick.plan is not None]
    return EpisodeLog(
        seed=trial.seed,
        success=trial.success,
        success_end=trial.success,
        length=len(ticks),
        steps=[plan.steps for plan in plans],
        energies=[[] if plan.energy is None else [plan.energy] for plan in plans],
        grad_norm=[plan.grad_norm for plan in plans],
        digest=hashlib.sha256(b"".join(tick.sent.tobytes() for tick in ticks)).hexdigest()[:16],
        latency=[plan.seconds for plan in plans],
    )


def accelerations(desk: Desk, trial: Trial) -> np.ndarray:
    """Where plans join, m/s^2."""
    ticks, motion = trial.recorder.ticks, desk.inner.motion
    joints = [k for k, tick in enumerate(ticks) if tick.plan is not None]
    return ladder.jumps(ticks, joints, motion.scale, prod(desk.inner.spec.obs[motion.key]), desk.timing.hz)


def report_causes(causes: Counter[str]) -> None:
    for cause, times in causes.most_common(8):
        print(f"  changed {times} times: {cause}")


if __name__ == "__main__":
    explain("deploy", __doc__)
    main()
