"""What latency costs: Lift through server, scheduler and safety layer, compensated and not, joined and not.

    python scripts/bench_deploy.py --out assets/results/bench_deploy.json

Episodes run on a clock that is not real, on which planning takes exactly the latency that is injected; the plans come
from scripts/serve.py in a process of its own. The remaining figures are of real time, and want a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from os.path import relpath
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from ebt_policy.bench import Spread
from ebt_policy.cli import fail_cleanly
from ebt_policy.data.store import open_episodes
from ebt_policy.deploy.client import RemotePlanner
from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.plan import Request
from ebt_policy.deploy.robot import Motion, Observation
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.train.build import load_config
from ebt_policy.train.evaluate import sha256

ROOT = Path(__file__).resolve().parent.parent
LATENCIES = (0.0, 0.06, 0.12)  # s
WAYS = {"joined": [], "switched": ["timing.blend=0"], "not compensated": ["timing.anchor=arrived"]}
PATIENCE = 60.0  # s for the server to start
REQUESTS = 200


@fail_cleanly
def main() -> None:
    args = _parser().parse_args()
    plain = evaluated(args)
    with served(args.run) as url:
        cells = {f"{1000 * s:.0f} ms, {way}": (s, how) for s in LATENCIES for way, how in WAYS.items()}
        found = {name: deployed(args, url, *cell) for name, cell in cells.items()}
        trip = round_trip(url, args.run)
    seconds = {"round trip beyond inference": trip, "safety layer, a tick": safety(args.run)}
    seconds["import of the client"] = imported()
    for name, cell in {"plain evaluation": plain, **found}.items():
        print(f"{name:24} {cell['successes']} of {cell['episodes']}, {cell['ticks']:.0f} ticks", cell.get("joints", ""))
    for name, spread in seconds.items():
        print(f"{name:28} {1000 * spread.median:.3f} ms [{1000 * spread.low:.3f}, {1000 * spread.high:.3f}]")
    if args.out:
        said = {"run": relpath(args.run, ROOT), "episodes": args.episodes, "first_seed": args.first_seed}
        times = {name: vars(spread) for name, spread in seconds.items()}
        result = {"settings": said, "plain": plain, "deployed": found, "seconds": times}
        hashes = {"weights": sha256(args.run / "weights.safetensors")}
        write_result(args.out, result | {"hashes": hashes, "versions": versions()})


def evaluated(args: argparse.Namespace) -> dict:
    out = ROOT / "runs" / "deploy" / "plain"
    _script("eval", f"run={args.run}", f"out={out}", "processes=1", "video=false", *_episodes(args))
    return _cell(out)


def deployed(args: argparse.Namespace, url: str, latency: float, overrides: list[str]) -> dict:
    out = ROOT / "runs" / "deploy" / "cell"
    told = [f"run={args.run}", f"out={out}", "robot=sim", "stage=run", f"server={url}", f"inject={latency}"]
    _script("deploy", *told, *overrides, *_episodes(args))
    return _cell(out)


def _cell(folder: Path) -> dict:
    result = json.loads((folder / "eval.json").read_text())
    solved = [e["length"] for e in result["episodes"] if e["success"]]
    said = result["summary"]
    cell = {"successes": said["successes"], "episodes": said["episodes"], "interval": said["interval"]}
    cell["ticks"] = float(np.median(solved)) if solved else float("nan")
    if "joints" in result:
        at = np.concatenate(result["joints"]["acceleration"])
        cell["joints"] = {"p95": round(float(np.percentile(at, 95)), 2), "max": round(float(at.max()), 2)}  # m/s^2
    return cell


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The run's policy behind a port that was free; its url."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "scripts" / "serve.py"), f"run={run}", f"port={port}"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        if not server.stdout.readline().startswith("serving"):
            raise RuntimeError(f"{' '.join(command)} did not start: run it by hand to see why")
        yield f"ws://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def round_trip(url: str, run: Path) -> Spread:
    """Seconds of a request, besides those that the server says it planned."""
    data = _demonstrations(run)
    obs = {key: np.asarray(value[:2]) for key, value in data.episode(0).obs.items()}
    beyond = []
    with closing(RemotePlanner(url, data.spec)) as planner:
        for i in range(REQUESTS):
            begin = time.perf_counter()
            plan = planner(Request(i + 1, obs, PATIENCE))
            beyond.append(time.perf_counter() - begin - plan.seconds)
    return Spread.of(beyond[1:])


class Motionless:
    """An arm that takes no time: it shows the observations of a demonstration and does nothing."""

    def __init__(self, spec, motion: Motion, obs: dict[str, np.ndarray], clock: FakeClock):
        self.spec, self.motion, self.obs, self.clock, self.tick = spec, motion, obs, clock, -1

    def __enter__(self) -> Motionless:
        return self

    def __exit__(self, *error) -> None:
        pass

    def observe(self) -> Observation:
        self.tick = min(self.tick + 1, len(next(iter(self.obs.values()))) - 1)
        return Observation(self.clock.now(), {key: value[self.tick] for key, value in self.obs.items()})

    def command(self, action: np.ndarray) -> np.ndarray:
        return action

    def trouble(self) -> str:
        return ""


def safety(run: Path) -> Spread:
    """Seconds that the safety layer adds to observing and commanding, over the ticks of some demonstrations."""
    data, robot = _demonstrations(run), OmegaConf.load(ROOT / "configs" / "robot" / "sim.yaml")
    limits, motion = Limits.from_dict(OmegaConf.to_container(robot.limits)), Motion(**robot.motion)
    added = []
    for i in range(10):
        episode, clock = data.episode(i), FakeClock()
        bare = Motionless(data.spec, motion, episode.obs, clock)
        with SafeRobot(Motionless(data.spec, motion, episode.obs, clock), limits, clock) as safe:
            for k, action in enumerate(episode.action):
                clock.sleep_until(k / data.spec.hz)
                added.append(_turn(safe, action) - _turn(bare, action))
    return Spread.of(added)


def _turn(robot, action: np.ndarray) -> float:
    begin = time.perf_counter()
    robot.observe()
    robot.command(action)
    return time.perf_counter() - begin


def imported() -> Spread:
    """Seconds that importing the client adds to starting Python."""

    def taken(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - begin

    return Spread.of([taken("import ebt_policy.deploy.client") - taken("pass") for _ in range(7)][1:])


def _demonstrations(run: Path):
    task = load_config(run).task
    return open_episodes(task.data, obs_keys=list(task.obs))


def _episodes(args: argparse.Namespace) -> list[str]:
    return [f"episodes={args.episodes}", f"first_seed={args.first_seed}"]


def _script(name: str, *overrides: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1000:]}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "assets" / "checkpoints" / "ebt_lift")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--first_seed", type=int, default=50000)
    parser.add_argument("--out", type=Path, help="JSON, e.g. assets/results/bench_deploy.json")
    return parser


if __name__ == "__main__":
    main()
