"""Messages that no client should send, while a good client works beside them.

python tests/deploy/fuzz_server.py 10000
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections import Counter

import msgpack
import numpy as np
from toy_server import SPEC, request, serving
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from ebt_policy.deploy import protocol
from ebt_policy.deploy.client import RemotePlanner


def hello(**changes):
    return {"protocol": 1, "token": "sesame", "spec": SPEC.to_dict(), "seed": 0} | changes


def bad_message(rng: random.Random) -> bytes | str:
    """Something that is not a valid hello."""
    good = protocol.pack("hello", hello())
    spec = SPEC.to_dict()
    array = {"t": "f4", "s": [2, 3], "b": bytes(24)}
    huge = {"kind": "hello", "x": array | {"s": rng.choice([[10**9, 10**9], [-1], [True], "2"])}}
    specs = [{"hz": 10.0}, {"action": {"dim": np.zeros(3)}}, {"action": 7}]
    specs += [{"obs": obs} for obs in ({}, {"hand": 3}, {"hand": array}, 7)]
    if rng.random() < 0.005:
        return bytes(protocol.MAX_BYTES + 1)
    return rng.choice(
        [
            "a text",
            rng.randbytes(rng.randrange(0, 200)),
            good[: rng.randrange(len(good))],
            b"\x91" * rng.randrange(1, 5000),
            b"\xdd\xff\xff\xff\xff",
            protocol.pack("hello", hello(token=rng.choice(["", "Sesame", "sesame "]))),
            protocol.pack("hello", hello(protocol=rng.choice([0, 2, "1", None]))),
            protocol.pack("hello", hello(spec=spec | rng.choice(specs))),
            protocol.pack("hello", hello(seed=rng.choice(["0", None, 1.5]))),
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
            {"obs": {"hand": [{"jpeg": b"no image"}] * 2}},
            {"obs": {"hand": "text"}},
            {"obs": 3},
            {"tail": np.zeros((3, 6))},
            {"tail": np.full((3, 7), np.inf)},
            {"deadline": -1.0},
            {"deadline": float("nan")},
            {"id": "one"},
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", type=int, nargs="?", default=10_000)
    outcomes, trips, asked, served = beside_a_good_client(parser.parse_args().messages)
    print(f"attacks: {dict(outcomes)}; good client: {served} of {asked} served")
    print(f"round trip: median {1e3 * np.median(trips):.2f} ms, p99 {1e3 * np.percentile(trips, 99):.2f} ms")


if __name__ == "__main__":
    main()
