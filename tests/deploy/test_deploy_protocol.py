"""Messages: what is refused before it costs anything, what is said about it, and what the two sides agree on."""

import io
import math
import random
import tracemalloc
from copy import deepcopy
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from attacks import hello, maps
from PIL import Image
from toy_server import SPEC, ToyPlanner, request

from ebt_policy.deploy import protocol
from ebt_policy.deploy.client import RemotePlanner
from ebt_policy.deploy.protocol import ProtocolError
from ebt_policy.deploy.serve import Address

TERMS = ToyPlanner().terms
SEES = replace(TERMS, spec=SPEC.to_dict() | {"obs": {"camera": [32, 24, 3], "hand": [3]}})
PLAN = protocol.plan_body(ToyPlanner()(request()))
NAN = float("nan")
LARGE = 16 << 20


def flat(count):
    return b"\x82\xa4kind\xa1x\xa1x\xdd" + count.to_bytes(4, "big") + b"\x80" * count


NONSENSE = {
    "nothing": b"",
    "cut off": protocol.pack("hello", hello())[:-1],
    "a text": "hello",
    "no map": b"\x01",
    "no kind": b"\x80",
    "two messages": protocol.pack("ready", {}) * 2,
    "nested maps": maps(4092),
    "maps in one list": flat(LARGE),
    "just too many maps": flat(2047),
    "deep lists": b"\x91" * 500 + b"\xc0",
    "deeper lists": b"\x91" * 100_000,
    "deep maps": b"\x81\xa1x" * 500 + b"\xc0",
    "lists of the longest kind": b"\xdd\xff\xff\xff\xff",
    "bytes of the longest kind": b"\xc6\xff\xff\xff\xff",
    "a key twice": b"\x82\xa4kind\xa1x\xa4kind\xa1y",
    "a key of bytes": b"\x82\xa4kind\xa1x\xc4\x01a\xc0",
    "a number as a key": b"\x82\xa4kind\xa1x\x01\xc0",
    "an extension": b"\x82\xa4kind\xa1x\xa1y\xc7\x01\x05z",
    "an empty extension": b"\x82\xa4kind\xa1x\xa1y\xc7\x00\x05",
    "a time": b"\x82\xa4kind\xa1x\xa1y\xd6\xff\x00\x00\x00\x01",
    "half a character": b"\x81\xa4kind\xa3\xed\xa0\x80",
    "array of objects": msgpack.packb({"kind": "x", "y": {"t": "O", "s": [1], "b": bytes(8)}}),
    "array of lists": msgpack.packb({"kind": "x", "y": {"t": [], "s": [1], "b": bytes(8)}}),
    "array without numbers": msgpack.packb({"kind": "x", "y": {"t": "f4", "s": [10**18, 0], "b": b""}}),
    "array larger than its bytes": msgpack.packb({"kind": "x", "y": {"t": "f4", "s": [2**40, 2**40], "b": bytes(8)}}),
    "array of negative size": msgpack.packb({"kind": "x", "y": {"t": "f4", "s": [-1, -2], "b": bytes(8)}}),
    "array of size true": msgpack.packb({"kind": "x", "y": {"t": "f4", "s": [True], "b": bytes(4)}}),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_before_it_is_built(name):
    tracemalloc.start()
    with pytest.raises(ProtocolError, match="expected"):
        protocol.unpack(NONSENSE[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_as_many_items_as_allowed_are_built():
    assert protocol.MAX_ITEMS == 4096
    assert len(protocol.unpack(flat(2046))[1]["x"]) == 2046  # a map of two, a list of 2046, and 2046 maps
    with pytest.raises(ProtocolError, match="expected at most 4096 items"):
        protocol.unpack(flat(2047))


ODD = [None, True, -1, 2**64 - 1, 1e308, NAN, math.inf, "text", "é" * 5000, b"x", [], {}, [[]] * 20]
ODD += [{"t": "f4", "s": [3], "b": bytes(12)}, {"t": "f4", "s": [2], "b": bytes(12)}, [{"jpeg": b""}]]


def leaves(value, path=()):
    """The ways to all that is in a message."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from leaves(part, (*path, key))


def bent(message, rng):
    """With one or two odd values in it, or with some of its bytes changed."""
    if rng.random() < 0.5:
        data = bytearray(message)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    value = msgpack.unpackb(message)
    for _ in range(rng.randrange(1, 3)):
        *way, last = rng.choice(list(leaves(value)))
        part = value
        for key in way:
            part = part[key]
        part[last] = deepcopy(rng.choice(ODD))
    return msgpack.packb(value)


def read_hello(body):
    protocol.check_version(body)
    spec = protocol.field(body, "spec", dict)
    protocol.field(spec, "obs", dict), protocol.field(spec, "action", dict)
    return protocol.differences(TERMS.spec, spec)


def pictures(quality=92, size=(24, 32), count=2):
    buffer = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(buffer, "JPEG", quality=quality)
    return [{"jpeg": buffer.getvalue()}] * count


def test_bent_messages_are_read_or_refused_in_a_line():
    rng, refused = random.Random(0), 0
    seen = {"id": 1, "obs": {"camera": pictures(), "hand": np.zeros((2, 3))}, "deadline": 1.0, "tail": np.zeros((3, 7))}
    readers = [
        (protocol.pack("plan", seen), lambda body: protocol.read_request(body, SEES)),
        (protocol.pack("plan", PLAN), lambda body: protocol.read_plan(body, TERMS)),
        (
            protocol.pack("terms", protocol.terms_body(TERMS)),
            lambda body: protocol.differences(protocol.read_terms(body).spec, TERMS.spec),
        ),
        (protocol.pack("hello", hello()), read_hello),
    ]
    for _ in range(1000):
        for message, read in readers:
            try:
                read(protocol.unpack(bent(message, rng), 256)[1])
            except ProtocolError as error:
                refused += 1
                assert len(str(error)) < 500 and "\n" not in str(error)
    assert refused > 1000


@pytest.mark.parametrize("terms, codec", [(TERMS, "raw"), (SEES, "raw"), (SEES, "jpeg")])
def test_requests_of_a_spec_are_within_its_size(terms, codec):
    obs = {k: np.random.default_rng(0).normal(size=(2, *shape)) for k, shape in terms.spec["obs"].items()}
    if codec == "jpeg":
        obs["camera"] = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)
    size, asked = protocol.Size.of_request(terms), replace(request(tail=np.zeros((30, 7))), obs=obs)
    message = protocol.pack("plan", protocol.request_body(asked, codec))
    assert len(message) < size.bytes < 60_000
    assert set(protocol.read_request(protocol.unpack(message, size.items)[1], terms).obs) == set(obs)


def with_obs(key, value):
    return {"id": 1, "obs": {"camera": pictures(), "hand": np.zeros((2, 3))} | {key: value}, "deadline": 1.0}


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("hand", pictures(count=40), "hand as an array of shape .2, 3., got a list"),
        ("camera", pictures(count=40), "2 frames of camera, got 40"),
        (
            "camera",
            [{"jpeg": pictures(size=(4096, 4096))[0]["jpeg"][:2000]}] * 2,
            "of .32, 24. in camera, got .4096, 4096",
        ),
        ("camera", [{"jpeg": pictures()[0]["jpeg"][:700]}] * 2, "expected complete jpegs in camera"),
        ("camera", [{"jpeg": b"no picture"}] * 2, "expected complete jpegs in camera"),
        ("camera", [{"jpeg": "text"}] * 2, "a list of jpeg frames"),
        ("camera", [{"png": b""}] * 2, "a list of jpeg frames"),
        ("hand", np.full((2, 3), NAN), "finite numbers in hand, got nan"),
        ("hand", np.full((2, 3), 1e39), "finite numbers in hand, got 1e"),
        ("hand", np.zeros((1, 3)), r"hand of shape \(2, 3\), got \(1, 3\)"),
        ("hand", "0, 0, 0", "hand of shape .2, 3., got no array"),
    ],
)
def test_observations_other_than_the_spec_says_are_refused_by_name(key, value, said):
    with pytest.raises(ProtocolError, match=said):
        protocol.read_request(with_obs(key, value), SEES)
    assert protocol.read_request(with_obs("hand", np.ones((2, 3), np.uint8)), SEES).obs["camera"].shape == (
        2,
        32,
        24,
        3,
    )


def test_a_picture_larger_than_pillow_would_open_is_refused_like_the_others():
    head = pictures()[0]["jpeg"]
    at = head.index(b"\xff\xc0") + 5
    huge = head[:at] + b"\xff\xff\xff\xff" + head[at + 4 :]  # 65535 by 65535
    with pytest.raises(ProtocolError, match="expected complete jpegs in camera, got DecompressionBombError"):
        protocol.read_request(with_obs("camera", [{"jpeg": huge}] * 2), SEES)


@pytest.mark.parametrize("change", [{"deadline": x} for x in (0, -1.0, NAN, math.inf, "1", True, None)])
def test_a_deadline_is_a_number_of_seconds(change):
    with pytest.raises(ProtocolError, match="expected .*deadline"):
        protocol.read_request(with_obs("hand", np.zeros((2, 3))) | change, SEES)


DESCENDING, LATE = np.arange(15)[::-1] / 20, np.arange(15.0) * 1e300


@pytest.mark.parametrize(
    "change",
    [{"actions": np.full((15, 7), x)} for x in (NAN, math.inf, 1e39)]
    + [{"actions": x} for x in ("text", None, np.zeros((15, 6)), np.zeros((15, 7), np.uint8), np.zeros((15, 7), bool))]
    + [{"offsets": x} for x in (DESCENDING, DESCENDING - 0.1, np.zeros(15), np.full(15, NAN), LATE, np.arange(14) / 20)]
    + [{"offsets": np.arange(15) / 20 - 0.05}, {"offsets": [0.05 * i for i in range(15)]}]
    + [{name: x} for name in ("id", "steps") for x in ("1", 1.0, True, None)]
    + [{"steps": -1}, {"seconds": -1.0}, {"stop": None}, {"stop": 3}]
    + [{name: x} for name in ("seconds", "energy", "grad_norm") for x in ("0.1", NAN, math.inf, True, [0.1])]
    + [{"seconds": None}, {"more": 1}],
)
def test_a_plan_that_no_robot_could_follow_is_refused(change):
    with pytest.raises(ProtocolError, match="expected"):
        protocol.read_plan(PLAN | change, TERMS)
    protocol.read_plan(PLAN | {"energy": None, "grad_norm": 0, "seconds": 0}, TERMS)


@pytest.mark.parametrize(
    "change",
    [{name: x} for name in ("observe", "execute", "plan") for x in (0, -1, 1.0, True, "2", None)]
    + [{name: 10**9} for name in ("observe", "execute", "plan")]
    + [{"spec": TERMS.spec | x} for x in ({"more": 1}, {"obs": {}}, {"action": TERMS.spec["action"] | {"low": None}})]
    + [{"model": 3}, {"spec": None}, {"spec": {"obs": {}}}, {"spec": {"action": {"dim": 7}}}]
    + [{"spec": {"obs": {"hand": x}, "action": {"dim": 7}}} for x in (3, [0], [-1], ["3"], [1.5], None)]
    + [{"spec": {"obs": {"hand": [3]}, "action": {"dim": x}}} for x in (0, "7", None, True)],
)
def test_terms_that_make_no_sense_are_refused(change):
    body = protocol.terms_body(TERMS)
    assert protocol.read_terms(body) == TERMS
    with pytest.raises(ProtocolError, match="expected"):
        protocol.read_terms(body | change)


def test_what_nobody_said_differs_from_nothing():
    mine, action = SPEC.to_dict(), SPEC.to_dict()["action"]
    for unsaid in (None, "unknown", -math.inf, math.inf):
        for name in ("low", "high", "frame"):
            silent = mine | {"action": action | {name: unsaid}}
            assert protocol.differences(silent, mine) == protocol.differences(mine, silent) == []
        assert protocol.differences(mine | {"hz": unsaid}, mine) == []
    said = protocol.differences(mine, mine | {"action": action | {"low": -2.0}})
    assert said == [f"action.low: the policy {action['low']}, the robot -2.0"]


def test_what_a_robot_says_is_quoted_in_few_words():
    theirs = SPEC.to_dict() | {"obs": {"hand": "x" * LARGE}, "hz": "9" * LARGE}
    said = "; ".join(protocol.differences(SPEC.to_dict(), theirs))
    assert said.startswith("observation hand: the policy [3], the robot xxx") and len(said) < 200
    assert len(str(ProtocolError("x" * LARGE))) < 500


@pytest.mark.parametrize("token", [123456, 1.5, True, None, b"sesame", "two\nlines", "\udc80"])
def test_a_token_is_text_and_digits_have_to_be_quoted(token):
    for make in (lambda: Address(token=token), lambda: RemotePlanner("ws://127.0.0.1:1", SPEC, token)):
        with pytest.raises(ValueError, match="quote it, as in token=\"'123456'\""):
            make()
    assert Address(token="0123").token == "0123"


@pytest.mark.parametrize("port", [-1, 65536, "8765", 1.5, None, True])
def test_a_port_is_a_number_that_there_is(port):
    with pytest.raises(ValueError, match="port must be"):
        Address(port=port)
