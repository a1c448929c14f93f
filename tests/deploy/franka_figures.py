"""Figures of the Franka class over the arm's own protocol: fuzzed, its policy dead, in the loop, in joint space.

.venv-franka/bin/python tests/deploy/franka_figures.py dead loop joints fuzz

Seconds are the arm's. What the hand was told is what reached the arm, at up to 1 kHz.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from functools import partial

import numpy as np
from franka_checks import CONFIG, HZ, JOINTS, ArmClock, acting, run, safe, step, wave
from franka_world import World, world
from fuzz_safety import Case, fuzz

AT_REST = 0.005  # m/s
MOMENT = 0.02  # s


class Watching(ArmClock):
    """Notes while it waits where the hand was told to be and where it is."""

    def __init__(self):
        self.rows = []  # s, m (3,), m (3,)

    def sleep_until(self, moment):
        while self.now() < moment:
            arm = self.robot.arm
            state = arm.state
            place = arm.model.pose(self.robot._franky.Frame.EndEffector, state).translation
            self.rows.append((state.time.to_sec(), *state.O_T_EE_c.translation, *place))
            super().sleep_until(min(moment, self.now() + 0.001))

    def speeds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """s (n,), and m/s (n,) over a moment: told, measured."""
        rows = np.array(self.rows)
        ends = np.searchsorted(rows[:, 0], rows[:, 0] + MOMENT)
        starts = np.flatnonzero(ends < len(rows))
        way = (rows[ends[starts]] - rows[starts]) / (rows[ends[starts], :1] - rows[starts, :1])
        return rows[starts, 0], np.linalg.norm(way[:, 1:4], axis=1), np.linalg.norm(way[:, 4:], axis=1)


def fuzzed(arm: World, seconds: float, seed: int = 0) -> Counter:
    """As `fuzz`; and how far the hand was outside of the workspace, how fast, as told and as measured: maxima."""
    clock = Watching()
    robot = safe(arm.host, clock)
    found = fuzz(Case(robot, clock, CONFIG["limits"]), round(HZ * seconds), seed)
    space, rows = CONFIG["limits"]["workspace"], np.array(clock.rows)
    for name, places, speed in zip(("told", "measured"), (rows[:, 1:4], rows[:, 4:]), clock.speeds()[1:], strict=True):
        out = np.maximum(np.array(space["low"]) - places, places - np.array(space["high"])).max()
        found[f"{name}, um outside"] = round(max(0.0, 1e6 * out))
        found[f"{name}, mm/s"] = round(1e3 * speed.max())
    return found


def dead_policy(arm: World) -> dict[str, float]:
    """s after the next action of a policy in full motion was due.

    To the last command that moves; to the standstill of the hand as told at 1 kHz, and of the simulated one, which is
    behind.
    """
    clock = Watching()
    with safe(arm.host, clock) as robot:
        step(robot, acting(0, 0.6), 8)
        died = told = clock.now()
        for _ in range(20):
            robot.observe()
            if robot.hold("nothing is due")[:6].any():
                told = clock.now()
            clock.sleep_until(clock.now() + 1 / HZ)
        times, *speeds = clock.speeds()
    stands = [times[speed > AT_REST].max() + MOMENT - died for speed in speeds]
    return {"last command": told - died, "told to stand": stands[0], "stands": stands[1]}


def in_the_loop(arm: World, seconds: float) -> dict[str, float]:
    """Plans of half a second to and fro along y, each replacing the one before it."""
    clock, began = Watching(), time.monotonic()
    with safe(arm.host, clock) as robot:
        before = step(robot, acting(), 10)["robot0_eef_pos"]
        outcome, ticks = run(robot, wave, seconds)
        after = step(robot, acting(), 20)["robot0_eef_pos"]
    rows, late = np.array(clock.rows), 1000 * np.array([tick.late for tick in ticks])
    behind = 1000 * np.linalg.norm(rows[:, 1:4] - rows[:, 4:], axis=1)
    return {
        "ticks": outcome.ticks,
        "missed": outcome.missed,
        "late by over 5 ms": int((late > 5).sum()),
        "late p95 ms": np.percentile(late, 95),
        "behind rms mm": np.sqrt(np.mean(behind**2)),
        "behind max mm": behind.max(),
        "path y mm": 1000 * np.ptp(rows[:, 5]),
        "sunk mm": 1000 * (before - after)[2],
        "aside mm": 1000 * (before - after)[0],
        "seconds of the machine": time.monotonic() - began,
    }


def in_joint_space(arm: World, seconds: float) -> dict[str, float]:
    """The wrist and the elbow to and fro by 0.1 rad in 4 s, a new target every tick."""
    robot = safe(arm.host, **JOINTS)
    with robot:
        start = robot.observe().values["robot0_joint_pos"]
        errors = []
        for k in range(round(HZ * seconds)):
            target = start + 0.1 * np.sin(0.5 * np.pi * k / HZ) * (np.arange(7) % 3 == 0)
            errors.append(np.abs(step(robot, target)["robot0_joint_pos"] - target).max())
    return {"behind rms mrad": 1000 * np.sqrt(np.mean(np.square(errors))), "behind max mrad": 1000 * np.max(errors)}


def test_a_dead_policy_is_followed_by_no_more_motion_than_braking():
    with world() as arm:
        after = dead_policy(arm)
    assert after["told to stand"] <= CONFIG["limits"]["watchdog"] and after["stands"] < 1.0


def test_wild_commands_over_the_protocol_break_no_limit():
    with world() as arm:
        found = fuzzed(arm, 10.0)
    assert not [what for what in found if what.startswith("BROKEN")], found
    assert found["told, um outside"] == found["measured, um outside"] == 0
    assert not found["the arm stopped by itself"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=("dead", "loop", "joints", "fuzz"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="of what is fuzzed")
    said = parser.parse_args()
    figures = {"fuzz": partial(fuzzed, seed=said.seed), "loop": in_the_loop, "joints": in_joint_space}
    for what in said.what:
        with world() as arm:
            found = dead_policy(arm) if what == "dead" else figures[what](arm, said.seconds)
            print(what, {name: round(float(value), 4) for name, value in found.items()}, flush=True)


if __name__ == "__main__":
    main()
