"""Seconds per update on one thread: EBT against diffusion on the same trunk, eager against compiled, in one process.

    python scripts/bench_train.py --precision bf16 --out assets/results/bench_train.json

Every round trains each case from the same weights on the same batches. Compiling takes minutes, in the first round.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from ebt_policy.bench import Ratio, Times, ratios_table, save, times_table, untrained
from ebt_policy.cli import fail_cleanly
from ebt_policy.data.windows import WindowDataset
from ebt_policy.tasks.robot import Policy
from ebt_policy.train.fit import FitConfig, fit

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
OWN_ITERATES = [
    "method.model.objective._target_=ebt_policy.core.OwnIterates",
    "~method.model.objective.pure",
    "~method.model.objective.strength",
    "method.model.train_walk={steps: 2, backprop: each}",
]
METHODS = {
    "EBT, noised states, 1 step": ["method=ebt"],
    "EBT, own iterates, 2 steps": ["method=ebt", *OWN_ITERATES],
    "diffusion": ["method=diffusion"],
}
FIRST, SECOND, RIVAL = METHODS
WARM = 3  # updates of a round that are not counted: the first compile, or find cold caches
COMPARED = 10  # updates whose losses are compared


@fail_cleanly
def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(1)
    updates = max(WARM + args.updates, COMPARED)
    eager = FitConfig(updates=updates, batch=args.batch, precision=args.precision, log_every=1, save_every=float("inf"))
    settings = {"eager": eager} | ({"compiled": replace(eager, compile=True)} if args.compile else {})
    cases = {f"{method}, {how}": (method, cfg) for method in METHODS for how, cfg in settings.items()}
    policies = {method: _policy_and_windows(args, overrides) for method, overrides in METHODS.items()}
    times, losses, first = {name: Times() for name in cases}, {}, {}
    for _ in range(args.rounds):
        for name, (method, cfg) in cases.items():
            stamps = train(*policies[method], cfg)
            times[name].add(*stamps.per_update())
            losses.setdefault(name, stamps.losses[:COMPARED])
            first.setdefault(name, stamps.first)
    found = ratios(times)
    differences = {m: _difference(losses[f"{m}, eager"], losses[f"{m}, compiled"]) for m in METHODS if args.compile}
    print(times_table("an update", times))
    print("\n" + ratios_table(found))
    for method, difference in differences.items():
        print(f"{method}: losses of {COMPARED} updates, compiled and eager, differ by {difference:.1e} (target 1e-4)")
    print("first update, seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in first.items()))
    save(args, times, found, loss_difference=differences, first_update_seconds=first)


def _policy_and_windows(args: argparse.Namespace, overrides: list[str]) -> tuple[Policy, WindowDataset]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"task={args.task}", f"net={args.net}", *overrides])
    policy, data = untrained(cfg)
    return policy, WindowDataset(data, cfg.horizon.observe, cfg.horizon.predict)


@dataclass
class Stamps:
    """A log for `fit` that keeps when each update was done, and its loss."""

    wall: list[float]
    cpu: list[float]
    losses: list[float]

    @classmethod
    def start(cls) -> Stamps:
        return cls([time.perf_counter()], [time.process_time()], [])

    def write(self, row: dict[str, float]) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.losses.append(row["loss"])

    def progress(self, done: float, row: dict[str, float]) -> None:
        pass

    @property
    def first(self) -> float:
        return self.wall[1] - self.wall[0]

    def per_update(self) -> tuple[float, float]:
        """Median wall and CPU seconds of the updates that count."""
        wall, cpu = (float(np.median(np.diff(stamps)[WARM:])) for stamps in (self.wall, self.cpu))
        return wall, cpu


def train(policy: Policy, windows: WindowDataset, cfg: FitConfig) -> Stamps:
    stamps = Stamps.start()
    fit(copy.deepcopy(policy), windows, cfg, stamps)
    return stamps


def ratios(times: dict[str, Times]) -> list[Ratio]:
    pairs = [(f"{method}, compiled", f"{method}, eager", "<= 1/1.7 = 0.588") for method in (FIRST, SECOND)]
    pairs += [(f"{FIRST}, {how}", f"{RIVAL}, {how}", "<= 2.2") for how in ("eager", "compiled")]
    measured = [(above, below, target) for above, below, target in pairs if {above, below} <= set(times)]
    return [Ratio.of(f"{a} / {b}", times[a], times[b], target) for a, b, target in measured]


def _difference(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="square", help="configs/task/<name>.yaml, whose demonstrations are used")
    parser.add_argument("--net", default="small", help="configs/net/<name>.yaml")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "medium", "bf16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=10, help="counted updates of a round")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="compiled as well")
    parser.add_argument("--out", type=Path, help="JSON, e.g. assets/results/bench_train.json")
    return parser


if __name__ == "__main__":
    main()
