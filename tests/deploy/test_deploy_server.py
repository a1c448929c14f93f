"""Server and client: what they agree on, what they refuse, and that bad messages hurt nobody else."""

import os
import random
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from fuzz_server import bad_request, beside_a_good_client, hello
from toy_server import SPEC, ToyPlanner, request, serving
from websockets.sync.client import connect

from ebt_policy.deploy import protocol
from ebt_policy.deploy.client import RemotePlanner
from ebt_policy.deploy.plan import PlanError
from ebt_policy.deploy.serve import Address


def test_a_plan_comes_back_as_the_planner_made_it():
    with serving() as (url, server, _):
        client = RemotePlanner(url, SPEC, seed=4)
        plan, here = client(request(7, tail=np.zeros((9, 7)))), ToyPlanner()
        here.reset(4)
        expected = here(request(7))
        np.testing.assert_array_equal(plan.actions, expected.actions)
        np.testing.assert_array_equal(plan.offsets, expected.offsets)
        assert (plan.id, plan.steps, plan.stop, plan.energy, plan.grad_norm) == (7, 2, "steps", -1.5, 0.25)
        assert client.terms.model == "cafe" and server.served == 1
        client.reset(9)
        assert client(request()).actions[0, 0] == 9
        client.close()


def test_a_robot_that_differs_from_the_policy_is_refused_with_field_and_values():
    with serving() as (url, _, _):
        other = replace(SPEC, hz=10.0, action=replace(SPEC.action, dim=6))
        with pytest.raises(
            PlanError, match="action.dim: the policy 7, the robot 6; hz: the policy 20.0, the robot 10.0"
        ):
            RemotePlanner(url, other)
        with pytest.raises(PlanError, match=r"observation hand: the policy \[3\], the robot none"):
            RemotePlanner(url, replace(SPEC, obs={"elbow": (3,)}))


def test_a_second_client_is_refused_until_the_first_is_gone():
    with serving() as (url, _, _):
        first = RemotePlanner(url, SPEC)
        with pytest.raises(PlanError, match="another robot is being served"):
            RemotePlanner(url, SPEC)
        first.close()
        second = within(5, lambda: RemotePlanner(url, SPEC))
        assert second(request()).id == 1
        second.close()


def within(seconds, call):
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except PlanError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def test_a_token_is_needed_where_others_can_reach_the_server():
    with pytest.raises(ValueError, match="expected a token for 0.0.0.0"):
        Address("0.0.0.0")
    with serving(token="sesame") as (url, server, _):
        with pytest.raises(PlanError, match="expected the server's token"):
            RemotePlanner(url, SPEC, token="guess")
        RemotePlanner(url, SPEC, token="sesame").close()
        assert server.refused == 1


def test_another_protocol_version_is_refused_by_both_sides(monkeypatch):
    with serving() as (url, _, _):
        with connect(url, proxy=None) as socket:
            socket.send(protocol.pack("hello", hello(token="", protocol=0)))
            assert "expected protocol 1, got 0" in protocol.unpack(socket.recv(timeout=5))[1]["why"]
        with pytest.raises(protocol.ProtocolError, match="update the older side"):
            protocol.check_version({"protocol": 2})


def test_a_plan_that_takes_too_long_is_an_error_and_the_next_one_comes():
    planner = ToyPlanner(seconds=0.3)
    with serving(planner) as (url, _, _):
        client = RemotePlanner(url, SPEC)
        with pytest.raises(PlanError, match="did not answer within 50 ms|after its deadline"):
            client(request(1, deadline=0.05))
        planner.seconds = 0.0
        assert within(5, lambda: client(request(2))).id == 2
        client.close()


def test_a_server_that_stops_tells_its_client_and_a_new_one_takes_over():
    with serving() as (url, _, stop):
        client = RemotePlanner(url, SPEC)
        stop()
        with pytest.raises(PlanError, match="the link .* is lost"):
            client(request())
        for ask in (lambda: client(request()), lambda: client.reset(1)):
            with pytest.raises(PlanError, match="expected a policy server at"):
                ask()


def test_health_needs_no_websocket_and_no_token():
    with serving(token="sesame") as (url, _, _):
        health = url.replace("ws", "http", 1) + "/health"
        assert urllib.request.urlopen(health).read() == b"free, 0 plans served\n"


def test_a_bad_request_ends_its_session_with_a_reason_and_frees_the_place():
    rng = random.Random(0)
    with serving(token="sesame") as (url, server, _):
        for _ in range(15):
            with connect(url, proxy=None) as socket:
                socket.send(protocol.pack("hello", hello()))
                assert protocol.unpack(socket.recv(timeout=5))[0] == "terms"
                socket.send(bad_request(rng))
                kind, body = protocol.unpack(socket.recv(timeout=5))
                assert kind == "error" and "expected" in body["why"]
        assert server.served == 0
        client = within(5, lambda: RemotePlanner(url, SPEC, token="sesame"))
        assert client(request()).id == 1
        client.close()


def test_malformed_messages_are_not_served_and_a_good_client_beside_them_is():
    outcomes, _, asked, served = beside_a_good_client(60)
    assert set(outcomes) <= {"error", "closed"} and outcomes.total() == 60
    assert served == asked >= 20


def test_messages_are_what_was_packed_and_images_survive_compression():
    body = {"x": np.arange(6.0).reshape(2, 3), "n": np.float32(0.5), "list": [1, "two", None], "ints": np.arange(3)}
    kind, back = protocol.unpack(protocol.pack("any", body))
    assert kind == "any" and back["n"] == 0.5 and back["list"] == [1, "two", None]
    np.testing.assert_array_equal(back["x"], body["x"])
    assert back["ints"].dtype == np.float64
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    frames = np.broadcast_to(ramp[:, None, None], (2, 32, 24, 3)).copy()
    terms = replace(ToyPlanner().terms, spec=SPEC.to_dict() | {"obs": {"camera": [32, 24, 3]}})
    sent = protocol.pack("plan", protocol.request_body(replace(request(), obs={"camera": frames}), "jpeg"))
    read = protocol.read_request(protocol.unpack(sent)[1], terms)
    assert np.abs(read.obs["camera"].astype(int) - frames).mean() < 3 and len(sent) < frames.nbytes


LIGHT = """
import sys, time
begin = time.process_time()
import ebt_policy.deploy.client, ebt_policy.deploy.control, ebt_policy.deploy.link
spent = time.process_time() - begin
ours = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(spent, sorted(n for n in ours if not n.startswith(("_", "sitecustomize", "pyximport"))))
"""


def test_the_client_imports_numpy_websockets_and_msgpack_alone_in_a_moment():
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, env=environment, check=True)
    spent, _, names = done.stdout.partition(" ")
    assert not {"torch", "gymnasium", "hydra", "scipy", "zarr", "PIL"} & set(listed(names))
    assert {"numpy", "websockets", "msgpack", "ebt_policy"} <= set(listed(names))
    assert float(spent) < 0.6  # CPU seconds; 0.3 on an idle machine


def listed(text):
    return [name.strip(" '[]\n") for name in text.split(",")]
