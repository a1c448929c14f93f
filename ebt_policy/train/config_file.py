"""A run's config.yaml, which may come from anyone: plain data within limits, every entry what it is used as.

Reading it runs nothing and looks nothing up: no tags, no aliases, no interpolations. What training wrote has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import yaml

from ebt_policy.train.checkpoint import AGAIN, CheckpointError

LONGEST = 1 << 15  # bytes, ten times what training writes
DEEPEST = 32  # levels
LARGEST = 100_000  # whole number that says how large a part of a net is
WRITTEN = ("task", "method", "net", "horizon", "fit", "spec", "data")  # what every run's config.yaml holds
BUILDS = ("net.", "method.model.", "task.encoder.")  # whose numbers say how large a net is
PREFIX = "tag:yaml.org,2002:"
PLAIN = {PREFIX + name for name in ("str", "int", "float", "bool", "null", "seq", "map")}


@dataclass(frozen=True)
class Expected:
    """What an entry has to be."""

    words: str
    fits: Callable[[Any], bool]


def _or_none(expected: Expected) -> Expected:
    """The same, for an entry that may also be null or missing."""
    return Expected(f"{expected.words} or null", lambda value: value is None or expected.fits(value))


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_lists(value: Any, fits: Callable[[list], bool]) -> bool:
    return isinstance(value, dict) and all(isinstance(each, list) and fits(each) for each in value.values())


def _is_shape(value: list) -> bool:
    return all(map(_is_count, value))


def _are_columns(value: list) -> bool:
    """Whether quaternions, of four numbers each, can begin there."""
    return all(type(n) is int and n >= 0 for n in value) and all(b - a >= 4 for a, b in pairwise(sorted(value)))


def _is_history(value: Any) -> bool:
    parts = value if isinstance(value, list) else [None]
    whole = all(isinstance(part, dict) and set(part) == {"until", "fit"} for part in parts)
    return whole and all(type(part["until"]) is int and isinstance(part["fit"], dict) for part in parts)


MAPPING = Expected("a mapping", lambda value: isinstance(value, dict))
TEXT = Expected("text", lambda value: isinstance(value, str) and bool(value.strip()))
COUNT = Expected("a whole number of at least 1", _is_count)
POSITIVE = Expected("a positive number", lambda value: type(value) in (int, float) and value > 0)
NUMBER = Expected("a number", lambda value: type(value) in (int, float))
NAMES = Expected("a list of names", lambda value: isinstance(value, list) and all(map(TEXT.fits, value)))
YEARS = Expected("two years", lambda value: isinstance(value, list) and [type(year) for year in value] == [int, int])
SHAPES = Expected("a mapping of names to shapes", lambda value: _are_lists(value, _is_shape))
COLUMNS = Expected("a mapping of names to columns, four apart", lambda value: _are_lists(value, _are_columns))

HISTORY = Expected("a list of {until: update, fit: {...}}", lambda value: value is None or _is_history(value))

ENTRIES = {name: MAPPING for name in WRITTEN if name != "horizon"} | {
    "task.kind": _or_none(TEXT),
    "method.model": MAPPING,
    "method.replay": _or_none(MAPPING),
    "history": HISTORY,
    "net.dim": COUNT,
    "net.depth": COUNT,
    "net.heads": COUNT,
    "data.hash": TEXT,
}
OF_KIND = {  # of the task -> what else is used
    "robot": {
        "task.env": _or_none(TEXT),
        "task.data": TEXT,
        "task.filter_key": _or_none(TEXT),
        "task.obs": NAMES,
        "task.origin": _or_none(MAPPING),
        "task.origin.key": _or_none(TEXT),
        "task.origin.scale": _or_none(NUMBER),
        "task.quaternions": _or_none(COLUMNS),
        "task.encoder": MAPPING,
        "task.robot": _or_none(MAPPING),
        "horizon": MAPPING,
        "horizon.observe": COUNT,
        "horizon.predict": COUNT,
        "horizon.execute": COUNT,
        "spec.obs": SHAPES,
        "spec.action": MAPPING,
        "spec.action.dim": COUNT,
        "spec.hz": _or_none(POSITIVE),
        "spec.env_args": _or_none(MAPPING),
        "spec.simulator": _or_none(MAPPING),
    },
    "text": {
        "task.corpus": TEXT,
        "task.years": _or_none(YEARS),
        "task.vocabulary": COUNT,
        "task.context": COUNT,
        "spec.context": COUNT,
        "method.start": NUMBER,
        "validation": POSITIVE,
    },
    "image": {
        "task.source": TEXT,
        "task.size": COUNT,
        "task.channels": COUNT,
        "task.patch": COUNT,
        "validation": POSITIVE,
    },
}


def read_config(path: Path) -> dict[str, Any]:
    """What a config.yaml says; CheckpointError, with the entry's name, unless that is all it should be."""
    if not path.is_file():
        raise CheckpointError(f"expected {path}, which does not exist: give the folder of a training run or checkpoint")
    said = _parsed(path)
    missing = [key for key in WRITTEN if key not in said]
    if missing:
        raise CheckpointError(f"{path} is incomplete, it has no {', '.join(missing)}: {AGAIN}")
    _check_entries(path, said, ENTRIES)
    _check_entries(path, said, OF_KIND.get(_entry(said, "task.kind") or "robot", {}))
    return said


def _check_entries(path: Path, said: dict[str, Any], entries: dict[str, Expected]) -> None:
    for name, expected in entries.items():
        if not expected.fits(found := _entry(said, name)):
            raise CheckpointError(f"{path}: expected {name} to be {expected.words}, got {_shown(found)}: {AGAIN}")


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            raw = file.read(LONGEST + 1)
        if len(raw) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} bytes")
        said = yaml.load(raw.decode("utf-8"), _PlainLoader)
        if said is not None and not isinstance(said, dict):
            raise ValueError(f"expected entries with names, got {type(said).__name__}")
        for name, value in _leaves(said or {}):
            _check_value(name, value)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path} is not plain YAML: take a fresh copy. {reason}") from error
    return said or {}


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, str) and ("${" in value or value == "???"):
        raise ValueError(f"{name} refers to another value, {_shown(value)}, where one should stand")
    if isinstance(value, float) and isnan(value):
        raise ValueError(f"{name} is no number")
    if type(value) is int and abs(value) >= 1 << 63:
        raise ValueError(f"{name} is a number of more than 64 bits")
    if type(value) is int and name.startswith(BUILDS) and abs(value) > LARGEST:
        raise ValueError(f"{name} is {value}, expected at most {LARGEST}")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all that is no container, and of the names in mappings."""
    if not isinstance(value, dict | list):
        yield name, value
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        inner_name = f"{name}.{key}" if name else str(key)
        yield inner_name, key
        yield from _leaves(inner, inner_name)


def _entry(said: dict[str, Any], name: str) -> Any:
    """The value of a dotted name, None if there is none."""
    for key in name.split("."):
        said = said.get(key) if isinstance(said, dict) else None
    return said


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


class _PlainLoader(yaml.SafeLoader):
    """Text, numbers, truth values, nulls, lists and mappings with names, each written out where it stands."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refused("an alias", event)
        if self.depth == DEEPEST:
            raise _refused(f"more than {DEEPEST} levels", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        is_name = isinstance(parent, yaml.MappingNode) and index is None
        if node.tag not in ({PREFIX + "str"} if is_name else PLAIN):
            raise _refused(f"a {'name' if is_name else 'value'} of type {node.tag}", event)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        names = [key.value for key, _ in node.value]
        if len(set(names)) < len(names):
            raise _refused("a name twice in one mapping", node)
        return super().construct_mapping(node, deep)


def _refused(what: str, where: yaml.Event | yaml.Node) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=f"expected plain data, got {what}", problem_mark=where.start_mark)


# dates stay text, and 1e-3 is a number, as where configs are composed
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != PREFIX + "timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(PREFIX + "float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
