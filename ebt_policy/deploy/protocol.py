"""What client and server say to each other: msgpack maps of numbers, texts and arrays, checked before they are used.

    hello {protocol, token, spec, codec, seed} ->      <- terms {protocol, spec, observe, execute, plan, model}
    plan  {id, obs, tail, deadline, codec}     ->      <- plan  {id, actions, offsets, steps, stop, seconds, ...}
                                                       <- error {why}, and the connection is closed if it cannot go on

Raw units on the wire. An array is {t: type, s: shape, b: bytes}; an image may be {jpeg: bytes} with every frame.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import msgpack
import numpy as np

from ebt_policy.deploy.plan import Plan, Request, Terms

PROTOCOL = 1
MAX_BYTES = 16 << 20  # of a message
MAX_ITEMS = 4096  # of a map or a list
MAX_PIXELS = 4096 * 4096  # of an image that is unpacked
TYPES = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8"), "u1": np.dtype("u1")}
CODECS = ("raw", "jpeg")
QUALITY = 92


class ProtocolError(ValueError):
    """A message that is not what it should be; the text may be sent back."""


def pack(kind: str, body: Mapping[str, Any]) -> bytes:
    """A message of a kind; arrays anywhere in `body` are packed, float16 and integers as float64."""
    return msgpack.packb({"kind": kind} | _packed(dict(body)), use_bin_type=True)


def unpack(message: bytes | str) -> tuple[str, dict[str, Any]]:
    """The kind and the body of a message; ProtocolError for everything else."""
    if not isinstance(message, bytes):
        raise ProtocolError("expected binary messages, got text")
    if len(message) > MAX_BYTES:
        raise ProtocolError(f"expected at most {MAX_BYTES} bytes, got {len(message)}")
    try:
        body = msgpack.unpackb(
            message, raw=False, strict_map_key=True, max_map_len=MAX_ITEMS, max_array_len=MAX_ITEMS, max_ext_len=0
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(f"expected msgpack, got {type(error).__name__}") from error
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
        raise ProtocolError("expected a map with a kind")
    kind = body.pop("kind")
    return kind, _unpacked(body)


def request_body(request: Request, codec: str = "raw") -> dict[str, Any]:
    """A request as a message's body; images, (To, H, W, 3) bytes, as the codec has them."""
    obs = {key: _image(value) if codec == "jpeg" else None for key, value in request.obs.items()}
    obs = {key: request.obs[key] if image is None else image for key, image in obs.items()}
    return {"id": request.id, "obs": obs, "deadline": request.deadline, "tail": request.tail}


def read_request(body: Mapping[str, Any], terms: Terms) -> Request:
    """The request, its observations as the policy's terms have them; ProtocolError names what is otherwise."""
    obs = field(body, "obs", dict)
    wanted = {key: (terms.observe, *shape) for key, shape in terms.spec["obs"].items()}
    missing = sorted(set(wanted) - set(obs))
    if missing:
        raise ProtocolError(f"expected the observations {sorted(wanted)}, {', '.join(missing)} missing")
    read = {key: _frames(obs[key]) for key in wanted}
    for key, shape in wanted.items():
        if not isinstance(read[key], np.ndarray) or read[key].shape != shape:
            raise ProtocolError(f"expected {key} of shape {shape}, got {getattr(read[key], 'shape', 'no array')}")
        if not np.isfinite(read[key]).all():
            raise ProtocolError(f"expected finite numbers in {key}")
    tail, dim = body.get("tail"), terms.spec["action"]["dim"]
    if tail is not None:
        if not isinstance(tail, np.ndarray) or tail.ndim != 2 or tail.shape[1] != dim or not len(tail):
            raise ProtocolError(f"expected a tail of shape (m, {dim}), got {getattr(tail, 'shape', 'no array')}")
        if not np.isfinite(tail).all():
            raise ProtocolError("expected finite numbers in the tail")
    deadline = float(field(body, "deadline", (int, float)))
    if not 0 < deadline < math.inf:
        raise ProtocolError(f"expected a deadline above 0 s, got {deadline}")
    return Request(field(body, "id", int), read, deadline, tail)


def read_plan(body: Mapping[str, Any], terms: Terms) -> Plan:
    """The plan; ProtocolError unless it is one for a robot of these terms."""
    names = {f.name for f in fields(Plan)}
    if set(body) != names:
        raise ProtocolError(f"expected a plan with {', '.join(sorted(names))}, got {', '.join(sorted(body))}")
    actions, offsets = field(body, "actions", np.ndarray), field(body, "offsets", np.ndarray)
    if actions.shape != (terms.plan, terms.spec["action"]["dim"]) or offsets.shape != (terms.plan,):
        raise ProtocolError(f"expected {terms.plan} actions and offsets, got {actions.shape} and {offsets.shape}")
    return Plan(**body)


def read_terms(body: Mapping[str, Any]) -> Terms:
    """The server's terms; ProtocolError if something is missing."""
    kinds = {"spec": dict, "observe": int, "execute": int, "plan": int, "model": str}
    return Terms(**{name: field(body, name, kind) for name, kind in kinds.items()})


def plan_body(plan: Plan) -> dict[str, Any]:
    return {f.name: getattr(plan, f.name) for f in fields(Plan)}


def terms_body(terms: Terms) -> dict[str, Any]:
    return asdict(terms) | {"protocol": PROTOCOL}


def check_version(body: Mapping[str, Any]) -> None:
    if body.get("protocol") != PROTOCOL:
        raise ProtocolError(f"expected protocol {PROTOCOL}, got {body.get('protocol')!r}: update the older side")


def differences(policy: Mapping[str, Any], robot: Mapping[str, Any]) -> list[str]:
    """Where a robot's spec is not the policy's, as texts with the field and both values; unknown fits everything."""
    said = []
    for key, shape in policy["obs"].items():
        here = robot.get("obs", {}).get(key)
        if not isinstance(here, list | tuple) or list(here) != list(shape):
            said.append(f"observation {key}: the policy {list(shape)}, the robot {'none' if here is None else here}")
    pairs = {f"action.{name}": (value, robot.get("action", {}).get(name)) for name, value in policy["action"].items()}
    pairs["hz"] = (policy.get("hz"), robot.get("hz"))
    unknown = (None, "unknown")
    return said + [
        f"{name}: the policy {a}, the robot {b}"
        for name, (a, b) in pairs.items()
        if a != b and a not in unknown and b not in unknown
    ]


def field(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """body[name], of this kind; ProtocolError otherwise."""
    value = body.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ProtocolError(f"expected {name!r} in the message, got {type(value).__name__}")
    return value


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


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(v) for v in value]
    if not isinstance(value, dict):
        return value
    return _array(value) if value.keys() == {"t", "s", "b"} else {key: _unpacked(v) for key, v in value.items()}


def _array(value: dict[str, Any]) -> np.ndarray:
    dtype, shape, data = TYPES.get(str(value["t"])), value["s"], value["b"]
    if dtype is None or not isinstance(shape, list) or not isinstance(data, bytes):
        raise ProtocolError(f"expected arrays of {', '.join(TYPES)} with shape and bytes")
    if len(shape) > 5 or any(type(n) is not int or not 0 <= n <= MAX_BYTES for n in shape):
        raise ProtocolError(f"expected an array's shape, got {shape[:8]}")
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


def _frames(value: Any) -> Any:
    """Compressed frames as an array (To, H, W, 3); everything else as it is."""
    if not isinstance(value, list):
        return value
    from PIL import Image, UnidentifiedImageError

    frames = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("jpeg"), bytes):
            raise ProtocolError("expected an array or a list of jpeg frames")
        try:
            image = Image.open(io.BytesIO(item["jpeg"]), formats=["JPEG"])
            if image.width * image.height > MAX_PIXELS:
                raise ProtocolError(f"expected an image of at most {MAX_PIXELS} pixels, got {image.size}")
            frames.append(np.asarray(image.convert("RGB")))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ProtocolError("expected a complete jpeg") from error
    if len({f.shape for f in frames}) != 1:
        raise ProtocolError("expected frames of one size")
    return np.stack(frames)
