"""What a setting may be, checked where it enters: an error then names the setting and not what followed from it.

Bounds are written as intervals, "[0, 1)", or as "[0, 1) or null" where None is a setting as well. NaN is within none,
and texts, true and false are no numbers.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

OR_NULL = " or null"


def number(name: str, value: object, within: str, error: type[ValueError] = ValueError) -> None:
    """Raises `error` unless value is a number within bounds."""
    _check(name, value, within, Real, error)


def whole(name: str, value: object, within: str, error: type[ValueError] = ValueError) -> None:
    """Raises `error` unless value is a whole number within bounds; 1.0 is none."""
    _check(name, value, within, Integral, error)


def numbers(
    name: str, values: object, within: str, count: int | None = None, error: type[ValueError] = ValueError
) -> None:
    """Raises `error` unless values is a list of numbers within bounds, `count` of them if that is given."""
    shaped = hasattr(values, "__len__") and not isinstance(values, str | bytes | dict)
    if not shaped or (count is not None and len(values) != count):
        raise error(f"{name} must be a list of {'' if count is None else f'{count} '}numbers, got {values!r}")
    for i, value in enumerate(values):
        number(f"{name}[{i}]", value, within, error)


def flag(name: str, value: object) -> None:
    """ValueError unless value is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def _check(name: str, value: object, within: str, kind: type, error: type[ValueError]) -> None:
    interval = within.removesuffix(OR_NULL)
    low, high = map(float, interval[1:-1].split(","))
    good = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
    edge = good and ((value == low and interval[0] == "(") or (value == high and interval[-1] == ")"))
    if (not good or edge) and not (value is None and interval != within):
        quality = "whole" if kind is Integral else "finite" if high == math.inf and interval[-1] == ")" else ""
        words = " and ".join(filter(None, (_words(low, high, interval), quality)))
        raise error(f"{name} must be {words}{', or null' if interval != within else ''}, got {value!r}")


def _words(low: float, high: float, interval: str) -> str:
    if high < math.inf:
        return f"in {interval}"
    return "" if low == -math.inf else f"{'at least' if interval[0] == '[' else 'above'} {low:g}"
