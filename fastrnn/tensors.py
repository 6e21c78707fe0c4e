"""What scripts written for TensorFlow expect of results: numbers and arrays with numpy(), and
variables that can be assigned to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from . import checks
from .arrays import check_range
from .variable import Array

F = TypeVar("F", bound=Callable[..., Any])


class Float(float):
    """A number that numpy() can be called on."""

    def numpy(self) -> np.float32:
        return np.float32(self)

    def __reduce__(self):
        return float, (float(self),)


class Tensor(Array):
    """An array that nothing changes in place, as a tensor of TensorFlow: `x /= 2` makes another."""

    def numpy(self):
        return np.array(self)[()]


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
):
    setattr(Tensor, f"__i{_name}__", getattr(np.ndarray, f"__{_name}__"))


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


class Count(int):
    """An integer that numpy() can be called on, and that can be assigned to."""

    _assign: Callable[[int], None]

    def __new__(cls, value, assign):
        count = super().__new__(cls, value)
        count._assign = assign
        return count

    @property
    def value(self) -> Count:
        return self

    def numpy(self) -> np.int64:
        return np.int64(self)

    def assign(self, value) -> None:
        count = checks.number("value", value, ">= 0")
        if count != int(count):
            raise ValueError(f"value: expected a whole number, received {value!r}")
        self._assign(int(count))

    def __reduce__(self):
        return int, (int(self),)


class State(Array):
    """An array that changes in training, as a variable of Keras: name, path, value, numpy() and
    the assignments. assigned: called with the array whenever it was assigned to."""

    name = path = ""
    assigned: Callable[[np.ndarray], None] | None = None

    @classmethod
    def of(cls, array, name: str, path: str, assigned=None) -> State:
        state = np.asarray(array).view(cls)
        state.name, state.path, state.assigned = name, path, assigned
        return state

    @property
    def value(self) -> State:
        return self

    def numpy(self):
        return np.array(self)[()]

    def assign(self, value) -> State:
        """Set the value; the shape must be the variable's own."""
        if np.shape(value) != self.shape:
            raise ValueError(
                f"value: expected shape {self.shape} for {self.path!r}, received {np.shape(value)}"
            )
        if self.dtype == np.float32:
            check_range("value", self.path, np.asarray(value))
        self[...] = value
        if self.assigned is not None:
            self.assigned(np.asarray(self))
        return self

    def assign_add(self, value) -> State:
        return self.assign(np.asarray(self) + np.asarray(value))

    def assign_sub(self, value) -> State:
        return self.assign(np.asarray(self) - np.asarray(value))

    def __reduce__(self):
        return State.of, (np.array(self), self.name, self.path)

    def __deepcopy__(self, memo):
        return State.of(np.array(self), self.name, self.path)
