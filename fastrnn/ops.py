"""Operations on arrays, and on the outputs of layers, where they become steps of the graph, as
keras.ops.

A function takes NumPy's arrays and gives one; a loss made of them has a derivative. Called with
what `Input(...)` or a layer gave, it gives another such tensor: `mean(x, axis=1)`, `x + y`,
`x[:, -1]`. Errors: ValueError for shapes that do not fit. Source: https://keras.io/api/ops/
"""

from __future__ import annotations

import builtins
import functools
import inspect
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import activations
from fastrnn._public import public
from fastrnn.layers.operation import OPERATIONS, Operation
from fastrnn.layers.symbolic import Symbolic, is_symbolic
from fastrnn.tape import Traced, value_of
from fastrnn.tensors import as_tensor

__all__: list[str] = []

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


def _operation(shape_of, module="numpy", tensors=1, result=""):
    """A decorator of a function whose first `tensors` arguments are tensors, and the others a
    config: it is an operation of graphs, too. tensors=0: all by position are tensors, after the
    first argument. shape_of: the function for arrays of which only the shapes count, for shapes."""

    def decorate(function):
        class_name = "".join(part.title() for part in function.__name__.split("_"))
        parameters = [*inspect.signature(function).parameters]
        members = {
            "function": staticmethod(function), "shape_of": staticmethod(shape_of),
            "module": f"keras.src.ops.{module}", "result": result, "__doc__": function.__doc__,
            "broadcasts": shape_of is _broadcast, "along_axis": shape_of in (_same, _reduced),
        }  # fmt: skip
        cls = OPERATIONS[class_name] = type(class_name, (Operation,), members)
        if not tensors:  # einsum(subscripts, *operands)
            cls.function = staticmethod(lambda *args, subscripts: function(subscripts, *args))
            cls.shape_of = staticmethod(lambda *args, subscripts: shape_of(subscripts, *args))

        @functools.wraps(function)
        def call(*args, **kwargs):
            if not builtins.any(is_symbolic(value) for value in (*args, *kwargs.values())):
                return as_tensor(function(*args, **kwargs))
            if not tensors:
                return cls(**{parameters[0]: args[0]})(*args[1:])
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            given = [*bound.arguments.items()]
            if late := [key for key, value in given[tensors:] if is_symbolic(value)]:
                raise ValueError(f"{late[0]}: expected no output of a layer")
            return cls(**dict(given[tensors:]))(*(value for _, value in given[:tensors]))

        __all__.append(function.__name__)
        return call

    return decorate


# --- shapes ---------------------------------------------------------------------------------------
# Arrays here are broadcast numbers, which take no memory: views of them tell the shape.


def _same(x, **options):
    return x.shape


def _broadcast(*xs, **options):
    return np.broadcast_shapes(*(np.shape(x) for x in xs))


def _viewed(function):
    return lambda *args, **options: function(*args, **options).shape


def _reduced(x, axis=None, keepdims=False, **options):
    axes = range(x.ndim) if axis is None else [axis] if np.ndim(axis) == 0 else axis
    if builtins.any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(f"axis: expected axes of {x.ndim}, received {axis}")
    axes = {a % x.ndim for a in axes}
    sizes = [1 if at in axes else size for at, size in enumerate(x.shape)]
    return tuple(size for at, size in enumerate(sizes) if keepdims or at not in axes)


# --- number by number -----------------------------------------------------------------------------


def _of_numbers(name, function, count=1, result="", module="numpy"):
    """An operation of each number of one array, or of the numbers of two that are broadcast."""

    def one(x):
        return function(x)

    def two(x1, x2):
        return function(x1, x2)

    made = one if count == 1 else two
    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"{name} of each number."
    shape_of = _same if count == 1 else _broadcast
    globals()[name] = _operation(shape_of, module, count, result)(made)


def _activated(function):
    """An activation of fastrnn.activations, with its own derivative."""

    def apply(x, **options):
        if not isinstance(x, Traced):
            return function(x, **options)
        y = np.asarray(function(x.value, **options))
        return x.then(y, lambda g: function.gradient(x.value, y, g, **options))

    return apply


def _truth(function):
    return lambda *xs: function(*(np.asarray(value_of(x)) != 0 for x in xs))


for _name in (
    "absolute", "arctan", "ceil", "cos", "exp", "expm1", "floor", "log", "log1p", "negative",
    "round", "sign", "sin", "sqrt", "square", "tanh",
):  # fmt: skip
    _of_numbers(_name, getattr(np, _name))
for _name in ("isfinite", "isinf", "isnan"):
    _of_numbers(_name, getattr(np, _name), result="bool")
for _name in (
    "add", "divide", "floor_divide", "logaddexp", "maximum", "minimum", "mod", "multiply", "power",
    "subtract", "true_divide",
):  # fmt: skip
    _of_numbers(_name, getattr(np, _name), 2)
for _name in ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal"):
    _of_numbers(_name, getattr(np, _name), 2, result="bool")
for _name in ("logical_and", "logical_or", "logical_xor"):
    _of_numbers(_name, _truth(getattr(np, _name)), 2, result="bool")
_of_numbers("logical_not", _truth(np.logical_not), result="bool")
_of_numbers("rsqrt", lambda x: 1 / np.sqrt(x), module="math")
_of_numbers("reciprocal", lambda x: 1 / x)
for _name in (
    "hard_sigmoid", "hard_silu", "log_sigmoid", "relu", "relu6", "selu", "sigmoid", "silu",
    "softplus", "softsign",
):  # fmt: skip
    _of_numbers(_name, _activated(getattr(activations, _name)), module="nn")
_OTHER_NAMES = {"abs": "absolute", "swish": "silu", "hard_swish": "hard_silu", "pow": "power"}
globals().update({name: globals()[other] for name, other in _OTHER_NAMES.items()})


@_operation(_same, module="nn")
def elu(x, alpha=1.0):
    return _activated(activations.elu)(x, alpha=alpha)


@_operation(_same, module="nn")
def celu(x, alpha=1.0):
    return _activated(activations.celu)(x, alpha=alpha)


@_operation(_same, module="nn")
def leaky_relu(x, negative_slope=0.2):
    return _activated(activations.leaky_relu)(x, negative_slope=negative_slope)


@_operation(_same, module="nn")
def gelu(x, approximate=True):
    return _activated(activations.gelu)(x, approximate=approximate)


@_operation(_same, module="nn")
def softmax(x, axis=-1):
    return _activated(activations.softmax)(x, axis=axis)


@_operation(_same, module="nn")
def log_softmax(x, axis=-1):
    return _activated(activations.log_softmax)(x, axis=axis)


@_operation(_same)
def clip(x, x_min, x_max):
    return np.clip(x, x_min, x_max)


@_operation(_broadcast, tensors=3)
def where(condition, x1=None, x2=None):
    """x1 where the condition holds, x2 elsewhere."""
    if x1 is None and x2 is None:
        return np.nonzero(condition)
    if x1 is None or x2 is None:
        raise ValueError("where: expected both x1 and x2")
    return np.where(np.asarray(value_of(condition)) != 0, x1, x2)


@_operation(_same, module="core")
def cast(x, dtype):
    """x in another dtype; whole numbers are cut off, and true is what is not 0."""
    dtype = np.dtype(dtype)
    if isinstance(x, Traced):
        return x.astype(dtype) if dtype.kind == "f" else np.asarray(x.value).astype(dtype)
    return np.asarray(x).astype(dtype)


@_operation(_same, module="core")
def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """x as an array, of this dtype if one is given. sparse, ragged: None or False."""
    if sparse or ragged:
        raise ValueError(f"sparse, ragged: expected None or False, received {sparse}, {ragged}")
    if dtype is not None:
        return cast(x, dtype)
    return x if isinstance(x, Traced) else np.asarray(x)


@_operation(_same)
def zeros_like(x, dtype=None):
    return np.zeros_like(value_of(x), dtype)


@_operation(_same)
def ones_like(x, dtype=None):
    return np.ones_like(value_of(x), dtype)


@_operation(_same, module="core")
def stop_gradient(variable):
    return np.array(value_of(variable))


# --- over axes ------------------------------------------------------------------------------------


def _axes(axis):
    return tuple(axis) if isinstance(axis, list) else axis


@_operation(_reduced)
def mean(x, axis=None, keepdims=False):
    return np.mean(x, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced)
def sum(x, axis=None, keepdims=False):  # noqa: A001
    return np.sum(x, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced)
def prod(x, axis=None, keepdims=False, dtype=None):
    y = np.prod(x, axis=_axes(axis), keepdims=keepdims)
    return y if dtype is None else cast(y, dtype)


@_operation(_reduced)
def var(x, axis=None, keepdims=False):
    return np.var(x, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced)
def std(x, axis=None, keepdims=False):
    return np.std(x, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced)
def max(x, axis=None, keepdims=False, initial=None):  # noqa: A001
    y = np.max(x, axis=_axes(axis), keepdims=keepdims)
    return y if initial is None else np.maximum(y, initial)


@_operation(_reduced)
def min(x, axis=None, keepdims=False, initial=None):  # noqa: A001
    y = np.min(x, axis=_axes(axis), keepdims=keepdims)
    return y if initial is None else np.minimum(y, initial)


@_operation(_reduced, result="bool")
def all(x, axis=None, keepdims=False):  # noqa: A001
    return np.all(np.asarray(value_of(x)) != 0, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced, result="bool")
def any(x, axis=None, keepdims=False):  # noqa: A001
    return np.any(np.asarray(value_of(x)) != 0, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced, result="int32")
def argmax(x, axis=None, keepdims=False):
    return np.argmax(value_of(x), axis=axis, keepdims=keepdims)


@_operation(_reduced, result="int32")
def argmin(x, axis=None, keepdims=False):
    return np.argmin(value_of(x), axis=axis, keepdims=keepdims)


@_operation(_reduced, module="math")
def logsumexp(x, axis=None, keepdims=False):
    top = np.max(value_of(x), axis=_axes(axis), keepdims=True)
    y = np.log(np.sum(np.exp(x - top), axis=_axes(axis), keepdims=True)) + top
    return y if keepdims else np.squeeze(y, _axes(axis))


@_operation(_reduced, module="linalg")
def norm(x, ord=None, axis=None, keepdims=False):  # noqa: A002
    """The square root of the sum of squares (ord None, 2 or "euclidean"); ord=1: of |x|."""
    if ord not in (None, 1, 2, "euclidean"):
        raise ValueError(f"ord: expected None, 1, 2 or 'euclidean', received {ord!r}")
    if ord == 1:
        return np.sum(np.absolute(x), axis=_axes(axis), keepdims=keepdims)
    return np.sqrt(np.sum(np.square(x), axis=_axes(axis), keepdims=keepdims))


@_operation(_same, module="nn")
def normalize(x, axis=-1, order=2, epsilon=None):
    """x divided by its norm over the axis, which counts as epsilon (1e-7) at least."""
    if order != 2:
        raise ValueError(f"order: expected 2, received {order!r}")
    squares = np.sum(np.square(x), axis=_axes(axis), keepdims=True)
    epsilon = np.float32(1e-7 if epsilon is None else epsilon)
    return x / np.maximum(np.sqrt(np.maximum(squares, epsilon * epsilon)), epsilon)


@_operation(lambda x, axis=None, **options: x.shape if axis is not None else (x.size,))
def cumsum(x, axis=None, dtype=None):
    return np.cumsum(x, axis, dtype) if axis is not None else np.cumsum(np.ravel(x), 0, dtype)


# --- shapes ---------------------------------------------------------------------------------------


def _reshaped(x, newshape):
    known = math.prod(size for size in newshape if size != -1)
    if [*newshape].count(-1) > 1 or (x.size % known if -1 in newshape else x.size != known):
        raise ValueError(f"newshape: expected one of {x.size} numbers, received {newshape}")
    return tuple(x.size // known if size == -1 else size for size in newshape)


@_operation(_reshaped)
def reshape(x, newshape):
    return np.reshape(x, newshape)


@_operation(_viewed(np.transpose))
def transpose(x, axes=None):
    return np.transpose(x, axes)


@_operation(_viewed(np.swapaxes))
def swapaxes(x, axis1, axis2):
    return np.swapaxes(x, axis1, axis2)


@_operation(_viewed(np.moveaxis))
def moveaxis(x, source, destination):
    return np.moveaxis(x, source, destination)


@_operation(lambda x, axis: np.expand_dims(x, _axes(axis)).shape)
def expand_dims(x, axis):
    return np.expand_dims(x, _axes(axis))


@_operation(lambda x, axis=None: np.squeeze(x, _axes(axis)).shape)
def squeeze(x, axis=None):
    return np.squeeze(x, _axes(axis))


@_operation(_viewed(np.flip))
def flip(x, axis=None):
    return np.flip(x, _axes(axis))


def _item(x, key):
    return x[tuple(key) if isinstance(key, list) else key]


@_operation(_viewed(_item), tensors=2)
def get_item(x, key):
    """x[key], for numbers, slices, None and ... ."""
    return _item(x, key)


def _concatenated(xs, axis=-1):
    first, *others = (x.shape for x in xs)
    axis = range(len(first))[axis]
    for shape in others:
        if len(shape) != len(first) or {*_but(shape, axis)} != {*_but(first, axis)}:
            raise ValueError(f"expected shapes that differ in axis {axis} alone, received {shape}")
    return (*first[:axis], builtins.sum(x.shape[axis] for x in xs), *first[axis + 1 :])


def _but(shape, axis):
    return [(at, size) for at, size in enumerate(shape) if at != axis]


@_operation(_concatenated)
def concatenate(xs, axis=-1):
    return np.concatenate(xs, axis)


def _stacked(x, axis=0):
    if len({part.shape for part in x}) > 1:
        raise ValueError("expected arrays of one shape")
    shape = [*x[0].shape]
    shape.insert(range(len(shape) + 1)[axis], len(x))
    return tuple(shape)


@_operation(_stacked)
def stack(x, axis=0):
    return np.stack(x, axis)


@_operation(lambda x, indices_or_sections, axis=0: [
    part.shape for part in np.split(x, indices_or_sections, axis)
])  # fmt: skip
def split(x, indices_or_sections, axis=0):
    """The list of so many equal parts, or of those between these places."""
    return np.split(x, indices_or_sections, axis)


def _repeated(x, repeats, axis=None):
    if axis is None:
        return (x.size * repeats,)
    return tuple(n * repeats if at == axis % x.ndim else n for at, n in enumerate(x.shape))


@_operation(_repeated)
def repeat(x, repeats, axis=None):
    return np.repeat(x, repeats, axis) if axis is not None else np.repeat(np.ravel(x), repeats, 0)


def _tiled(x, repeats):
    repeats = [repeats] if np.ndim(repeats) == 0 else [*repeats]
    rank = builtins.max(len(repeats), x.ndim)
    shape = [1] * (rank - x.ndim) + [*x.shape]
    repeats = [1] * (rank - len(repeats)) + repeats
    return tuple(n * times for n, times in zip(shape, repeats, strict=True))


@_operation(_tiled)
def tile(x, repeats):
    return np.tile(x, repeats)


def _padded(x, pad_width, mode="constant"):
    pairs = np.broadcast_to(pad_width, (x.ndim, 2))
    return tuple(n + int(low) + int(high) for n, (low, high) in zip(x.shape, pairs, strict=True))


@_operation(_padded)
def pad(x, pad_width, mode="constant"):
    """Zeros, or what numpy.pad's mode says, before and after each axis."""
    return np.pad(x, pad_width, mode)


@_operation(lambda x, num_classes, axis=-1, **options: (
    *(at := [*x.shape])[: (axis if axis != -1 else len(at))], num_classes,
    *at[(axis if axis != -1 else len(at)) :],
), module="nn")  # fmt: skip
def one_hot(x, num_classes, axis=-1, dtype="float32", sparse=False):
    """1 in the place of each class number on a new axis, 0 elsewhere, and for other numbers."""
    if sparse:
        raise ValueError("sparse: expected False, received True")
    numbers = np.asarray(value_of(x)).astype(np.int64)[..., None]
    y = (numbers == np.arange(num_classes)).astype(dtype)
    return y if axis == -1 else np.moveaxis(y, -1, axis)


@_operation(lambda x, indices, axis=None: (
    np.shape(indices) if axis is None else
    (*x.shape[: axis % x.ndim], *np.shape(indices), *x.shape[axis % x.ndim + 1 :])
), tensors=2)  # fmt: skip
def take(x, indices, axis=None):
    return np.take(x, np.asarray(value_of(indices)).astype(np.int64), axis)


# --- products -------------------------------------------------------------------------------------


def _multiplied(x1, x2):
    if np.ndim(x1) < 2 or np.ndim(x2) < 2 or np.shape(x1)[-1] != np.shape(x2)[-2]:
        raise ValueError("expected (..., n, k) and (..., k, m)")
    outer = np.broadcast_shapes(np.shape(x1)[:-2], np.shape(x2)[:-2])
    return (*outer, np.shape(x1)[-2], np.shape(x2)[-1])


@_operation(_multiplied, tensors=2)
def matmul(x1, x2):
    return np.matmul(x1, x2)


def _dotted(x1, x2):
    if np.ndim(x2) != 2 or np.shape(x1)[-1] != np.shape(x2)[0]:
        raise ValueError("expected (..., k) and (k, m)")
    return (*np.shape(x1)[:-1], np.shape(x2)[1])


@_operation(_dotted, tensors=2)
def dot(x1, x2):
    return np.dot(x1, x2)


def _summed(subscripts, *operands):
    names, arrow, out = subscripts.replace(" ", "").partition("->")
    names, sizes = names.split(","), {}
    if not arrow or "." in subscripts or len(names) != len(operands):
        raise ValueError(f"subscripts: expected names of axes and ->, received {subscripts!r}")
    for name, operand in zip(names, operands, strict=True):
        for axis, size in zip(name, np.shape(operand), strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"axis {axis!r}: expected one size, received {sizes[axis]}, {size}"
                )
    return tuple(sizes[axis] for axis in out)


@_operation(_summed, tensors=0)
def einsum(subscripts, *operands):
    return np.einsum(subscripts, *operands, optimize=True)


# --- arithmetic of the outputs of layers ----------------------------------------------------------


def _operator(function, reverse=False):
    def method(self, *others):
        return function(*((*others, self) if reverse else (self, *others)))

    return method


def _give_operators():
    named = globals()
    pairs = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
        "floordiv": "floor_divide", "mod": "mod", "pow": "power", "matmul": "matmul",
        "and": "logical_and", "or": "logical_or", "xor": "logical_xor",
    }  # fmt: skip
    for operator, name in pairs.items():
        setattr(Symbolic, f"__{operator}__", _operator(named[name]))
        setattr(Symbolic, f"__r{operator}__", _operator(named[name], reverse=True))
    for operator, name in {
        "neg": "negative", "abs": "absolute", "invert": "logical_not", "getitem": "get_item",
        "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
        "ne": "not_equal",
    }.items():  # fmt: skip
        setattr(Symbolic, f"__{operator}__", _operator(named[name]))


_give_operators()
__all__ += _OTHER_NAMES
__all__.sort()
public(__name__)
