"""Weights: named arrays, the trainable ones of a model side by side in one flat buffer."""

import threading

import numpy as np

from fastrnn.arrays import check_range
from fastrnn.process import fork_safe


class Version:
    """What a weight's version is: another object whenever the value changes, and no number, which
    threads could count up at once to the same one."""

    __slots__ = ()
    settled = True


class _Changing(Version):
    __slots__ = ()
    settled = False


_last_change = Version()


def last_change() -> Version:
    """Another object whenever any weight anywhere changes."""
    return _last_change


def _change(kind=Version) -> Version:
    global _last_change
    _last_change = new = kind()
    return new


# --- changes of several weights, of which a reader sees all or nothing ----------------------------

_changing = fork_safe(threading.RLock())
_owners = []  # of versions that are not settled
_depth = 0


class Change:
    """`with Change(owners)`, Variables or Stores: their weights change together. Others that read
    them wait for it (settled_versions), or find that it came (whole)."""

    __slots__ = ("owners",)

    def __init__(self, owners):
        self.owners = owners

    def __enter__(self):
        global _depth
        _changing.acquire()
        _depth += 1
        try:
            _owners.extend(self.owners)
            mark = _change(_Changing)
            for owner in self.owners:
                owner.version = mark
        except BaseException:  # a signal's
            self.__exit__()
            raise

    def __exit__(self, *error):
        global _depth
        try:
            if _depth == 1:
                version = _change()
                for owner in _owners:
                    owner.version = version
                _owners.clear()
        finally:
            _depth -= 1
            _changing.release()


def unchanging():
    """`with unchanging():` no other thread changes a weight."""
    return _changing


def settled_versions(weights) -> tuple[Version, ...]:
    """The weights' versions, once none of them is in the midst of a change."""
    while True:
        versions = tuple([weight.version for weight in weights])
        if all([version.settled for version in versions]):
            return versions
        with _changing:
            if _depth:  # this very thread's
                return versions


def whole(weights, compute, tries=2):
    """What compute() returns when none of the weights changed meanwhile; repeats it where one did,
    at last with other threads' changes kept waiting."""
    for _ in range(tries):
        versions = settled_versions(weights)
        result = compute()
        if settled_versions(weights) == versions:
            return result
    with _changing:
        return compute()


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
    def version(self):
        """Changes whenever the value does."""
        return self._version if self.store is None else self.store.version

    @version.setter
    def version(self, version):
        self._version = version
        if self.store is not None:
            self.store.version = version

    @property
    def shape(self):
        return self.value.shape

    @property
    def ndim(self):
        return self.value.ndim

    @property
    def dtype(self):
        return "float32"

    def touch(self):
        """Say that the value was changed in place."""
        self.version = _change()

    def assign(self, value):
        """Set the value; the shape must be the variable's own."""
        value = np.asarray(value)
        if value.shape != self.value.shape:
            raise ValueError(
                f"value: expected shape {self.value.shape} for weight {self.path!r}, "
                f"received {value.shape}"
            )
        check_range("value", self.path, value)
        with Change((self,)):
            self.value[...] = value

    def assign_add(self, value):
        self.assign(self.value + np.asarray(value))

    def assign_sub(self, value):
        self.assign(self.value - np.asarray(value))

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
        self.places = [
            slice(start, start + variable.value.size)
            for variable, start in zip(self.variables, starts, strict=True)
        ]
        for variable, place in zip(self.variables, self.places, strict=True):
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
