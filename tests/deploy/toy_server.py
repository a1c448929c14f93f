"""A policy server of a toy planner, in a thread or in a process of its own.

python tests/deploy/toy_server.py 0.01 sesame: says its url, and serves until its input ends
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from toy_arms import ToyArm

from ebt_policy.deploy.plan import Plan, Request, Terms
from ebt_policy.deploy.robot import spec_of
from ebt_policy.deploy.serve import Address, PolicyServer

SPEC = spec_of(ToyArm())


class ToyPlanner:
    """Answers with actions that count up from the seed; `seconds` is how long it takes."""

    def __init__(self, seconds=0.0):
        self.seconds, self.terms = seconds, Terms(SPEC.to_dict(), 2, 8, 15, "cafe")
        self.reset(0)

    def reset(self, seed):
        self.seed = seed

    def __call__(self, request):
        time.sleep(self.seconds)
        actions = np.full((15, 7), self.seed, np.float32) + np.arange(15, dtype=np.float32)[:, None]
        return Plan(request.id, actions, np.arange(15) / 20, 2, "steps", self.seconds, energy=-1.5, grad_norm=0.25)


@contextmanager
def serving(planner=None, **address):
    """url, server and a stop() of a running server on a free port."""
    server, ready, box = PolicyServer(planner or ToyPlanner(), Address(**{"port": 0} | address)), threading.Event(), {}

    async def run():
        box["loop"], box["stop"] = asyncio.get_running_loop(), asyncio.Event()
        listening = await server.start()
        box["port"] = listening.sockets[0].getsockname()[1]
        ready.set()
        await box["stop"].wait()
        listening.close()
        await listening.wait_closed()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    ready.wait(20)

    def stop():
        box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join(20)

    try:
        yield f"ws://127.0.0.1:{box['port']}", server, stop
    finally:
        if thread.is_alive():
            stop()


def request(id=1, deadline=5.0, tail=None):
    return Request(id, {"hand": np.zeros((2, 3), np.float32)}, deadline, tail)


@dataclass(frozen=True)
class Served:
    """A server in a process of its own."""

    url: str
    pid: int

    def memory(self, kind: str = "VmRSS") -> float:
        """MB that it has, or had at most: VmHWM."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


@contextmanager
def served(seconds: float = 0.0, token: str = "sesame") -> Iterator[Served]:
    """A toy planner that takes so long for a plan."""
    command = [sys.executable, __file__, str(seconds), token]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Served(process.stdout.readline().strip(), process.pid)
    finally:
        process.stdin.close()
        process.wait(20)


def main(seconds: str, token: str) -> None:
    with serving(ToyPlanner(float(seconds)), token=token) as (url, _, _):
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
