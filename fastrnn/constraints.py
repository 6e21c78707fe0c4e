"""Projections of weights after each update, as keras.constraints.

A constraint is called as `constraint(w)` and returns an array of the shape and dtype of `w`.
`axis` (an integer or several) is summed over for a norm: 0 for the inputs of each unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._public import public

from . import checks
from .tensors import tensor
from .utils import Configurable, class_table, deserialize_object, get_object, serialize_object

if TYPE_CHECKING:
    from fastrnn._types import Axes


__all__ = [
    "Constraint", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm", "deserialize", "get",
    "max_norm", "maxnorm", "min_max_norm", "non_neg", "nonneg", "serialize", "unit_norm",
    "unitnorm",
]  # fmt: skip
public(__name__)

_EPSILON = 1e-7


class Constraint(Configurable):
    """Base class: override `__call__(w)` to return the projected array."""

    @tensor
    def __call__(self, w) -> np.ndarray:
        return w


class NonNeg(Constraint):
    """Negative weights become zero."""

    @tensor
    def __call__(self, w) -> np.ndarray:
        return np.maximum(w, 0)


class UnitNorm(Constraint):
    """Every norm becomes 1."""

    _options = ("axis",)

    def __init__(self, axis: Axes = 0):
        checks.axes("axis", axis)
        self.axis = axis

    @tensor
    def __call__(self, w) -> np.ndarray:
        return w / (_EPSILON + _norms(w, self.axis))


class MaxNorm(Constraint):
    """Norms above `max_value` (2) are brought down to it; ValueError if it is negative."""

    _options = ("max_value", "axis")

    def __init__(self, max_value: float = 2, axis: Axes = 0):
        _check_norm("max_value", max_value)
        self.max_value = max_value
        checks.axes("axis", axis)
        self.axis = axis

    @tensor
    def __call__(self, w) -> np.ndarray:
        norms = _norms(w, self.axis)
        return w * (np.minimum(norms, float(self.max_value)) / (_EPSILON + norms))


class MinMaxNorm(Constraint):
    """Norms move to [min_value, max_value]: all the way for rate 1, else by that part of it.

    Raises ValueError unless 0 <= min_value <= max_value and 0 <= rate <= 1.
    """

    _options = ("min_value", "max_value", "rate", "axis")

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axes = 0
    ):
        for name, value in (("min_value", min_value), ("max_value", max_value)):
            _check_norm(name, value)
        if min_value > max_value:
            raise ValueError(
                "min_value, max_value: expected 0 <= min_value <= max_value, "
                f"received {min_value} and {max_value}"
            )
        checks.number("rate", rate, "in [0, 1]")
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        checks.axes("axis", axis)
        self.axis = axis

    @tensor
    def __call__(self, w) -> np.ndarray:
        norms = _norms(w, self.axis)
        rate = float(self.rate)
        inside = np.clip(norms, float(self.min_value), float(self.max_value))
        return w * ((rate * inside + (1 - rate) * norms) / (_EPSILON + norms))


def _check_norm(name, value):
    if not (isinstance(value, float) and value == math.inf):
        checks.number(name, value, ">= 0")


def _norms(w, axis) -> np.ndarray:
    axis = tuple(axis) if isinstance(axis, list) else axis
    return np.sqrt(np.sum(np.square(w), axis=axis, keepdims=True))


max_norm = maxnorm = MaxNorm
non_neg = nonneg = NonNeg
unit_norm = unitnorm = UnitNorm
min_max_norm = MinMaxNorm

_TABLE = class_table(
    MaxNorm,
    NonNeg,
    UnitNorm,
    MinMaxNorm,
    maxnorm=MaxNorm,
    nonneg=NonNeg,
    unitnorm=UnitNorm,
)


def get(identifier):
    """Return the constraint for a name, config dict, class, instance or callable w -> w.

    None stays None; raises ValueError for anything else.
    """
    return get_object(identifier, _TABLE, "constraint")


def serialize(constraint) -> dict | None:
    """The Keras config dict of a constraint."""
    return serialize_object(constraint, _TABLE, "keras.constraints")


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own classes."""
    return deserialize_object(config, _TABLE, "constraint", custom_objects)
