"""A client whose server refuses, is late, talks nonsense or is gone: a line for the arm each time, then it goes on."""

import base64
import hashlib
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from socket import create_server

import numpy as np
import pytest
from toy_server import SPEC, ToyPlanner, request, serving
from websockets.frames import Frame, Opcode
from websockets.sync.server import serve

from ebt_policy.deploy import protocol
from ebt_policy.deploy.client import RemotePlanner
from ebt_policy.deploy.plan import PlanError

TERMS = ToyPlanner().terms
GOOD = object()  # in a script: the right answer


@contextmanager
def scripted(*script):
    """The url of a server that gives these answers to requests, in turn, and then only right ones."""
    answers = iter(script)

    def answer(message):
        kind, body = protocol.unpack(message)
        if kind == "hello":
            return protocol.pack("terms", protocol.terms_body(TERMS))
        said = next(answers, GOOD)
        if said is not GOOD:
            return said
        return protocol.pack("plan", protocol.plan_body(ToyPlanner()(protocol.read_request(body, TERMS))))

    def handler(socket):
        for message in socket:
            said = answer(message)
            if said == "close":
                return
            for one in said if isinstance(said, list) else [said]:
                socket.send(one)

    with serve(handler, "127.0.0.1", 0, max_size=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


def plan(id=1, **changes):
    return protocol.pack("plan", protocol.plan_body(ToyPlanner()(request(id))) | changes)


UNUSABLE = {
    "bytes": b"\xff\x00garbage",
    "a text": "a text",
    "another kind": protocol.pack("ready", {}),
    "an error": protocol.pack("error", {"why": "no reason"}),
    "an error without a reason": protocol.pack("error", {}),
    "a large error": protocol.pack("error", {"why": "x\n" * 400_000}),
    "too large": bytes(protocol.MAX_BYTES + 1),
    "deep lists": b"\x91" * 600,
    "nothing but the kind": protocol.pack("plan", {}),
    "actions that are not finite": plan(actions=np.full((15, 7), np.nan)),
    "offsets that descend": plan(offsets=np.arange(15)[::-1] / 20),
    "text for a number": plan(seconds="0.1"),
    "the end": "close",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_after_an_answer_that_is_of_no_use_the_next_request_gets_its_plan(name):
    with scripted(UNUSABLE[name], GOOD, UNUSABLE[name]) as url, closing(RemotePlanner(url, SPEC)) as client:
        for id in (1, 3):
            with pytest.raises(PlanError) as error:
                client(request(id))
            assert url in str(error.value) and len(str(error.value)) < 600 and "\n" not in str(error.value)
            assert client(request(id + 1)).id == id + 1


def test_answers_to_other_requests_are_skipped_for_as_long_as_there_is_time():
    with scripted([plan(7), plan(8), plan(1)], [plan(7)] * 500) as url, closing(RemotePlanner(url, SPEC)) as client:
        assert client(request(1)).id == 1
        with pytest.raises(PlanError, match="did not answer within 200 ms"):
            client(request(2, deadline=0.2))
        assert client(request(3)).id == 3


def test_after_a_late_plan_the_next_one_comes_at_once():
    planner = ToyPlanner(seconds=0.5)
    with serving(planner) as (url, server, _), closing(RemotePlanner(url, SPEC)) as client:
        with pytest.raises(PlanError, match="did not answer within 50 ms|after its deadline"):
            client(request(1, deadline=0.05))
        planner.seconds = 0.0
        assert client(request(2)).id == 2  # though the server is still at work for the one before
        assert server.served == 1 and server.refused == 0


@pytest.mark.parametrize(
    "change, said",
    [
        ({"obs": {"hand": np.full((2, 3), np.nan)}}, "finite numbers in hand, got nan"),
        ({"obs": {"hand": np.full((2, 3), -np.inf)}}, "finite numbers in hand, got -inf"),
        ({"obs": {"hand": np.zeros((1, 3))}}, r"hand of shape \(2, 3\), got \(1, 3\)"),
        ({"obs": {"hand": np.zeros((2, 3), object)}}, "numbers in hand, got object"),
        ({"obs": {"hand": [[0.0] * 3] * 2}}, "hand of shape .2, 3., got no array"),
        ({"obs": {}}, "hand missing"),
        ({"tail": np.zeros((0, 7))}, "the tail of shape"),
        ({"deadline": 0.0}, "deadline above 0 s, got 0"),
        ({"id": 2**70}, "expected id as a whole number"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_here_and_costs_no_link(change, said):
    with serving() as (url, server, stop), closing(RemotePlanner(url, SPEC)) as client:
        with pytest.raises(PlanError, match=said):
            client(replace(request(1), **change))
        assert client(request(2)).id == 2
        stop()
        assert server.served == 1 and server.refused == 0


def test_numbers_of_any_kind_are_understood_and_what_the_policy_does_not_see_is_not_sent():
    with serving() as (url, _, _), closing(RemotePlanner(url, SPEC)) as client:
        for kind in (np.float16, np.float64, np.uint8, np.int32, bool):
            obs = {"hand": np.ones((2, 3), kind), "camera": np.zeros((2, 1000, 1000, 3), np.uint8)}
            assert client(replace(request(), obs=obs)).id == 1
        assert client(request(np.int64(2), deadline=1e300)).id == 2


class Failing(ToyPlanner):
    """Fails as a policy may, and then works."""

    def __init__(self, *failures):
        super().__init__()
        self.failures = list(failures)

    def __call__(self, request):
        failure = self.failures.pop(0) if self.failures else {}
        if isinstance(failure, Exception):
            raise failure
        return replace(super().__call__(request), **failure)


@pytest.mark.parametrize(
    "failure, said",
    [
        (PlanError("no plan\nto be had"), "refuses: no plan to be had"),
        (RuntimeError("CUDA out of memory"), "the policy failed, RuntimeError: CUDA out of memory"),
        (
            {"actions": np.full((15, 7), np.nan, np.float32)},
            "a plan of no use: expected finite numbers in actions, got nan",
        ),
        ({"actions": np.zeros((14, 7), np.float32)}, "expected actions of shape"),
        ({"energy": np.float32(np.inf)}, "expected energy as a finite number, got inf"),
    ],
)
def test_a_policy_that_fails_says_so_and_serves_the_next_request(failure, said):
    with serving(Failing(failure)) as (url, server, _), closing(RemotePlanner(url, SPEC)) as client:
        with pytest.raises(PlanError, match=said):
            client(request(1))
        assert client(request(2)).id == 2 and server.served == 1 and server.refused == 0


def test_who_leaves_while_a_plan_is_made_leaves_the_place_and_the_plan():
    planner = ToyPlanner(seconds=0.5)
    with serving(planner) as (url, server, _):
        first = RemotePlanner(url, SPEC, seed=1)
        asking = threading.Thread(target=lambda: pytest.raises(PlanError, first, request()))
        asking.start()
        time.sleep(0.2)
        first.close()
        asking.join()
        planner.seconds = 0.0
        with closing(RemotePlanner(url, SPEC, seed=5)) as second:
            assert second(request(2)).actions[0, 0] == 5  # the seed was set after the plan before was done with


def test_a_server_that_came_back_is_found_and_one_with_another_policy_is_not_followed():
    class Other(ToyPlanner):
        def __init__(self):
            super().__init__()
            self.terms = replace(self.terms, model="beef")

    with serving() as (url, _, stop):
        port = int(url.rsplit(":", 1)[1])
        client = RemotePlanner(url, SPEC)
        assert client(request(1)).id == 1
    with serving(port=port):
        with pytest.raises(PlanError, match="the link .* is lost"):
            client(request(2))
        assert client(request(3)).id == 3
    with serving(Other(), port=port):
        for _ in range(2):
            with pytest.raises(PlanError, match="is lost|another one now, beef: start the robot again"):
                client(request(4))
        with closing(RemotePlanner(url, SPEC)) as fresh:
            assert fresh(request(5)).id == 5


def test_a_server_that_does_not_read_holds_nobody_for_ever():
    """It says its terms, and reads no byte more."""
    spec = replace(SPEC, obs={"hand": (2_000_000,)})
    terms = replace(TERMS, spec=spec.to_dict())

    def answers():
        socket, _ = deaf.accept()
        head = socket.recv(1 << 16).decode()
        key = next(line for line in head.splitlines() if line.startswith("Sec-WebSocket-Key")).split()[1]
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        opening = (
            f"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        body = protocol.pack("terms", protocol.terms_body(terms))
        socket.sendall(opening.encode() + Frame(Opcode.BINARY, body).serialize(mask=False))
        done.wait(60)

    done = threading.Event()
    with create_server(("127.0.0.1", 0)) as deaf:
        threading.Thread(target=answers, daemon=True).start()
        client = RemotePlanner(f"ws://127.0.0.1:{deaf.getsockname()[1]}", spec, patience=1.0)
        with pytest.raises(PlanError, match="the link .* is lost"):
            client(replace(request(), obs={"hand": np.zeros((2, 2_000_000))}))
        done.set()


@pytest.mark.parametrize("what", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", bytes(1000)])
def test_what_is_no_policy_server_is_told_apart(what):
    def answers():
        socket, _ = other.accept()
        socket.recv(1 << 16)
        socket.sendall(what)
        socket.close()

    with create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=answers, daemon=True).start()
        with pytest.raises(PlanError, match="expected a policy server at"):
            RemotePlanner(f"ws://127.0.0.1:{other.getsockname()[1]}", SPEC)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8765", "http://127.0.0.1", "ws://", "ws://nowhere.invalid:1", "ws://x:y"]
)
def test_what_is_no_address_is_told_in_a_line(url):
    with pytest.raises(PlanError, match="expected a policy server at .*: start scripts/serve.py there"):
        RemotePlanner(url, SPEC)
