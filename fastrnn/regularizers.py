"""Penalties on weights and outputs, as keras.regularizers.

A regularizer is called as `regularizer(w) -> float`; `regularizer.gradient(w)` is the derivative,
an array of the shape and dtype of `w`. For users' callables without one fastrnn.tape finds
it.
"""

import math
from collections.abc import Mapping
from numbers import Real

import numpy as np

from fastrnn._public import public

from .tape import derivative_of_users
from .tensors import tensor
from .utils import Configurable, class_table, deserialize_object, get_object, serialize_object

__all__ = [
    "L1", "L1L2", "L2", "OrthogonalRegularizer", "Regularizer", "deserialize", "get", "l1",
    "l1_l2", "l2", "orthogonal_regularizer", "serialize",
]  # fmt: skip
public(__name__)

_EPSILON = 1e-7


class Regularizer(Configurable):
    """Base class: override `__call__(w) -> float` and define `gradient(w) -> array`."""

    @tensor
    def __call__(self, w) -> float:
        return 0.0


class L1L2(Regularizer):
    """l1 * sum(abs(w)) + l2 * sum(w ** 2); factors default to 0, negative ones raise ValueError."""

    _options = ("l1", "l2")

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1 = _factor("l1", l1, default=0.0)
        self.l2 = _factor("l2", l2, default=0.0)

    @tensor
    def __call__(self, w) -> float:
        penalty = 0.0
        if self.l1:
            penalty += self.l1 * float(np.sum(np.abs(w), dtype=np.float64))
        if self.l2:
            penalty += self.l2 * float(np.sum(np.square(w), dtype=np.float64))
        return penalty

    def gradient(self, w) -> np.ndarray:
        """l1 * sign(w) + 2 * l2 * w."""
        if not self.l1:
            return 2 * self.l2 * np.asarray(w)
        return self.l1 * np.sign(w) + 2 * self.l2 * np.asarray(w)


class L1(L1L2):
    """l1 * sum(abs(w)), l1 = 0.01."""

    _options = ("l1",)

    def __init__(self, l1: float = 0.01):
        super().__init__(l1=_factor("l1", l1, default=0.01))


class L2(L1L2):
    """l2 * sum(w ** 2), l2 = 0.01."""

    _options = ("l2",)

    def __init__(self, l2: float = 0.01):
        super().__init__(l2=_factor("l2", l2, default=0.01))


class OrthogonalRegularizer(Regularizer):
    """factor (0.01) times the mean absolute cosine between two rows of a matrix, or two columns.

    `mode` is "rows" or "columns"; raises ValueError for another mode or a w without two axes.
    A matrix with a single row (column) has no penalty; Keras divides by zero there.
    """

    _options = ("factor", "mode")

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor = _factor("factor", factor, default=0.01)
        if mode not in ("rows", "columns"):
            raise ValueError(f'mode: expected "rows" or "columns", received {mode!r}')
        self.mode = mode

    @tensor
    def __call__(self, w) -> float:
        unit, _ = self._unit_rows(w)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, 0)
        return self._scale(len(unit)) * float(np.sum(np.abs(cosines), dtype=np.float64))

    def gradient(self, w) -> np.ndarray:
        """The derivative; through a row's own norm only where that exceeds epsilon."""
        unit, norms = self._unit_rows(w)
        signs = np.sign(unit @ unit.T)
        np.fill_diagonal(signs, 0)
        d_unit = 2 * self._scale(len(unit)) * (signs @ unit)
        along = np.sum(d_unit * unit, axis=1, keepdims=True)
        dw = (d_unit - np.where(norms > _EPSILON, along, 0) * unit) / np.maximum(norms, _EPSILON)
        return dw if self.mode == "rows" else dw.T

    def _unit_rows(self, w) -> tuple[np.ndarray, np.ndarray]:
        w = np.asarray(w)
        if w.ndim != 2:
            raise ValueError(f"w: expected two axes, received shape {w.shape}")
        rows = w if self.mode == "rows" else w.T
        norms = np.sqrt(np.sum(np.square(rows), axis=1, keepdims=True))
        return rows / np.maximum(norms, _EPSILON), norms

    def _scale(self, size: int) -> float:
        return self.factor / (size * (size - 1)) if size > 1 else 0.0


def _factor(name: str, value, default: float) -> float:
    if value is None:
        return default
    if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number >= 0, received {value!r}")
    return float(value)


def l1(l1: float = 0.01, l: float | None = None) -> L1:  # noqa: E741
    """L1 under the argument name of Keras 2, `l`, as well."""
    return L1(l1 if l is None else l)


def l2(l2: float = 0.01, l: float | None = None) -> L2:  # noqa: E741
    """L2 under the argument name of Keras 2, `l`, as well."""
    return L2(l2 if l is None else l)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """L1L2 with the defaults of Keras 2, 0.01 each."""
    return L1L2(l1, l2)


orthogonal_regularizer = OrthogonalRegularizer

_TABLE = class_table(L1, L2, L1L2, OrthogonalRegularizer, l1_l2=L1L2)


def get(identifier):
    """Return the regularizer for a name, config dict, class, instance or callable w -> float.

    The name "l1_l2" (or "L1L2") stands for factors of 0.01 each; None stays None. Raises
    ValueError for anything else.
    """
    if isinstance(identifier, str) and _TABLE.get(identifier) is L1L2:
        return l1_l2()
    return get_object(identifier, _TABLE, "regularizer")


def gradient_of(regularizer, w) -> np.ndarray:
    """`regularizer.gradient(w)`, of a user's callable by fastrnn.tape where it has none; that
    raises ValueError for what is more than NumPy's functions."""
    if hasattr(regularizer, "gradient"):
        return regularizer.gradient(w)
    advice = "give it a gradient(w), an array of the shape of w"
    return derivative_of_users("regularizer", repr(regularizer), advice, regularizer, w)


def activity_loss(regularizer, y, samples=None) -> float:
    """What an activity regularizer adds to the loss for outputs y of so many samples, len(y)."""
    return float(regularizer(y)) / (samples or len(y))


def activity_gradient(regularizer, y, samples=None) -> np.ndarray:
    """The gradient of `activity_loss` with respect to y."""
    return gradient_of(regularizer, y) / np.float32(samples or len(y))


def serialize(regularizer) -> dict | None:
    """The Keras config dict of a regularizer."""
    return serialize_object(regularizer, _TABLE, "keras.regularizers")


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own classes."""
    return deserialize_object(config, _TABLE, "regularizer", custom_objects)
