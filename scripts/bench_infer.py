"""Latency of one action chunk at batch 1 on one thread: EBT against diffusion on the same trunk, in one process.

    python scripts/bench_infer.py --out assets/results/bench_infer.json

The networks are untrained, which changes no duration. CPU time counts this process alone, wall time all that runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from ebt_policy.bench import Ratio, Times, interleave, ratios_table, save, times_table, untrained
from ebt_policy.cli import fail_cleanly
from ebt_policy.core.model import set_act
from ebt_policy.rollout.flops import flops_per_chunk
from ebt_policy.tasks.robot import Policy

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
CASES = {  # name -> method, how it samples
    "EBT@1": ("ebt", {"steps": 1}),
    "EBT@2": ("ebt", {"steps": 2}),
    "EBT@3": ("ebt", {"steps": 3}),
    "EBT@4": ("ebt", {"steps": 4}),
    "DDIM-10": ("diffusion", {"steps": 10, "sampler": "ddim"}),
    "DDIM-16": ("diffusion", {"steps": 16, "sampler": "ddim"}),
    "DDPM-100": ("diffusion", {"steps": 100, "sampler": "ddpm"}),
}
TARGETS = {("EBT@2", "DDPM-100"): "<= 1/18 = 0.056", ("EBT@2", "DDIM-10"): "<= 1/2"}


@fail_cleanly
def main() -> None:
    args = _parser().parse_args()
    torch.set_num_threads(1)
    policies = {method: _policy(args, method) for method in ("ebt", "diffusion")}
    flops = {name: _flops(policies[method], sampling) for name, (method, sampling) in CASES.items()}
    times, ratios = measure(policies, args.rounds, "")
    compiling = {}
    if args.compile:
        compiling = {method: compile_policy(policy) for method, policy in policies.items()}
        more, compiled_ratios = measure(policies, args.rounds, ", compiled")
        times, ratios = times | more, ratios + compiled_ratios
    print(times_table("a chunk", times))
    print("\n" + ratios_table(ratios))
    print("\nMFLOP: " + ", ".join(f"{name} {count / 1e6:.0f}" for name, count in flops.items()))
    print("".join(f"compiling {method}: {seconds:.0f} s\n" for method, seconds in compiling.items()), end="")
    save(args, times, ratios, flops_per_chunk=flops, compile_seconds=compiling)


def measure(policies: dict[str, Policy], rounds: int, suffix: str) -> tuple[dict[str, Times], list[Ratio]]:
    cases = {name: _chunk(policies[method], sampling) for name, (method, sampling) in CASES.items()}
    times = interleave(cases, rounds)
    ratios = [Ratio.of(f"{a} / {b}{suffix}", times[a], times[b], target) for (a, b), target in TARGETS.items()]
    return {name + suffix: t for name, t in times.items()}, ratios


def compile_policy(policy: Policy) -> float:
    """Compile what a step of acting evaluates; returns the seconds of the first chunk, which waits for the compiler."""
    policy.model.compile_for_acting()
    start = time.perf_counter()
    policy.predict_action(_observation(policy))
    return time.perf_counter() - start


def _policy(args: argparse.Namespace, method: str) -> Policy:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"task={args.task}", f"method={method}", f"net={args.net}"])
    return untrained(cfg)[0].eval().requires_grad_(False)


def _chunk(policy: Policy, sampling: dict) -> Callable[[], object]:
    obs, generator = _observation(policy), torch.Generator().manual_seed(0)

    def plan():
        set_act(policy.model, **sampling)  # microseconds
        return policy.predict_action(obs, generator)

    return plan


def _observation(policy: Policy) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {key: (1, policy.horizon.observe, *shape) for key, shape in policy.spec.obs.items()}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def _flops(policy: Policy, sampling: dict) -> int:
    set_act(policy.model, **sampling)
    return flops_per_chunk(policy)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="square", help="configs/task/<name>.yaml: sizes of observations and actions")
    parser.add_argument("--net", default="small", help="configs/net/<name>.yaml")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="compiled as well")
    parser.add_argument("--out", type=Path, help="JSON, e.g. assets/results/bench_infer.json")
    return parser


if __name__ == "__main__":
    main()
