"""Shapes and dtypes of the elements of a Dataset, and the tuples and dicts that they are made of:
TensorFlow's TensorSpec and TensorShape, as far as scripts use them with tf.data."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .tensors import Tensor

_RANKS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3, "O": 4}  # of the kinds of dtypes


# --- structures -----------------------------------------------------------------------------------
# Tuples and dicts in each other; a list is a leaf, as everywhere in tf.data.


def is_nested(structure) -> bool:
    return isinstance(structure, (tuple, Mapping))


def rebuilt(structure, parts):
    """A tuple or dict like this one, of other parts, in its order."""
    if isinstance(structure, Mapping):
        return dict(zip(structure, parts, strict=True))
    kind = type(structure)
    return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)


def map_structure(function: Callable, structure, *others):
    """A structure like the first, of function(leaf, those of the others at its place). Raises
    ValueError where another has no such place; its leaves may be structures themselves."""
    if not is_nested(structure):
        return function(structure, *others)
    for other in others:
        if isinstance(structure, Mapping):
            fits = isinstance(other, Mapping) and other.keys() == structure.keys()
        else:
            fits = isinstance(other, tuple) and len(other) == len(structure)
        if not fits:
            raise ValueError(f"expected the structure of {structure!r}, received {other!r}")
    keys = structure if isinstance(structure, Mapping) else range(len(structure))
    return rebuilt(
        structure,
        [map_structure(function, structure[key], *(o[key] for o in others)) for key in keys],
    )


def leaves(structure) -> list:
    if not is_nested(structure):
        return [structure]
    parts = structure.values() if isinstance(structure, Mapping) else structure
    return [leaf for part in parts for leaf in leaves(part)]


# --- values ---------------------------------------------------------------------------------------


def as_dtype(name: str, dtype) -> np.dtype:
    """A NumPy dtype; "string" and str are that of objects. Raises ValueError."""
    try:
        found = np.dtype(object if dtype in ("string", str, bytes) else dtype)
    except TypeError:
        found = None
    if found is None or found.kind not in _RANKS:
        raise ValueError(f"{name}: expected a dtype such as tf.float32, received {dtype!r}")
    return found


def _encoded(text):
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    raise TypeError(f"expected strings, received {text!r}")


def _only_python(value) -> bool:
    """Is it a number of Python's, or nested lists of such?"""
    if isinstance(value, (list, tuple)):
        return all(_only_python(part) for part in value)
    return type(value) in (bool, int, float)


def as_leaf(name: str, value, dtype=None) -> Any:
    """One component of an element: an array that cannot be changed. Python's numbers are int32 or
    float32, strings bytes in an array of objects; None and Datasets stay what they are. Raises
    ValueError, naming the argument, for anything else, and for what does not fit the dtype."""
    if type(value) is Tensor and (dtype is None or value.dtype == dtype):
        return value
    if (value is None and dtype is None) or hasattr(type(value), "element_spec"):
        return value
    if value is None:
        raise ValueError(f"{name}: expected {_name(dtype)}, received None")
    for method in ("toarray", "to_tensor"):
        if hasattr(value, method):
            raise ValueError(
                f"{name}: expected dense arrays, received {type(value).__name__}; call its "
                f"{method}() first"
            )
    try:
        array = np.asarray(value)
        if array.dtype.kind in "UO":
            flat = [_encoded(text) for text in array.ravel().tolist()]
            array = np.fromiter(flat, object, array.size).reshape(array.shape)
        elif array.dtype.kind == "S":
            array = array.astype(object)
        if dtype is not None and not _converts(array, dtype, _only_python(value)):
            raise TypeError(f"expected {_name(dtype)}, received {value!r}")
        if array.dtype.kind not in _RANKS:
            raise TypeError(f"expected arrays of numbers or strings, received {array.dtype}")
    except (TypeError, ValueError) as error:
        message = str(error)
        if not message.startswith("expected"):
            message = f"expected an array, a number or a string, received {value!r}: {message}"
        raise ValueError(f"{name}: {message}") from None
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    elif _only_python(value):
        array = _as_python_numbers(array)
    array = array.view(Tensor)
    array.flags.writeable = False
    return array


def _converts(array, dtype, of_python):
    if not array.size:
        return True
    kind = array.dtype.kind
    if "O" in (kind, dtype.kind):
        return kind == dtype.kind
    return not of_python or _RANKS[kind] <= _RANKS[dtype.kind]


def _name(dtype):
    return "string" if dtype.kind == "O" else dtype.name


def _as_python_numbers(array):
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind == "i" and (array == array.astype(np.int32)).all():
        return array.astype(np.int32)
    return array


def as_element(name: str, value) -> Any:
    """Tuples and dicts of arrays, or one array, each as `as_leaf` makes it."""
    if not is_nested(value):
        return as_leaf(name, value)
    return map_structure(lambda leaf: as_leaf(name, leaf), value)


# --- specs ----------------------------------------------------------------------------------------


class TensorShape(tuple):
    """The sizes of the axes, None for any; TensorShape(None) is any number of axes."""

    rank: int | None

    def __new__(cls, dims: Any = None) -> TensorShape:
        if isinstance(dims, TensorShape):
            return dims
        known = () if dims is None else dims if isinstance(dims, Iterable) else [dims]
        shape = super().__new__(cls, map(_size, known))
        shape.rank = None if dims is None else tuple.__len__(shape)
        return shape

    def __reduce__(self):
        return TensorShape, (None if self.rank is None else tuple(self),)

    @property
    def ndims(self) -> int | None:
        return self.rank

    @property
    def dims(self) -> list | None:
        return None if self.rank is None else list(self)

    def as_list(self) -> list:
        return list(self)

    def is_fully_defined(self) -> bool:
        return self.rank is not None and None not in self

    def num_elements(self) -> int | None:
        return math.prod(self) if self.is_fully_defined() else None

    def is_compatible_with(self, other: Any) -> bool:
        """Could both be the shape of one array?"""
        other = TensorShape(other)
        if self.rank is None or other.rank is None:
            return True
        return self.rank == other.rank and all(
            one is None or two is None or one == two for one, two in zip(self, other, strict=True)
        )

    def common(self, other: TensorShape) -> TensorShape:
        """The shape that says no more than both."""
        if self.rank is None or self.rank != other.rank:
            return TensorShape(None)
        pairs = zip(self, other, strict=True)
        return TensorShape([one if one == two else None for one, two in pairs])

    def _need_rank(self):
        if self.rank is None:
            raise ValueError("shape: expected a known number of axes, received TensorShape(None)")

    def __len__(self):
        self._need_rank()
        return super().__len__()

    def __iter__(self):
        self._need_rank()
        return super().__iter__()

    def __bool__(self):
        return self.rank is not None

    def __getitem__(self, key):
        self._need_rank()
        part = super().__getitem__(key)
        return TensorShape(part) if isinstance(key, slice) else part

    def __add__(self, other):
        other = TensorShape(other)
        if self.rank is None or other.rank is None:
            return TensorShape(None)
        return TensorShape([*self, *other])

    def __radd__(self, other):
        return TensorShape(other) + self

    def __eq__(self, other):
        try:
            other = TensorShape(other)
        except (TypeError, ValueError):
            return NotImplemented
        return self.rank == other.rank and super().__eq__(other)

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash((self.rank, super().__hash__()))

    def __str__(self):
        return "<unknown>" if self.rank is None else str(tuple(self))

    def __repr__(self):
        return f"TensorShape({self.dims})"


def _size(size: Any) -> int | None:
    if size is None:
        return None
    try:
        whole = operator.index(size)
    except TypeError:
        whole = -1
    if whole < 0:
        raise ValueError(f"shape: expected sizes >= 0, None for any, received {size!r}")
    return whole


class TensorSpec:
    """Shape and dtype of one component of the elements of a Dataset."""

    def __init__(self, shape: Any, dtype: Any = np.float32, name: str | None = None):
        self.shape, self.dtype, self.name = TensorShape(shape), as_dtype("dtype", dtype), name

    def batched(self, size: int | None) -> TensorSpec:
        return TensorSpec([size] + self.shape, self.dtype)

    def common(self, other: Any) -> TensorSpec | None:
        """The spec that both agree with, None where there is none."""
        if not isinstance(other, TensorSpec) or self.dtype != other.dtype:
            return None
        return TensorSpec(self.shape.common(other.shape), self.dtype)

    def example(self, size: int) -> Tensor:
        """An array of this spec, with so many where the spec leaves it open."""
        dims = [size] * size if self.shape.rank is None else self.shape
        shape = [size if dim is None else dim for dim in dims]
        empty: Any = b"" if self.dtype == object else 0
        return as_leaf("spec", np.broadcast_to(np.full((), empty, self.dtype), shape))

    def is_compatible_with(self, value) -> bool:
        other = value if isinstance(value, TensorSpec) else spec_of(as_leaf("value", value))
        return self.dtype == other.dtype and self.shape.is_compatible_with(other.shape)

    def __eq__(self, other):
        if not isinstance(other, TensorSpec):
            return NotImplemented
        return (self.shape, self.dtype, self.name) == (other.shape, other.dtype, other.name)

    def __hash__(self):
        return hash((self.shape, self.dtype))

    def __repr__(self):
        return f"TensorSpec(shape={self.shape}, dtype=tf.{_name(self.dtype)}, name={self.name!r})"


class NoneTensorSpec:
    """That of None."""

    shape = TensorShape([])

    def batched(self, size):
        return self

    def common(self, other):
        return self if self == other else None

    def example(self, size):
        return None

    def __eq__(self, other):
        return isinstance(other, NoneTensorSpec)

    def __hash__(self):
        return 0

    def __repr__(self):
        return "NoneTensorSpec()"


class DatasetSpec:
    """That of Datasets within a Dataset."""

    shape = TensorShape([])

    def __init__(self, element_spec: Any, dataset_shape: Any = ()):
        self.element_spec = element_spec

    def batched(self, size):
        raise ValueError("batch: expected elements that are arrays, received Datasets")

    def common(self, other):
        return self if self == other else None

    def __eq__(self, other):
        if not isinstance(other, DatasetSpec):
            return NotImplemented
        return self.element_spec == other.element_spec

    def __hash__(self):
        return hash(repr(self))

    def __repr__(self):
        return f"DatasetSpec({self.element_spec!r}, TensorShape([]))"


def spec_of(value) -> Any:
    """The spec of an element: that of each of its components."""
    if is_nested(value):
        return map_structure(spec_of, value)
    if value is None:
        return NoneTensorSpec()
    if hasattr(type(value), "element_spec"):
        return DatasetSpec(value.element_spec)
    return TensorSpec(value.shape, value.dtype)


def common_spec(one, other) -> Any:
    """The spec that both agree with. Raises ValueError where there is none."""

    def agree(a, b):
        found = a.common(b) if hasattr(a, "common") else None
        if found is None:
            raise ValueError(f"expected {a}, received {b}")
        return found

    return map_structure(agree, one, other)
