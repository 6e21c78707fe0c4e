"""Arrays as the engine takes them."""

import math
from typing import Any

import numpy as np


def contiguous(array, dtype=None) -> np.ndarray:
    """A C-contiguous array of this dtype whose numbers start at multiples of their size, which
    those of a mapped file or of a message need not; the array itself if it is one."""
    array = np.ascontiguousarray(array, dtype)
    return array if array.flags.aligned else array.copy()


def check_range(name: str, path: str | None, array: np.ndarray) -> None:
    """Raise ValueError where a number, for the weight at `path`, is finite, but not as float32."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= 4:
        return
    beyond = np.isfinite(array) & (np.abs(array) > np.finfo(np.float32).max)
    if beyond.any():
        raise ValueError(
            f"{name}: expected numbers that float32 can hold{f' for {path!r}' if path else ''}, "
            f"received {float(array[beyond][0])!r}"
        )


class Shape(tuple):
    """A shape that scripts written for TensorFlow can call as_list() on."""

    __slots__ = ()
    rank = ndims = property(len)

    def as_list(self) -> list:
        return [*self]

    def num_elements(self):
        return None if None in self else math.prod(self)


def check_shape(shape, expected) -> None:
    """Raise ValueError unless `expected`, with None where anything fits, is the shape."""
    if len(shape) != len(expected) or any(
        size not in (None, n) for n, size in zip(shape, expected, strict=True)
    ):
        raise ValueError(f"shape: expected {tuple(expected)}, received {tuple(shape)}")


class Reference:
    """An object as a key: equal to another only of the same object."""

    def __init__(self, of):
        self._of = of

    def deref(self):
        return self._of

    def __eq__(self, other):
        return isinstance(other, Reference) and self._of is other._of

    def __hash__(self):
        return id(self._of)


_shape: Any = np.ndarray.shape


class Array(np.ndarray):
    """An array that scripts written for TensorFlow can call numpy() on, and on its parts."""

    shape: Any = property(
        lambda self: Shape(_shape.__get__(self)),
        lambda self, shape: _shape.__set__(self, shape),
    )

    def numpy(self) -> np.ndarray:
        return np.asarray(self)[()]

    def __getitem__(self, place):
        return as_array(super().__getitem__(place))

    def __iter__(self):
        return map(as_array, super().__iter__())

    def get_shape(self) -> Shape:
        return self.shape

    def set_shape(self, shape) -> None:
        """Raises ValueError where the shape, None where anything fits, is another."""
        check_shape(self.shape, shape)

    def ref(self) -> Reference:
        """Something that stands for this in a set, or as a key; its deref() is this."""
        return Reference(self)


def as_array(value):
    """An array or number of NumPy's as an Array; anything else as it is."""
    if type(value) is np.ndarray:
        return value.view(Array)
    if isinstance(value, np.generic):
        return np.asarray(value).view(Array)
    if isinstance(value, (list, tuple)):
        return type(value)(map(as_array, value))
    return value
