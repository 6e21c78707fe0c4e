"""What scripts written for TensorFlow expect of results: numbers and arrays with numpy(), and
variables that can be assigned to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .variable import Array

F = TypeVar("F", bound=Callable[..., Any])


class Float(float):
    """A number that numpy() can be called on."""

    def numpy(self) -> np.float32:
        return np.float32(self)

    def __reduce__(self):
        return float, (float(self),)


def as_tensor(value):
    """A number or an array as one with numpy(); anything else as it is."""
    if type(value) is np.ndarray:
        return value.view(Array)
    if type(value) is float:
        return Float(value)
    return np.asarray(value).view(Array) if isinstance(value, np.generic) else value


def tensor(function: F) -> F:
    """A decorator: what the function returns has numpy()."""

    @functools.wraps(function)
    def call(*args, **options):
        return as_tensor(function(*args, **options))

    return call  # type: ignore[return-value]
