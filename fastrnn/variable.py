"""Weights: named arrays, the trainable ones of a model side by side in one flat buffer."""

import contextlib
import itertools
import threading

import numpy as np

from fastrnn.arrays import Array as Array
from fastrnn.arrays import check_range
from fastrnn.process import fork_safe
from fastrnn.tape import Source, value_of, weight_takes_part


class Version:
    """What a weight's version is: another object whenever the value changes, and no number, which
    threads could count up at once to the same one."""

    __slots__ = ()
    settled = True


class _Changing(Version):
    __slots__ = ()
    settled = False


_last_change = Version()
_numbers = itertools.count()


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


class _Kept(threading.local):
    """Of this thread: the values before assignments that are to be undone, or None; made: how many
    assignments there were."""

    values, made = None, 0


_kept = _Kept()


@contextlib.contextmanager
def undone():
    """`with undone():` what is assigned is undone in the end."""
    outer, _kept.values = _kept.values, {}
    try:
        yield
    finally:
        values, _kept.values = _kept.values, outer
        with Change([*values]):
            for variable, value in values.items():
                variable.value[...] = value


def undoing() -> bool:
    """Is what is assigned in this thread undone?"""
    return _kept.values is not None


def whole(weights, compute, tries=2):
    """What compute() returns when none of the weights changed meanwhile; repeats it where one did,
    at last with other threads' changes kept waiting."""
    for _ in range(tries):
        versions, made = settled_versions(weights), _kept.made
        result = compute()
        if _kept.made != made or settled_versions(weights) == versions:  # it changed them itself
            return result
    with _changing:
        return compute()


def aligned(size: int) -> np.ndarray:
    """Zeros, float32, starting at a multiple of 64 bytes."""
    raw = np.zeros(size + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + size]


class DtypeName(str):
    """A dtype's name, as Keras says it, that equals NumPy's types too, which tf.float32 is."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        if isinstance(other, type) and issubclass(other, np.generic):
            return np.dtype(other).name == str(self)
        return str.__eq__(self, other)

    def __ne__(self, other):
        return not self == other


class Variable(Source):
    """A weight, or another array that changes: what operations and NumPy's functions take.

    initializer: numbers, an array, or an initializer's name or function, with which `shape` is
    given. dtype: default float32 for numbers that are not whole, int32 for those that are. Change
    it with `assign`. `value` is its array and `gradient` that of the last backward pass (None where
    it is no weight in training); both may be views into a Store. Source:
    https://keras.io/api/ops/ (keras.Variable), tf.Variable."""

    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__
    T = property(lambda self: np.transpose(self))

    def __init__(
        self,
        initializer,
        shape=None,
        dtype=None,
        trainable=True,
        autocast=True,
        aggregation=None,
        synchronization=None,
        name=None,
        *,
        regularizer=None,
        constraint=None,
    ):
        if isinstance(shape, bool):  # tf.Variable's second argument is trainable
            shape, trainable = None, shape
        if callable(initializer) or isinstance(initializer, str):
            from fastrnn import initializers

            initializer = initializers.get(initializer)(tuple(shape or ()), dtype=dtype)
        value = np.array(value_of(initializer), order="C")
        if dtype is None:
            dtype = {"f": np.float32, "i": value.dtype}.get(value.dtype.kind, value.dtype)
            if value.dtype == np.int64 and not hasattr(initializer, "dtype"):
                dtype = np.int32
        check_range("initializer", name, value)
        self.name = self.path = name or "variable"
        self.number = next(_numbers)  # those made later have higher ones
        self.value = value.astype(dtype)
        self.gradient = None
        self.trainable, self.regularizer, self.constraint = trainable, regularizer, constraint
        self.store = None
        self._version = _change()

    def takes_part(self) -> bool:
        return weight_takes_part(self, self.trainable and self.value.dtype.kind == "f")

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
    def dtype(self):
        return DtypeName(self.value.dtype.name)

    def touch(self):
        """Say that the value was changed in place."""
        self.version = _change()

    def assign(self, value, use_locking=False, name=None, read_value=True):
        """Set the value; the shape must be the variable's own."""
        value = np.asarray(value_of(value))
        if value.shape != self.value.shape:
            raise ValueError(
                f"value: expected shape {self.value.shape} for weight {self.path!r}, "
                f"received {value.shape}"
            )
        check_range("value", self.path, value)
        if _kept.values is not None:
            _kept.values.setdefault(self, self.value.copy())
        _kept.made += 1
        with Change((self,)):
            self.value[...] = value
        return self

    def assign_add(self, value):
        return self.assign(self.value + np.asarray(value_of(value)))

    def assign_sub(self, value):
        return self.assign(self.value - np.asarray(value_of(value)))

    def numpy(self):
        return self.value.copy()

    def read_value(self):
        """The value as it is now, in recordings a step."""
        return +self

    def __repr__(self):
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"


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
