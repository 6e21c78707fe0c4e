"""Weights: named arrays, the trainable ones of a model side by side in one flat buffer."""

import numpy as np

_last_change = object()


def last_change() -> object:
    """Another object whenever any weight anywhere changes."""
    return _last_change


def _change() -> object:
    global _last_change
    _last_change = new = object()  # no number that threads could count up at once to the same one
    return new


def aligned(size: int) -> np.ndarray:
    """Zeros, float32, starting at a multiple of 64 bytes."""
    raw = np.zeros(size + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + size]


class Array(np.ndarray):
    """An array that scripts written for TensorFlow can call numpy() on."""

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


class Variable:
    """A weight. `value` is its array and `gradient` that of the last backward pass (None where
    the weight is not trained); both may be views into a Store. Change it with `assign`."""

    def __init__(self, name, value, trainable=True, regularizer=None, constraint=None):
        self.name, self.path = name, name
        self.value = np.array(value, np.float32, order="C")
        self.gradient = None
        self.trainable, self.regularizer, self.constraint = trainable, regularizer, constraint
        self.store = None
        self._version = _change()

    @property
    def shape(self):
        return self.value.shape

    @property
    def dtype(self):
        return "float32"

    @property
    def version(self):
        """Changes whenever the value does."""
        return self._version if self.store is None else self.store.version

    def touch(self):
        """Say that the value was changed in place."""
        self._version = _change()
        if self.store is not None:
            self.store.version = self._version

    def assign(self, value):
        """Set the value; the shape must be the variable's own."""
        value = np.asarray(value)
        if value.shape != self.value.shape:
            raise ValueError(
                f"value: expected shape {self.value.shape} for weight {self.path!r}, "
                f"received {value.shape}"
            )
        self.value[...] = value
        self.touch()

    def numpy(self):
        return self.value.copy()

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype=dtype)

    def __repr__(self):
        return f"<Variable path={self.path}, shape={self.shape}, dtype=float32>"


class Store:
    """All trained weights of a model in one flat array, their gradients in another.

    Weights start at multiples of 64 bytes; the gaps are zero in both arrays."""

    def __init__(self, variables):
        self.variables = list(variables)
        starts, size = [], 0
        for variable in self.variables:
            starts.append(size)
            size += (variable.value.size + 15) // 16 * 16
        self.values, self.gradients = aligned(size), aligned(size)
        for variable, start in zip(self.variables, starts, strict=True):
            place = slice(start, start + variable.value.size)
            value = self.values[place].reshape(variable.shape)
            value[...] = variable.value
            variable.value = value
            variable.gradient = self.gradients[place].reshape(variable.shape)
            variable.store = self
        self.version = _change()

    def touch(self):
        self.version = _change()

    def release(self):
        """Give every weight an array of its own again."""
        for variable in self.variables:
            if variable.store is self:
                variable.value, variable.gradient = variable.value.copy(), None
                variable.store = None
                variable.touch()
