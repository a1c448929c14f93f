"""From what a config says to the object it describes, of the classes that models are made of and no others.

    {_target_: ebt_policy.core.DescentConfig, steps: 2}   an object of that class
    {_target_: ebt_policy.core.EBT.on_trunk, ...}         what this constructor of a class returns
    {_target_: ebt_policy.core.Scalar, _partial_: true}   the class itself, with these settings, to be called later

A config may come from outside with a checkpoint. It names what is called, so what it may name is what this package
defines in `PARTS`: a class, or a classmethod of one, by its public name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from functools import partial
from importlib import import_module
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PARTS = ("ebt_policy.core", "ebt_policy.baselines", "ebt_policy.encoders", "ebt_policy.tasks")
TARGET, PARTIAL = "_target_", "_partial_"
PLAIN = (str, int, float, list, dict, NoneType)  # what a config holds


def check_targets(said: Any) -> None:
    """ValueError unless every `_target_` in a config is a class, or a constructor of one, that models are made of."""
    for node in _nodes(said):
        special = sorted(key for key in map(str, node) if re.fullmatch("_.*_", key) and key not in (TARGET, PARTIAL))
        if special or type(node.get(PARTIAL, False)) is not bool:
            wrong = ", ".join(special) or f"{PARTIAL}: {node[PARTIAL]!r:.80}"
            raise ValueError(f"{wrong} is not allowed: expected {TARGET}, {PARTIAL}: true or false, and settings")
        if TARGET in node and _find(node[TARGET]) is None:
            raise ValueError(f"_target_ {node[TARGET]!r:.200} is not allowed: expected a class of {', '.join(PARTS)}")


def make(said: Any, **parts: Any) -> Any:
    """The object that a config describes, built with `parts` besides; ValueError says which setting is wrong."""
    check_targets(said)
    if not isinstance(said, dict) or TARGET not in said or said.get(PARTIAL):
        raise ValueError(f"expected the _target_ of a whole object and its settings, got {said!r:.80}")
    return _made(said, parts)


def _made(said: Any, parts: dict[str, Any]) -> Any:
    if isinstance(said, list):
        return [_made(item, {}) for item in said]
    if not isinstance(said, dict):
        return said
    settings = {k: _made(v, {}) for k, v in said.items() if k not in (TARGET, PARTIAL)} | parts
    if TARGET not in said:
        return settings
    target = _find(said[TARGET])
    _check_types(said[TARGET], target, settings)
    try:
        return partial(target, **settings) if said.get(PARTIAL) else target(**settings)
    except Exception as error:  # whatever a class makes of settings that it was not written for
        raise ValueError(f"{said[TARGET]}: {str(error).partition(chr(10))[0] or type(error).__name__}") from error


def _nodes(said: Any) -> Iterator[dict]:
    """Every mapping in a config."""
    if isinstance(said, dict):
        yield said
    for value in said.values() if isinstance(said, dict) else said if isinstance(said, list) else ():
        yield from _nodes(value)


def _find(target: Any) -> Callable | None:
    """The class, or the constructor of one, that target names; None for everything else."""
    if not isinstance(target, str):
        return None
    owner, _, name = target.rpartition(".")
    if not _is_part(owner) or name.startswith("_"):
        return None
    if (module := _module(owner)) is not None:
        found = vars(module).get(name)
        return found if isinstance(found, type) and _is_part(found.__module__) else None
    cls = _find(owner)
    own = [vars(base).get(name) for base in getattr(cls, "__mro__", ()) if _is_part(base.__module__)]
    return getattr(cls, name) if any(isinstance(found, classmethod) for found in own) else None


def _module(path: str) -> ModuleType | None:
    try:
        return import_module(path)
    except (ImportError, ValueError):
        return None


def _is_part(path: str) -> bool:
    return path.startswith(tuple(f"{part}." for part in PARTS)) or path in PARTS


def _check_types(name: str, target: Callable, settings: dict[str, Any]) -> None:
    """ValueError unless settings are of the types that the target says."""
    cls = target.__self__ if inspect.ismethod(target) else target
    hints = get_type_hints(cls if is_dataclass(cls) else cls.__init__)
    hints |= get_type_hints(target.__func__) if inspect.ismethod(target) else {}
    for key, value in settings.items():
        if not _fits(value, hint := hints.get(key, Any)):
            expected = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
            raise ValueError(f"{name}: expected {key} to be {expected.removeprefix('typing.')}, got {value!r:.80}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether what a config says is of a type; objects are taken as they are, whatever class they imitate."""
    if not isinstance(value, PLAIN):
        return True
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if origin in (Union, UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin in (tuple, Sequence):
        if not isinstance(value, list):
            return False
        each = args[:1] * len(value) if origin is Sequence or ... in args else args
        return len(value) == len(each) and all(map(_fits, value, each))
    if hint is float:
        return type(value) in (int, float)
    if hint is not Any and isinstance(hint, type) and not getattr(hint, "_is_protocol", False):
        return isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    return True
