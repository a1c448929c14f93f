"""What client and server say to each other: msgpack maps of numbers, texts and arrays, checked before they are used.

    hello {protocol, token, spec, seed} ->    <- terms {protocol, spec, observe, execute, plan, model}
    plan  {id, obs, tail, deadline}     ->    <- plan  {id, actions, offsets, steps, stop, seconds, energy, grad_norm}
    reset {seed}                        ->    <- ready {}
                                              <- error {why}, and the connection is closed if it cannot go on

Raw units on the wire. An array is {t: type, s: shape, b: bytes}; images may be a list of {jpeg: bytes}, one a frame.
No more of a message is built or decoded than the policy's spec allows, and a refusal quotes little of it.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

import msgpack
import numpy as np

from ebt_policy.data.spec import UNKNOWN, Spec
from ebt_policy.deploy.plan import Plan, Request, Terms

PROTOCOL = 1
MAX_BYTES = 1 << 20  # of an answer
MAX_ITEMS = 4096  # of an answer: entries of all its maps and lists
TYPES = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8"), "u1": np.dtype("u1")}
CODECS = ("raw", "jpeg")
QUALITY = 92
LONG = 400  # characters of a text that comes from the other side
STEPS = 10_000  # that a policy may observe or plan
HOUR = 3600.0  # s that a plan may reach ahead
MOST = sys.float_info.max


class ProtocolError(ValueError):
    """A message that is not what it should be; the text is short and may be sent back."""

    def __init__(self, text: str):
        super().__init__(shortened(text))


@dataclass(frozen=True)
class Size:
    """How large a message may be."""

    bytes: int
    items: int  # entries of all its maps and lists

    @classmethod
    def of_request(cls, terms: Terms) -> Size:
        """What the terms ask for at 8 bytes a number, twice the tail, and room for names and heads of pictures."""
        shapes, rows = terms.spec["obs"].values(), 2 * (terms.observe + terms.plan)
        numbers = terms.observe * sum(math.prod(shape) for shape in shapes) + rows * terms.spec["action"]["dim"]
        frames = len(shapes) * (2 + terms.observe)
        return cls(8 * numbers + 1024 * (4 + frames), 64 + 8 * frames)


def pack(kind: str, body: Mapping[str, Any]) -> bytes:
    """A message of a kind; arrays anywhere in `body` are packed, float16 and integers as float64."""
    try:
        return msgpack.packb({"kind": kind} | _packed(dict(body)), use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"expected numbers of 64 bits, texts and arrays for a message, got {error}") from error


def unpack(message: bytes | str, items: int = MAX_ITEMS) -> tuple[str, dict[str, Any]]:
    """The kind and the body of a message; ProtocolError for everything else, and for more than so many items."""
    if not isinstance(message, bytes):
        raise ProtocolError("expected binary messages, got text")
    sizes = {"max_map_len": items, "max_array_len": items, "max_ext_len": 0}
    try:
        body = msgpack.unpackb(message, raw=False, strict_map_key=True, ext_hook=_nothing, **sizes, **_counted(items))
    except ProtocolError:
        raise
    except Exception as error:  # whatever nonsense makes the library raise
        raise ProtocolError(f"expected msgpack with at most {items} items, got {type(error).__name__}") from error
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
        raise ProtocolError("expected a map with a kind")
    return body.pop("kind"), body


def request_body(request: Request, codec: str = "raw") -> dict[str, Any]:
    """A request as a message's body; images, (To, H, W, 3) bytes, as the codec has them."""
    obs = {key: _image(value) if codec == "jpeg" else None for key, value in request.obs.items()}
    obs = {key: request.obs[key] if image is None else image for key, image in obs.items()}
    return {"id": request.id, "obs": obs, "deadline": request.deadline, "tail": request.tail}


def read_request(body: Mapping[str, Any], terms: Terms) -> Request:
    """The request, its observations as the policy's terms have them; ProtocolError names what is otherwise."""
    sent, wanted = field(body, "obs", dict), _wanted(terms)
    obs = {key: _frames(key, sent[key], shape) for key, shape in wanted.items() if key in sent}
    request = Request(field(body, "id", int), obs, field(body, "deadline", (int, float)), body.get("tail"))
    check_request(request, terms)
    return request


def check_request(request: Request, terms: Terms) -> None:
    """ProtocolError unless a policy of these terms can plan from it."""
    wanted = _wanted(terms)
    if missing := sorted(set(wanted) - set(request.obs)):
        raise ProtocolError(f"expected the observations {sorted(wanted)}, {', '.join(missing)} missing")
    for key, shape in wanted.items():
        _check_array(key, request.obs[key], shape)
    if request.tail is not None:
        _check_array("the tail", request.tail, ("m", terms.spec["action"]["dim"]))
    _check_number("id", request.id, Integral, -(2**63), 2**63 - 1)
    _check_number("deadline", request.deadline)
    if request.deadline <= 0:
        raise ProtocolError(f"expected a deadline above 0 s, got {request.deadline:g}")


def read_plan(body: Mapping[str, Any], terms: Terms) -> Plan:
    """The plan; ProtocolError unless it is one for a robot of these terms."""
    names = {f.name for f in fields(Plan)}
    if set(body) != names:
        raise ProtocolError(f"expected a plan with {', '.join(sorted(names))}, got {', '.join(sorted(body))}")
    plan = Plan(**body)
    check_plan(plan, terms)
    return plan


def check_plan(plan: Plan, terms: Terms) -> None:
    """ProtocolError unless a robot of these terms can follow it: nothing but finite numbers, in the order of time."""
    _check_array("actions", plan.actions, (terms.plan, terms.spec["action"]["dim"]), "f")
    _check_array("offsets", plan.offsets, (terms.plan,), "f")
    if plan.offsets[0] < 0 or (np.diff(plan.offsets) <= 0).any() or plan.offsets[-1] > HOUR:
        raise ProtocolError(f"expected offsets that ascend from 0 s or later, got {plan.offsets[:8].tolist()}")
    field(vars(plan), "stop", str)
    _check_number("id", plan.id, Integral)
    _check_number("steps", plan.steps, Integral, 0)
    _check_number("seconds", plan.seconds, Real, 0)
    for name in ("energy", "grad_norm"):
        if getattr(plan, name) is not None:
            _check_number(name, getattr(plan, name))


def read_terms(body: Mapping[str, Any]) -> Terms:
    """The server's terms; ProtocolError if something is missing or makes no sense."""
    kinds = {"spec": dict, "observe": int, "execute": int, "plan": int, "model": str}
    terms = Terms(**{name: field(body, name, kind) for name, kind in kinds.items()})
    for name in ("observe", "execute", "plan"):
        _check_number(name, getattr(terms, name), Integral, 1)
        if getattr(terms, name) > STEPS:
            raise ProtocolError(f"expected at most {STEPS} steps to {name}, got {getattr(terms, name)}")
    obs, action = field(terms.spec, "obs", dict), field(terms.spec, "action", dict)
    if wrong := [key for key, shape in obs.items() if not _is_shape(shape)]:
        raise ProtocolError(f"expected the shapes of {', '.join(wrong)} as lists of whole numbers above 0")
    _check_number("action.dim", action.get("dim"), Integral, 1)
    try:
        spec = Spec.from_dict(terms.spec)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"expected the spec of a policy, got {error!r}") from error
    if not spec.obs:
        raise ProtocolError("expected a policy that observes something, it has no observations")
    return terms


def plan_body(plan: Plan) -> dict[str, Any]:
    return {f.name: getattr(plan, f.name) for f in fields(Plan)}


def terms_body(terms: Terms) -> dict[str, Any]:
    return asdict(terms) | {"protocol": PROTOCOL}


def check_version(body: Mapping[str, Any]) -> None:
    if (version := field(body, "protocol", int)) != PROTOCOL:
        raise ProtocolError(f"expected protocol {PROTOCOL}, got {version}: update the older side")


def check_token(token: object) -> None:
    """ValueError unless it is text: a command line reads digits as a number, which has lost its leading zeros."""
    if not isinstance(token, str) or not token.isprintable():
        raise ValueError(
            f"expected a token of printable text, got {type(token).__name__}: quote it, as in token=\"'123456'\""
        )


def differences(policy: Mapping[str, Any], robot: Mapping[str, Any]) -> list[str]:
    """Where a robot's spec is not the policy's, as texts with the field and both values; unknown fits everything."""
    said, here = [], robot.get("obs", {})
    for key, shape in policy["obs"].items():
        if not _is_shape(here.get(key)) or list(here[key]) != list(shape):
            said.append(f"observation {key}: the policy {list(shape)}, the robot {_quoted(here.get(key), 'none')}")
    pairs = {f"action.{name}": (value, robot.get("action", {}).get(name)) for name, value in policy["action"].items()}
    pairs["hz"] = (policy.get("hz"), robot.get("hz"))
    return said + [
        f"{name}: the policy {_quoted(a)}, the robot {_quoted(b)}"
        for name, (a, b) in pairs.items()
        if not (_is_plain(a) and _is_plain(b)) or (a != b and a not in UNKNOWN and b not in UNKNOWN)
    ]


def field(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """body[name], of this kind; ProtocolError otherwise."""
    value = body.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ProtocolError(f"expected {name!r} in the message, got {type(value).__name__}")
    return value


def shortened(text: str) -> str:
    """In one line that a person reads, whatever the other side had put into it."""
    text = " ".join(text[: 4 * LONG].split())
    return text if len(text) <= LONG else f"{text[:LONG]} ..."


def _wanted(terms: Terms) -> dict[str, tuple[int, ...]]:
    return {key: (terms.observe, *shape) for key, shape in terms.spec["obs"].items()}


def _check_array(name: str, value: Any, shape: tuple[int | str, ...], kinds: str = "biuf") -> None:
    """ProtocolError unless value is an array of finite numbers, as float32; m in a shape is any number above 0."""
    got = getattr(value, "shape", None)
    if not isinstance(value, np.ndarray) or len(got) != len(shape) or not value.size:
        raise ProtocolError(f"expected {name} of shape {shape}, got {'no array' if got is None else got}")
    if any(n not in (m, "m") for n, m in zip(shape, got, strict=True)):
        raise ProtocolError(f"expected {name} of shape {shape}, got {got}")
    if value.dtype.kind not in kinds:
        raise ProtocolError(f"expected numbers in {name}, got {value.dtype}")
    far = ~(np.abs(value) <= np.finfo(np.float32).max) if value.dtype.kind == "f" else np.zeros(1, bool)
    if far.any():
        raise ProtocolError(f"expected finite numbers in {name}, got {value[far][0]}")


def _check_number(name: str, value: Any, kind: type = Real, least: float = -MOST, most: float = MOST) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
        quality = "a whole" if kind is Integral else "a finite"
        above = f" of at least {least}" if least > -MOST else ""
        raise ProtocolError(f"expected {name} as {quality} number{above}, got {_quoted(value)}")


def _is_shape(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) > 5:
        return False
    return all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | Real)


def _quoted(value: Any, nothing: str = "None") -> str:
    """A value from outside, in a few characters."""
    if value is None:
        return nothing
    return str(value)[:40] if _is_plain(value) or _is_shape(value) else f"something else ({type(value).__name__})"


def _packed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _packed(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(v) for v in value]
    if isinstance(value, np.ndarray):
        names = {dtype: name for name, dtype in TYPES.items()}
        value = value if value.dtype in names else value.astype(np.float64)
        return {"t": names[value.dtype], "s": list(value.shape), "b": np.ascontiguousarray(value).tobytes()}
    return value.item() if isinstance(value, np.generic) else value


def _counted(items: int) -> dict[str, Callable]:
    """Hooks of msgpack that build the containers from the innermost on, until there are more items than allowed."""
    left = items

    def count(values: list) -> list:
        nonlocal left
        left -= 1 + len(values)
        if left < 0:
            raise ProtocolError(f"expected at most {items} items, got more")
        return values

    def to_map(pairs: list[tuple[str, Any]]) -> Any:
        read = dict(count(pairs))
        if len(read) < len(pairs) or not all(isinstance(key, str) for key in read):
            raise ProtocolError("expected maps with texts as keys, each of them once")
        return _array(read) if read.keys() == {"t", "s", "b"} and isinstance(read["b"], bytes) else read

    return {"object_pairs_hook": to_map, "list_hook": count}


def _nothing(code: int, data: bytes) -> None:
    raise ProtocolError("expected no extension types")


def _array(value: dict[str, Any]) -> np.ndarray:
    name, shape, data = value["t"], value["s"], value["b"]
    dtype = TYPES.get(name) if isinstance(name, str) else None
    if dtype is None or not _is_shape(shape):
        raise ProtocolError(f"expected arrays of {', '.join(TYPES)} with shape and bytes")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ProtocolError(f"expected {math.prod(shape) * dtype.itemsize} bytes for shape {shape}, got {len(data)}")
    return np.frombuffer(data, dtype).reshape(shape)


def _image(frames: np.ndarray) -> list[dict[str, bytes]] | None:
    """Frames (To, H, W, 3) of bytes, compressed one by one; None for everything else."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        return None
    from PIL import Image  # only here: a client without images needs no pillow

    buffers = [io.BytesIO() for _ in frames]
    for frame, buffer in zip(frames, buffers, strict=True):
        Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY)
    return [{"jpeg": buffer.getvalue()} for buffer in buffers]


def _frames(key: str, value: Any, shape: tuple[int, ...]) -> Any:
    """Compressed frames as the array (To, H, W, 3) that the policy wants there; everything else as it is."""
    if not isinstance(value, list):
        return value
    if len(shape) != 4 or shape[-1] != 3:
        raise ProtocolError(f"expected {key} as an array of shape {shape}, got a list")
    if len(value) != shape[0]:
        raise ProtocolError(f"expected {shape[0]} frames of {key}, got {len(value)}")
    return np.stack([_frame(key, item, shape[1:3]) for item in value])


def _frame(key: str, item: Any, size: tuple[int, int]) -> np.ndarray:
    """One picture (H, W, 3), whose head is read before it is decoded."""
    from PIL import Image

    if not isinstance(item, dict) or not isinstance(item.get("jpeg"), bytes):
        raise ProtocolError(f"expected {key} as an array or a list of jpeg frames")
    try:
        with Image.open(io.BytesIO(item["jpeg"]), formats=["JPEG"]) as image:
            if (image.height, image.width) != size:
                raise ProtocolError(f"expected pictures of {size} in {key}, got {(image.height, image.width)}")
            return np.asarray(image.convert("RGB"))
    except ProtocolError:
        raise
    except Exception as error:  # whatever broken pictures make the library raise
        raise ProtocolError(f"expected complete jpegs in {key}, got {type(error).__name__}") from error
