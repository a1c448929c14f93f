"""What the benches share: cases timed in turn, a round of each, so that other work on the machine hits all alike."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from ebt_policy.data.episodes import EpisodeData
from ebt_policy.data.store import open_episodes
from ebt_policy.rollout.result import versions, write_result
from ebt_policy.tasks.robot import Policy
from ebt_policy.train import build

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        if not values:
            return None
        low, median, high = np.percentile(np.asarray(values, dtype=float), [25, 50, 75])
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True)
class Times:
    """Seconds of one case, one entry a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of this process, whatever others use; empty if others do the work

    def add(self, wall: float, cpu: float) -> None:
        self.wall.append(wall)
        self.cpu.append(cpu)


@dataclass(frozen=True)
class Ratio:
    """How many times as long one case takes as another, round by round, beside what it should be."""

    name: str
    wall: Spread
    cpu: Spread | None
    target: str

    @classmethod
    def of(cls, name: str, above: Times, below: Times, target: str) -> Ratio:
        return cls(name, _by_round(above.wall, below.wall), _by_round(above.cpu, below.cpu), target)


def interleave(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Call every case once a round, in a new order each time; one call of each before the first is not counted.

    A fixed order favours a case that always follows its like, which leaves it warm caches.
    """
    for case in cases.values():
        case()
    times, shuffle = {name: Times() for name in cases}, np.random.default_rng(0).permutation
    for _ in range(rounds):
        for name in shuffle(list(cases)):
            case = cases[name]
            wall, cpu = time.perf_counter(), time.process_time()
            case()
            times[name].add(time.perf_counter() - wall, time.process_time() - cpu)
    return times


def untrained(cfg: DictConfig) -> tuple[Policy, EpisodeData]:
    """The policy of a composed configs/train.yaml with random weights, and the demonstrations to train it on."""
    data = open_episodes(cfg.task.data, obs_keys=list(cfg.task.obs))
    torch.manual_seed(0)
    return build.policy(cfg, data.spec, data), data


def times_table(what: str, times: dict[str, Times]) -> str:
    rows = [[name, _show(Spread.of(t.wall), 1e3), _show(Spread.of(t.cpu), 1e3)] for name, t in times.items()]
    return table([what, "wall ms [quartiles]", "CPU ms [quartiles]"], rows)


def ratios_table(ratios: Sequence[Ratio]) -> str:
    head = ["ratio", "wall [quartiles]", "CPU [quartiles]", "target"]
    return table(head, [[r.name, _show(r.wall), _show(r.cpu), r.target] for r in ratios])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first left-aligned, the others right-aligned."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def save(args: Namespace, times: dict[str, Times], ratios: Sequence[Ratio], **sections: dict) -> None:
    """Write a bench to args.out, if given: settings, seconds, ratios, further sections, versions."""
    if args.out is None:
        return
    seconds = {name: {kind: _as_dict(Spread.of(x)) for kind, x in vars(t).items()} for name, t in times.items()}
    result = {"settings": {k: str(v) for k, v in vars(args).items() if k != "out"}, "seconds": seconds}
    result |= {"ratios": {r.name: asdict(r) for r in ratios}} | sections | {"versions": versions()}
    write_result(args.out, result)


def _by_round(above: list[float], below: list[float]) -> Spread | None:
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def _show(spread: Spread | None, scale: float = 1.0) -> str:
    return (
        "-" if spread is None else f"{scale * spread.median:.3g} [{scale * spread.low:.3g}, {scale * spread.high:.3g}]"
    )


def _as_dict(spread: Spread | None) -> dict | None:
    return None if spread is None else asdict(spread)
