"""Messages that no client should send, while a good client works beside them.

python tests/deploy/fuzz_server.py            # server, good client and attackers in a process each, a line per attack
python tests/deploy/fuzz_server.py fuzz 10000 # messages at random, all in one process
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import attacks
import msgpack
import numpy as np
from attacks import hello
from toy_server import SPEC, Served, request, served, serving
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from ebt_policy.deploy import protocol
from ebt_policy.deploy.client import RemotePlanner
from ebt_policy.deploy.plan import PlanError

CROWD = {"silence": 64, "wrong token": 16}  # attackers at once; 4 of the others


def bad_message(rng: random.Random) -> bytes | str:
    """Something that is not a valid hello."""
    good = protocol.pack("hello", hello())
    spec = SPEC.to_dict()
    array = {"t": "f4", "s": [2, 3], "b": bytes(24)}
    huge = {"kind": "hello", "x": array | {"s": rng.choice([[10**9, 10**9], [10**9, 0], [-1], [True], "2"])}}
    specs = [{"hz": 10.0}, {"hz": array}, {"action": {"dim": np.zeros(3)}}, {"action": {"dim": [7] * 5}}, {"action": 7}]
    specs += [{"obs": obs} for obs in ({}, {"hand": 3}, {"hand": array}, {"hand": [array] * 3}, {"hand": "é" * 200}, 7)]
    if rng.random() < 0.005:
        return bytes(protocol.MAX_BYTES + 1)
    return rng.choice(
        [
            "a text",
            rng.randbytes(rng.randrange(0, 200)),
            good[: rng.randrange(len(good))],
            b"\x91" * rng.randrange(1, 5000),
            b"\xdd\xff\xff\xff\xff",
            b"\x82\xa4kind\xa5hello\xa4kind\xa5hello",
            b"\x81\xa4kind\xc7\x04\x01text",
            b"\x81\xa4kind\xa3\xed\xa0\x80",
            protocol.pack("é" * 200, {}),
            protocol.pack("hello", hello(token=rng.choice(["", "Sesame", "sesame "]))),
            protocol.pack("hello", hello(token=rng.choice([None, 123456, True, b"sesame"]))),
            protocol.pack("hello", hello(protocol=rng.choice([0, 2, "1", None, np.ones(3)]))),
            protocol.pack("hello", hello(spec=spec | rng.choice(specs))),
            protocol.pack("hello", hello(seed=rng.choice(["0", None, 1.5, True]))),
            protocol.pack("plan", protocol.request_body(request())),
            msgpack.packb({"kind": "hello", "x": {"t": "O", "s": [1], "b": b"12345678"}}),
            msgpack.packb(huge),
        ]
    )


def bad_request(rng: random.Random) -> bytes:
    """Something that is not a valid request; every one of them ends its session."""
    good = protocol.request_body(request())
    changes = rng.choice(
        [
            {"obs": {}},
            {"obs": {"hand": np.zeros((2, 4), np.float32)}},
            {"obs": {"hand": np.full((2, 3), np.nan, np.float32)}},
            {"obs": {"hand": np.full((2, 3), 1e300)}},
            {"obs": {"hand": [{"jpeg": b"no image"}] * 2}},
            {"obs": {"hand": "text"}},
            {"obs": {"hand": [[0.0] * 3] * 2}},
            {"obs": 3},
            {"tail": np.zeros((3, 6))},
            {"tail": np.full((3, 7), np.inf)},
            {"tail": "text"},
            {"deadline": -1.0},
            {"deadline": float("nan")},
            {"deadline": "5.0"},
            {"deadline": True},
            {"id": "one"},
            {"id": 1.0},
            {"id": 2**64 - 1},
        ]
    )
    return protocol.pack("plan", good | changes)


def attack(url: str, count: int, outcomes: Counter, seed: int = 0) -> None:
    """One bad message per connection; counts how each ended."""
    rng = random.Random(seed)
    for _ in range(count):
        try:
            with connect(url, compression=None, proxy=None, close_timeout=1) as socket:
                socket.send(bad_message(rng))
                kind, _ = protocol.unpack(socket.recv(timeout=10))
                outcomes[kind] += 1
        except (ConnectionClosed, WebSocketException, OSError):
            outcomes["closed"] += 1


def beside_a_good_client(count: int) -> tuple[Counter, list[float], int, int]:
    """How the attacks ended, the good client's round trips in s, plans it asked for, plans that were served."""
    outcomes, trips = Counter(), []
    with serving(token="sesame") as (url, server, _):
        good = RemotePlanner(url, SPEC, token="sesame")
        thread = threading.Thread(target=attack, args=(url, count, outcomes))
        thread.start()
        while thread.is_alive() or len(trips) < 20:
            begin = time.perf_counter()
            good(request(len(trips) + 1))
            trips.append(time.perf_counter() - begin)
            time.sleep(0.02)
        good.close()
    return outcomes, trips, len(trips), server.served


@dataclass
class Good:
    """A client that asks for one plan after the other."""

    planner: RemotePlanner
    asked: int = 0
    lost: int = 0
    worst: float = 0.0  # s for a plan

    def rate(self, seconds: float) -> float:
        """Plans a second."""
        begin, got = time.perf_counter(), 0
        while (at := time.perf_counter()) < begin + seconds:
            self.asked += 1
            try:
                self.planner(request(self.asked))
                got += 1
            except PlanError:
                self.lost += 1
            self.worst = max(self.worst, time.perf_counter() - at)
        return got / (at - begin)


@dataclass
class Siege:
    """What an attack did."""

    calm: list[float] = field(default_factory=list)  # plans a second
    attacked: list[float] = field(default_factory=list)
    endings: Counter = field(default_factory=Counter)
    lost: int = 0  # plans
    grown: float = 0.0  # MB that the server had more than before, at most
    worst: float = 0.0  # s for a plan

    def __str__(self) -> str:
        rate = np.median(np.divide(self.attacked, self.calm))
        return (
            f"rate {rate:.2f} of {np.median(self.calm):.0f} plans a second, at most {1e3 * self.worst:.0f} ms for one, "
            f"{self.lost} lost; {self.grown:.0f} MB more; attacks {dict(self.endings)}"
        )


@contextmanager
def attackers(name: str, url: str):
    """A function that attacks for some seconds, in a process that is there already, and says what came of it."""
    command = [sys.executable, str(Path(attacks.__file__)), name, url, str(CROWD.get(name, 4))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(seconds: float) -> None:
        process.stdin.write(f"{seconds}\n")
        process.stdin.flush()

    try:
        begin(0.0)  # it is there when it has answered
        process.stdout.readline()
        yield begin, lambda: Counter(json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(20)


def besieged(server: Served, name: str, seconds: float = 1.0, rounds: int = 1) -> Siege:
    """The good client's rate without and with an attack, in turns."""
    siege, before, planner = Siege(), server.memory(), RemotePlanner(server.url, SPEC, token="sesame")
    good = Good(planner)
    with closing(planner), attackers(name, server.url) as (begin, end):
        for _ in range(rounds):
            siege.calm.append(good.rate(seconds))
            begin(seconds)
            siege.attacked.append(good.rate(seconds))
            siege.endings += end()
    siege.lost, siege.worst, siege.grown = good.lost, good.worst, server.memory("VmHWM") - before
    return siege


def taken(server: Served, name: str, times: int, seconds: float = 1.0) -> Siege:
    """The same with attackers that have the token and take the good client's place, which comes before and after."""
    siege, before, attacker = Siege(), server.memory(), attacks.Attacker(server.url)
    good = Good(RemotePlanner(server.url, SPEC, token="sesame"))
    siege.calm.append(good.rate(seconds))
    good.planner.close()
    for _ in range(times):
        attacker.takes_the_place(attacks.IN_SESSION[name]())
    good.rate(0.1)  # opens the link again
    siege.attacked.append(good.rate(seconds))
    good.planner.close()
    siege.endings, siege.lost, siege.worst = attacker.endings, good.lost, good.worst
    siege.grown = server.memory("VmHWM") - before
    return siege


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("attacks", "fuzz"), default="attacks")
    parser.add_argument("messages", type=int, nargs="?", default=1000)
    args = parser.parse_args()
    if args.what == "fuzz":
        outcomes, trips, asked, got = beside_a_good_client(args.messages)
        print(f"attacks: {dict(outcomes)}; good client: {got} of {asked} served")
        print(f"round trip: median {1e3 * np.median(trips):.2f} ms, p99 {1e3 * np.percentile(trips, 99):.2f} ms")
        return
    for planning in (0.01, 0.0):
        print(f"planning takes {1e3 * planning:.0f} ms")
        for name in attacks.BEFORE_HELLO:
            with served(planning) as server:
                print(f"  {name}: {besieged(server, name, rounds=5)}", flush=True)
        for name in attacks.IN_SESSION:
            with served(planning) as server:
                print(f"  {name}, with the token: {taken(server, name, 20)}", flush=True)


if __name__ == "__main__":
    main()
