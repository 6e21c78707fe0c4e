"""Arguments that are numbers, or true or false."""

import operator
from collections.abc import Iterable
from numbers import Real

import numpy as np

_GREATEST, _LEAST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_subnormal)
_BOUNDS = {
    "": lambda x: True,
    "> 0": lambda x: x >= _LEAST,
    ">= 0": lambda x: x >= 0,
    ">= 1": lambda x: x >= 1,
    "in [0, 1]": lambda x: 0 <= x <= 1,
    "in [0, 1)": lambda x: 0 <= x < 1,
}


def number(name: str, value, bounds: str = "", none=False):
    """`value` as a Python int or float, or None if `none`. Raises ValueError, naming the argument,
    for what is no number, not finite as float32 or out of `bounds`, one of _BOUNDS."""
    if value is None and none:
        return None
    finite = False
    plain = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if isinstance(plain, Real):
        plain = int(plain) if isinstance(plain, (int, np.integer)) else float(plain)
        # of an int without float(), which has no room for all of them
        finite = -_GREATEST <= plain <= _GREATEST
        if finite and _BOUNDS[bounds](plain):
            return plain
    kind = "a number" if finite or bounds.startswith("in") else "a finite number"
    raise ValueError(
        f"{name}: expected {kind}{bounds and ' ' + bounds}{' or None' * none}, received {value!r}"
    )


def numbers(name: str, values) -> list:
    """A list of finite numbers; raises ValueError, naming the argument."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{name}: expected a list of numbers, received {values!r}")
    return [number(f"{name}[{i}]", value) for i, value in enumerate(values)]


def count(name: str, value, least: int):
    """None, or an int of at least `least`; raises ValueError, naming the argument."""
    if value is None:
        return None
    try:
        plain = operator.index(value)
    except TypeError:
        plain = least - 1
    if plain < least:
        raise ValueError(f"{name}: expected an int >= {least} or None, received {value!r}")
    return plain


def flag(name: str, value) -> bool:
    """`value` as a bool; raise unless it is True, False, 1 or 0, of Python or NumPy."""
    if not isinstance(value, (bool, np.bool_, int, np.integer)) or value not in (0, 1):
        raise ValueError(f"{name}: expected True or False, received {value!r}")
    return bool(value)


def whole(name: str, value) -> int:
    """`value` as an int; raises ValueError, naming the argument."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: expected a whole number, received {value!r}") from None


def axes(name: str, value):
    """An axis as an int, several as a tuple, or None for all; raises ValueError."""
    if value is None:
        return None
    try:
        if isinstance(value, (list, tuple)):
            return tuple(map(operator.index, value))
        return operator.index(value)
    except TypeError:
        raise ValueError(
            f"{name}: expected a whole number or several, received {value!r}"
        ) from None


def text(name: str, value):
    """None, or a str; raises ValueError, naming the argument."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: expected a str, received {value!r}")
    return value
