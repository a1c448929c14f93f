"""Whatever strangers do to a policy server, the robot that is served gets its plans and the server stays small."""

import threading
from contextlib import closing, suppress
from socket import create_connection

import pytest
from attacks import BEFORE_HELLO, IN_SESSION, OPENING, Attacker, framed, said
from fuzz_server import Good, taken
from toy_server import SPEC, served, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ebt_policy.deploy import door, serve
from ebt_policy.deploy.client import RemotePlanner

GROWN = 50  # MB; 2.2 GB were once enough for a stranger to stop a server
SHORT = 1000  # bytes


@pytest.fixture(scope="module")
def server():
    with served(0.005) as server:
        yield server


@pytest.mark.parametrize("name", BEFORE_HELLO)
def test_a_good_client_gets_all_its_plans_beside(name, server):
    what, attackers, before = BEFORE_HELLO[name](), [Attacker(server.url) for _ in range(4)], server.memory()
    patience = 1.0 if name == "silence" else 20.0
    with closing(RemotePlanner(server.url, SPEC, token="sesame")) as planner:
        good, crowd = Good(planner), [threading.Thread(target=a.comes, args=(what, patience)) for a in attackers]
        for one in crowd:
            one.start()
        while any(one.is_alive() for one in crowd):
            good.rate(0.1)
    assert good.lost == 0 and good.asked > 0
    assert server.memory("VmHWM") - before < GROWN
    assert max(a.longest for a in attackers) < SHORT
    endings = {ending for a in attackers for ending in a.endings}
    assert endings <= ({"silent"} if name == "silence" else {"error", "closed"})


@pytest.mark.parametrize("name", IN_SESSION)
def test_a_robot_that_sends_more_than_its_spec_allows_loses_its_place_and_no_more(name, server):
    after = taken(server, name, times=3, seconds=0.2)
    assert after.endings.total() == 3 and set(after.endings) <= {"error", "closed"}
    assert after.lost == 0 and after.grown < GROWN and min(after.attacked) > 0


def crowd(url, count, what=b""):
    """Sockets of strangers who have said it, and do not listen."""
    address = Attacker(url).address
    many = [create_connection(address, 20) for _ in range(count)]
    for one in many:
        one.sendall(OPENING + what)
    return many


def test_a_robot_is_let_in_past_a_crowd_that_says_nothing(server):
    many = crowd(server.url, 200)
    with closing(RemotePlanner(server.url, SPEC, token="sesame")) as planner:
        assert Good(planner).rate(0.2) > 0
    for one in many:
        one.close()


def test_who_says_no_hello_is_told_so_and_sent_away(monkeypatch):
    monkeypatch.setattr(serve, "GREETING", 1.0)
    with serving() as (url, server, _):
        with connect(url, proxy=None) as socket:
            assert b"expected a hello within 1 s" in socket.recv(timeout=5)
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=5)
        assert server.refused == 1
        slow = Attacker(url)
        slow.comes(framed(b"")[:1], 20.0)
        assert slow.endings == {"error": 1}


def test_strangers_are_heard_at_a_pace_and_only_so_many_wait(monkeypatch):
    monkeypatch.setattr(door, "WAITING", 3)
    monkeypatch.setattr(door, "PACE", 0.5)
    with serving() as (url, server, _):
        heard = [heard_by(one) for one in crowd(url, 10, said(token="guess"))]
    assert [b"error" in what for what in heard] == [True] + 6 * [False] + 3 * [True]
    assert server.refused == 4  # one at once, and the newest of those that waited


def heard_by(socket):
    """All that is said until the socket is closed."""
    said = b""
    with suppress(ConnectionError), socket:
        while part := socket.recv(1 << 16):
            said += part
    return said


def test_an_opening_without_end_is_cut_off():
    with serving() as (url, server, _):
        endless = Attacker(url)
        endless.comes(OPENING[:20] + b"x" * (1 << 20))
        assert endless.endings == {"closed": 1} and server.refused == 0
