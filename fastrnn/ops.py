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
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import activations
from fastrnn._public import public
from fastrnn.arrays import Array, as_array
from fastrnn.layers.operation import OPERATIONS, Operation
from fastrnn.layers.symbolic import Symbolic, is_symbolic
from fastrnn.tape import Source, Traced, joined, not_recording, of, taken, traced, value_of

__all__: list[str] = []

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


def _operation(shape_of, module="numpy", tensors=1, result="", listed=False, name=""):
    """A decorator of a function whose first `tensors` arguments are tensors, and the others a
    config: it is an operation of graphs, too, of Keras's class `name`. tensors=0: all by position
    are tensors, after the first argument. shape_of: the function for arrays of which only the
    shapes count, for shapes. result: the dtype, where it is not that of the numbers given. listed:
    a list is one of several arrays, not of the numbers of one."""

    def decorate(function):
        class_name = name or "".join(part.capitalize() for part in function.__name__.split("_"))
        parameters = [*inspect.signature(function).parameters]
        members = {
            "function": staticmethod(function), "shape_of": staticmethod(shape_of),
            "module": f"keras.src.ops.{module}", "tensors": tensors, "result": result,
            "__doc__": function.__doc__,
            "broadcasts": shape_of is _broadcast, "along_axis": shape_of in (_same, _reduced),
        }  # fmt: skip
        cls = OPERATIONS[class_name] = type(class_name, (Operation,), members)
        if not tensors:  # einsum(subscripts, *operands)
            cls.function = staticmethod(lambda *args, subscripts: function(subscripts, *args))
            cls.shape_of = staticmethod(lambda *args, subscripts: shape_of(subscripts, *args))

        eager = _eager(function, 0 if listed else tensors, result)

        @functools.wraps(function)
        def call(*args, **kwargs):
            if not builtins.any(is_symbolic(value) for value in (*args, *kwargs.values())):
                return eager(*args, **kwargs)
            if not tensors:
                return cls(**{parameters[0]: args[0]})(*args[1:])
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            given = [*bound.arguments.items()]
            if late := [key for key, value in given[tensors:] if is_symbolic(value)]:
                raise ValueError(f"{late[0]}: expected no output of a layer")
            options = dict(given[tensors:])
            if options.get("dtype") is not None:
                options["dtype"] = np.dtype(options["dtype"]).name
            return cls(**options)(*(value for _, value in given[:tensors]))

        __all__.append(function.__name__)
        return call

    return decorate


def _eager(function, tensors=0, result=""):
    """The function for arrays, numbers and what takes part in recordings, with a result of Keras's
    dtype: no wider than what was given, unless dtype= says so."""
    parameters = [*inspect.signature(function).parameters]
    place = parameters.index("dtype") if "dtype" in parameters else None

    @functools.wraps(function)
    def call(*args, **kwargs):
        args, kwargs = taken(args), taken(kwargs)
        args = (*builtins.map(joined, args[:tensors]), *args[tensors:])
        y = as_array(function(*args, **kwargs))
        if place is not None and (args[place:] or (kwargs.get("dtype"),))[0] is not None:
            return y
        return _narrowed(y, {*_dtypes([*args, *kwargs.values()])}, result)

    return call


def _dtypes(given):
    for part in given:
        if isinstance(part, (list, tuple)):
            yield from _dtypes(part)
        elif isinstance(part, (np.ndarray, np.generic, Source)):
            yield value_of(part).dtype


_WIDE = {*builtins.map(np.dtype, ("int64", "uint32", "uint64"))}


def _narrowed(y, given, result):
    if isinstance(y, (list, tuple)):
        return type(y)(_narrowed(part, given, result) for part in y)
    dtype = getattr(y, "dtype", None)
    if dtype == np.float64 and np.dtype("float64") not in given:
        return y.astype(np.float32)
    if dtype == np.int64 and (result or not given & _WIDE):
        return y.astype(np.int32)
    return y


def _function(function):
    """A decorator of a function of arrays that is no step of a graph."""
    eager = _eager(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        _only_arrays(function.__name__, (*args, *kwargs.values()))
        return eager(*args, **kwargs)

    __all__.append(function.__name__)
    return call


def _only_arrays(name, given):
    if builtins.any(builtins.map(is_symbolic, given)):
        raise ValueError(
            f"{name}: expected arrays, received the output of a layer; put it into the `call` of a "
            "layer of your own"
        )


def _composed(function):
    """A decorator of a function made of operations."""
    __all__.append(function.__name__)
    return function


# --- shapes ---------------------------------------------------------------------------------------
# Arrays here are broadcast numbers, which take no memory: views of them tell the shape.


def _same(x, **options):
    return x.shape


def _kept(x, *others, **options):
    """That of x, whose numbers change places."""
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


def _of_numbers(name, function, count=1, result="", module="numpy", class_name=""):
    """An operation of each number of one array, or of the numbers of two that are broadcast."""

    def one(x):
        return function(x)

    def two(x1, x2):
        return function(x1, x2)

    made = one if count == 1 else two
    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"{name} of each number."
    shape_of = _same if count == 1 else _broadcast
    globals()[name] = _operation(shape_of, module, count, result, name=class_name)(made)


def _sloped(function, slope):
    """A function of SciPy, that of one number a time, with slope(x), its derivative."""

    def apply(x):
        value = value_of(x)
        y = function(value)
        return x.then(y, lambda g: g * slope(value)) if isinstance(x, Source) else y

    return apply


def _special(name):
    """scipy.special's function; importing it takes longer than all of fastrnn."""

    def function(x):
        from scipy import special

        return getattr(special, name)(x)

    return function


def _truth(function):
    return lambda *xs: function(*(np.asarray(value_of(x)) != 0 for x in xs))


def _sinc(x):
    zero = value_of(x) == 0
    angle = math.pi * np.where(zero, 1, x)
    return np.where(zero, 1, np.sin(angle) / angle)


def _divide_no_nan(x1, x2):
    zero = value_of(x2) == 0
    return np.where(zero, 0, np.divide(x1, np.where(zero, 1, x2)))


for _name in (
    "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "cbrt", "cos",
    "cosh", "deg2rad", "exp", "exp2", "expm1", "fabs", "log", "log10", "log1p", "log2",
    "negative", "rad2deg", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
):  # fmt: skip
    _of_numbers(_name, getattr(np, _name))
for _name in ("isfinite", "isinf", "isnan", "isneginf", "isposinf", "signbit"):
    _of_numbers(_name, getattr(np, _name), result="bool")
for _name in (
    "add", "arctan2", "divide", "floor_divide", "fmax", "fmin", "fmod", "gcd", "heaviside", "hypot",
    "lcm", "logaddexp", "logaddexp2", "maximum", "minimum", "mod", "multiply", "nextafter", "power",
    "subtract", "true_divide",
):  # fmt: skip
    _of_numbers(_name, getattr(np, _name), 2)
for _name in ("and", "or", "xor"):
    _of_numbers(f"bitwise_{_name}", getattr(np, f"bitwise_{_name}"), 2)
for _name in ("left_shift", "right_shift"):
    _of_numbers(_name, getattr(np, _name), 2)
    _of_numbers(f"bitwise_{_name}", getattr(np, _name), 2)
for _name in ("bitwise_invert", "bitwise_not"):
    _of_numbers(_name, np.invert)
for _name in ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal"):
    _of_numbers(_name, getattr(np, _name), 2, result="bool")
for _name in ("logical_and", "logical_or", "logical_xor"):
    _of_numbers(_name, _truth(getattr(np, _name)), 2, result="bool")
_of_numbers("logical_not", _truth(np.logical_not), result="bool")
_of_numbers("ceil", lambda x: np.ceil(_floats(x)))
_of_numbers("floor", lambda x: np.floor(_floats(x)))
_of_numbers("rsqrt", lambda x: 1 / np.sqrt(x), module="math")
_of_numbers("reciprocal", lambda x: 1 / x)
_of_numbers("sinc", _sinc)
_of_numbers("i0", _sloped(_special("i0"), _special("i1")))
_of_numbers("divide_no_nan", _divide_no_nan, 2)
_of_numbers("ldexp", lambda x1, x2: x1 * np.exp2(np.asarray(value_of(x2), np.float32)), 2)
_SLOPE = 2 / math.sqrt(math.pi)
_of_numbers("erf", _sloped(_special("erf"), lambda x: _SLOPE * np.exp(-x * x)), module="math")
_of_numbers("erfc", _sloped(_special("erfc"), lambda x: -_SLOPE * np.exp(-x * x)), module="math")
_of_numbers(
    "erfinv",
    _sloped(_special("erfinv"), lambda x: np.exp(np.square(_special("erfinv")(x))) / _SLOPE),
    module="math",
)
for _name in (
    "hard_sigmoid", "hard_silu", "hard_tanh", "log_sigmoid", "relu", "relu6", "selu", "sigmoid",
    "silu", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "tanh_shrink",
):  # fmt: skip
    _of_numbers(_name, getattr(activations, _name), module="nn")
_OTHER_NAMES = {"abs": "absolute", "swish": "silu", "hard_swish": "hard_silu", "pow": "power"}
globals().update({name: globals()[other] for name, other in _OTHER_NAMES.items()})


@_operation(_same)
def round(x, decimals=0):  # noqa: A001
    return np.round(x, decimals)


@_operation(_same, module="nn")
def elu(x, alpha=1.0):
    return activations.elu(x, alpha=alpha)


@_operation(_same, module="nn")
def celu(x, alpha=1.0):
    return activations.celu(x, alpha=alpha)


@_operation(_same, module="nn")
def leaky_relu(x, negative_slope=0.2):
    return activations.leaky_relu(x, negative_slope=negative_slope)


@_operation(_same, module="nn")
def gelu(x, approximate=True):
    return activations.gelu(x, approximate=approximate)


@_operation(_same, module="nn")
def hard_shrink(x, threshold=0.5):
    return activations.hard_shrink(x, threshold=threshold)


@_operation(_same, module="nn")
def soft_shrink(x, threshold=0.5):
    return activations.soft_shrink(x, threshold=threshold)


@_operation(_same, module="nn")
def squareplus(x, b=4):
    return activations.squareplus(x, b=b)


@_operation(_same, module="nn")
def threshold(x, threshold, default_value):
    """x where it is greater than the threshold, default_value elsewhere."""
    return activations.threshold(x, threshold=threshold, default_value=default_value)


@_operation(lambda x, axis=-1: _cut(x.shape, axis, x.shape[axis] // 2), module="nn")
def glu(x, axis=-1):
    return activations.glu(x, axis=axis)


@_operation(_same, module="nn")
def softmax(x, axis=-1):
    return activations.softmax(x, axis=axis)


@_operation(_same, module="nn")
def log_softmax(x, axis=-1):
    return activations.log_softmax(x, axis=axis)


@_operation(_same, module="nn")
def sparsemax(x, axis=-1):
    return activations.sparsemax(x, axis=axis)


@_operation(_same)
def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@_operation(lambda x1, x2, *others, **options: _broadcast(x1, x2), tensors=4, result="bool")
def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    return np.isclose(x1, x2, rtol, atol, equal_nan)


@_operation(_kept, tensors=2, result="bool", name="IsIn")
def isin(x1, x2, assume_unique=False, invert=False):
    return np.isin(x1, x2, assume_unique=assume_unique, invert=invert)


@_function
def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    return np.asarray(np.allclose(x1, x2, rtol, atol, equal_nan))


@_operation(_same)
def clip(x, x_min, x_max):
    return np.clip(x, x_min, x_max)


def _chosen_from(function):
    @functools.wraps(function)
    def where(condition, x1=None, x2=None):
        if x1 is None and x2 is None:
            _only_arrays("where(condition)", [condition])
        return function(condition, x1, x2)

    return where


@_chosen_from
@_operation(_broadcast, tensors=3)
def where(condition, x1=None, x2=None):
    """x1 where the condition holds, x2 elsewhere."""
    if x1 is None and x2 is None:
        return [*np.nonzero(value_of(condition))]
    if x1 is None or x2 is None:
        raise ValueError("where: expected both x1 and x2")
    return np.where(np.asarray(value_of(condition)) != 0, x1, x2)


@_operation(_same, module="core")
def cast(x, dtype):
    """x in another dtype; whole numbers are cut off, and true is what is not 0."""
    dtype = np.dtype(dtype)
    if isinstance(x, Source):
        return x.astype(dtype) if dtype.kind == "f" else np.asarray(x.value).astype(dtype)
    return np.asarray(x).astype(dtype)


@_operation(_same, module="core")
def saturate_cast(x, dtype):
    """x in another dtype, numbers beyond what it holds cut off."""
    info = (np.iinfo if np.dtype(dtype).kind in "iu" else np.finfo)(dtype)
    return cast(np.clip(x, info.min, info.max), dtype)


@_operation(_same, module="core")
def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """x as an array, of this dtype if one is given. sparse, ragged: None or False."""
    if sparse or ragged:
        raise ValueError(f"sparse, ragged: expected None or False, received {sparse}, {ragged}")
    if dtype is not None:
        return cast(x, dtype)
    return x if isinstance(x, Source) else np.array(x)


@_composed
def array(x, dtype=None):
    """x as an array, of this dtype if one is given."""
    return convert_to_tensor(x, dtype)


@_operation(_same)
def copy(x):
    return np.copy(x)


@_operation(lambda x, fill_value, dtype=None: x.shape, tensors=2)
def full_like(x, fill_value, dtype=None):
    return np.full_like(value_of(x), value_of(fill_value), dtype)


@_operation(_same)
def empty_like(x, dtype=None):
    return np.zeros_like(value_of(x), dtype)


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


@_operation(_reduced)
def amax(x, axis=None, keepdims=False):
    return np.max(x, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced)
def amin(x, axis=None, keepdims=False):
    return np.min(x, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced)
def median(x, axis=None, keepdims=False):
    return np.median(x, axis=_axes(axis), keepdims=keepdims)


@_operation(_reduced)
def ptp(x, axis=None, keepdims=False):
    return np.ptp(x, axis=_axes(axis), keepdims=keepdims)


def _reduction(name, result=""):
    function = getattr(np, name)

    def made(x, axis=None, keepdims=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of NaN alone
            return function(x, axis=_axes(axis), keepdims=keepdims)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"{name.removeprefix('nan')} of the numbers that are not NaN."
    globals()[name] = _operation(_reduced, result=result)(made)


for _name in ("max", "mean", "median", "min", "prod", "std", "sum", "var"):
    _reduction(f"nan{_name}")
for _name in ("argmax", "argmin"):
    _reduction(f"nan{_name}", "int32")


def _at_quantiles(x, q, axis=None, method="linear", keepdims=False):
    return (*np.shape(q), *_reduced(x, axis, keepdims))


def _of_quantiles(name):
    function = getattr(np, name)

    def made(x, q, axis=None, method="linear", keepdims=False):
        q = value_of(q)
        q = q if isinstance(q, (int, float)) else np.asarray(q)
        return function(x, q, axis=_axes(axis), method=method, keepdims=keepdims)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"{name} for each of q, on first axes."
    globals()[name] = _operation(_at_quantiles, tensors=2)(made)


for _name in ("nanpercentile", "nanquantile", "percentile", "quantile"):
    _of_quantiles(_name)


@_operation(lambda x, axis=None: _reduced(x, axis), result="int32")
def count_nonzero(x, axis=None):
    return np.count_nonzero(value_of(x), axis=_axes(axis))


@_composed
def average(x, axis=None, weights=None):
    """The mean, of numbers that count as much as weights (of x's shape, or along axis) say."""
    if weights is None:
        return mean(x, axis)
    x = x if is_symbolic(x) else convert_to_tensor(x)
    weights = weights if is_symbolic(weights) else convert_to_tensor(weights)
    if weights.ndim != x.ndim:
        sizes = [1] * x.ndim
        sizes[axis] = -1
        weights = reshape(weights, sizes)
    return sum(x * weights, axis) / sum(weights * ones_like(x), axis)


@_operation(lambda x, axes, keepdims=False, synchronized=False: [
    _reduced(x, axes, keepdims)
] * 2, module="nn")  # fmt: skip
def moments(x, axes, keepdims=False, synchronized=False):
    """Mean and variance."""
    if synchronized:
        raise ValueError(f"synchronized: expected False, received {synchronized!r}")
    options = {"axis": _axes(axes), "keepdims": keepdims}
    return np.mean(x, **options), np.var(x, **options)


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


@_operation(_kept, result="int32")
def argsort(x, axis=-1):
    return np.argsort(value_of(x), axis, kind="stable")


@_operation(_kept, result="int32")
def argpartition(x, kth, axis=-1):
    return np.argpartition(value_of(x), kth, axis)


@_operation(_kept)
def sort(x, axis=-1):
    return np.sort(x, axis)


class _TopK(tuple):
    """The greatest numbers and their places."""

    __slots__ = ()
    values, indices = property(lambda self: self[0]), property(lambda self: self[1])


@_operation(lambda x, k, sorted=True: [(*x.shape[:-1], k)] * 2, module="math")
def top_k(x, k, sorted=True):
    """The k greatest numbers of each row, from the greatest, and their places."""
    x = x if isinstance(x, Source) else np.asarray(x)
    if not 0 <= k <= x.shape[-1]:
        raise ValueError(f"k: expected a number up to {x.shape[-1]}, received {k}")
    places = np.argsort(-np.asarray(value_of(x), float), -1, kind="stable")[..., :k]
    return _TopK((np.take_along_axis(x, places, -1), places.astype(np.int32)))


@_operation(lambda targets, predictions, k: targets.shape, module="math", tensors=2, result="bool")
def in_top_k(targets, predictions, k):
    """Is each target, a class, among the k of the greatest predictions?"""
    targets = np.asarray(value_of(targets)).astype(np.int64)
    predictions = np.asarray(value_of(predictions))
    valid = (targets >= 0) & (targets < predictions.shape[-1])
    own = np.take_along_axis(predictions, np.where(valid, targets, 0)[..., None], -1)
    return valid & np.isfinite(own[..., 0]) & ((predictions > own).sum(-1) < k)


@_operation(lambda x, bins: x.shape, tensors=2, result="int32")
def digitize(x, bins):
    return np.digitize(value_of(x), value_of(bins))


@_operation(lambda sorted_sequence, values, side="left": np.shape(values), tensors=2,
            result="int32", name="SearchSorted")  # fmt: skip
def searchsorted(sorted_sequence, values, side="left"):
    return np.searchsorted(value_of(sorted_sequence), value_of(values), side)


@_function
def bincount(x, weights=None, minlength=0, sparse=False):
    """How often there is each number from 0; of the rows of a matrix one by one."""
    if sparse:
        raise ValueError("sparse: expected False, received True")
    x = np.asarray(value_of(x))
    weights = None if weights is None else np.asarray(value_of(weights))
    if x.ndim == 1:
        y = np.bincount(x, weights, minlength)
    else:
        most = builtins.max(minlength, int(x.max(initial=-1)) + 1)
        rows = [None] * len(x) if weights is None else weights
        y = np.stack([np.bincount(row, w, most) for row, w in zip(x, rows, strict=True)])
    return y.astype(np.int32 if weights is None else weights.dtype)


@_function
def histogram(x, bins=10, range=None):
    """The numbers in each of the bins, and the bins' edges."""
    counts, edges = np.histogram(value_of(x), bins, range)
    return counts.astype(edges.dtype), edges


@_function
def unique(
    x,
    sorted=True,
    return_index=False,
    return_inverse=False,
    return_counts=False,
    axis=None,
    size=None,
    fill_value=None,
):
    """The different numbers in order; with their places where those are asked for."""
    if size is not None:
        raise ValueError(f"size: expected None, received {size!r}")
    return np.unique(value_of(x), return_index, return_inverse, return_counts, axis)


@_function
def nonzero(x):
    """For each axis the places of what is not 0."""
    return [place.astype(np.int32) for place in np.nonzero(value_of(x))]


def _segments(name, begin, collect, way):
    """An operation of the rows of one segment: begin(dtype) is what collect starts from; way(data,
    y, ids) the way back."""

    def made(data, segment_ids, num_segments=None, sorted=False):
        ids = np.asarray(value_of(segment_ids)).astype(np.int64)
        values = np.asarray(value_of(data))
        count = int(ids.max(initial=-1)) + 1 if num_segments is None else num_segments
        known = (ids >= 0) & (ids < count)
        y = np.full((count, *values.shape[1:]), begin(values.dtype), values.dtype)
        collect.at(y, ids[known], values[known])
        if not isinstance(data, Source):
            return y

        def pull(g):
            dx = np.zeros_like(values)
            dx[known] = g[ids[known]]
            return dx * way(values, y, np.where(known, ids, 0))

        return data.then(y, pull)

    made.__name__ = made.__qualname__ = f"segment_{name}"
    made.__doc__ = f"The {name} of the rows of data that have the same segment_ids."
    globals()[made.__name__] = _operation(_segmented, "math", 2)(made)


def _segmented(data, segment_ids, num_segments=None, sorted=False):
    if num_segments is None:
        raise ValueError("num_segments: expected a number for the outputs of layers, received None")
    return (num_segments, *data.shape[1:])


def _chosen(values, y, ids):
    best = values == y[ids]
    count = np.zeros_like(y)
    np.add.at(count, ids, best)
    return best / np.maximum(count, 1)[ids]


def _bound(way):
    return lambda dtype: getattr(np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype), way)


_segments("sum", lambda dtype: 0, np.add, lambda values, y, ids: 1)
_segments("prod", lambda dtype: 1, np.multiply, lambda values, y, ids: y[ids] / values)
_segments("max", _bound("min"), np.maximum, _chosen)
_segments("min", _bound("max"), np.minimum, _chosen)


@_operation(_reduced, module="linalg")
def norm(x, ord=None, axis=None, keepdims=False):  # noqa: A002
    """The square root of the sum of squares (ord None), or that norm of vectors or matrices (along
    two axes) that numpy.linalg.norm has by this ord."""
    axis = _axes(axis)
    if ord == "euclidean":
        ord = None  # noqa: A001
    x = _floats(x)
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if np.ndim(axis) == 0 else axis
    if ord is None or (ord == "fro" and len(axes) == 2):
        return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))
    if len(axes) == 1 and not isinstance(ord, str):
        if ord in (np.inf, -np.inf):
            function = np.max if ord > 0 else np.min
            return function(np.absolute(x), axis=axes[0], keepdims=keepdims)
        if ord == 2:
            return np.sqrt(np.sum(np.square(x), axis=axes[0], keepdims=keepdims))
        if ord == 0:
            return np.sum(
                (value_of(x) != 0).astype(value_of(x).dtype), axis=axes[0], keepdims=keepdims
            )
        sums = np.sum(np.absolute(x) ** ord, axis=axes[0], keepdims=keepdims)
        return sums if ord == 1 else sums ** (1 / ord)
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):
        rows, columns = (a % x.ndim for a in (axes if builtins.abs(ord) == 1 else axes[::-1]))
        sums = np.sum(np.absolute(x), axis=rows, keepdims=True)
        y = (np.max if ord > 0 else np.min)(sums, axis=columns, keepdims=True)
        return y if keepdims else np.squeeze(y, axes)
    if len(axes) == 2 and ord in (2, -2, "nuc"):
        return np.linalg.norm(x, ord, axes, keepdims)
    raise ValueError(f"ord: expected a norm of {len(axes)} axes, received {ord!r}")


@_operation(_same, module="nn")
def normalize(x, axis=-1, order=2, epsilon=None):
    """x divided by its norm over the axis, which counts as epsilon (1e-7) at least."""
    epsilon = 1e-7 if epsilon is None else epsilon
    if order != 2:
        return x / np.maximum(_norm_of_order(x, axis, order), epsilon)
    squares = np.sum(np.square(x), axis=_axes(axis), keepdims=True)
    return x / np.maximum(np.sqrt(np.maximum(squares, epsilon * epsilon)), epsilon)


def _norm_of_order(x, axis, order):
    if isinstance(order, str) or not order >= 1:
        raise ValueError(f"order: expected a number >= 1, received {order!r}")
    if order == np.inf:
        return np.max(np.absolute(x), axis=_axes(axis), keepdims=True)
    sums = np.sum(np.absolute(x) ** order, axis=_axes(axis), keepdims=True)
    return sums if order == 1 else sums ** (1 / order)


def _running(x, axis=None, **options):
    return x.shape if axis is not None else (x.size,)


@_operation(_running)
def cumsum(x, axis=None, dtype=None):
    return np.cumsum(x, axis, dtype) if axis is not None else np.cumsum(np.ravel(x), 0, dtype)


@_operation(_running)
def cumprod(x, axis=None, dtype=None):
    return np.cumprod(x, axis, dtype) if axis is not None else np.cumprod(np.ravel(x), 0, dtype)


@_operation(_running)
def nancumsum(x, axis=None, dtype=None):
    return np.nancumsum(x, axis, dtype) if axis is not None else np.nancumsum(np.ravel(x), 0, dtype)


@_operation(_running)
def nancumprod(x, axis=None, dtype=None):
    y = x if axis is not None else np.ravel(x)
    return np.nancumprod(y, 0 if axis is None else axis, dtype)


def _cut(shape, axis, size):
    axis = range(len(shape))[axis]
    return (*shape[:axis], size, *shape[axis + 1 :])


@_operation(lambda a, n=1, axis=-1: _cut(a.shape, axis, builtins.max(a.shape[axis] - n, 0)))
def diff(a, n=1, axis=-1):
    """Each number less the one before it along axis, n times over."""
    return np.diff(a, n, axis)


@_function
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """The integral along axis, of points at x or dx apart."""
    y = np.moveaxis(y, axis, -1)
    width = dx
    if x is not None:
        width = np.diff(x, axis=-1) if np.ndim(x) == 1 else np.diff(np.moveaxis(x, axis, -1))
    return np.sum((y[..., 1:] + y[..., :-1]) * width, -1) / 2


@_function
def corrcoef(x):
    return np.corrcoef(x)


@_function
def correlate(x1, x2, mode="valid"):
    return np.correlate(x1, x2, mode)


# --- shapes ---------------------------------------------------------------------------------------


def _reshaped(x, newshape):
    known = math.prod(size for size in newshape if size != -1)
    if [*newshape].count(-1) > 1 or (x.size % known if -1 in newshape else x.size != known):
        raise ValueError(f"newshape: expected one of {x.size} numbers, received {newshape}")
    return tuple(x.size // known if size == -1 else size for size in newshape)


@_operation(_reshaped)
def reshape(x, newshape):
    return np.reshape(x, newshape)


@_operation(lambda x: (x.size,))
def ravel(x):
    return np.ravel(x)


@_operation(lambda x, shape: np.broadcast_to(x, shape).shape)
def broadcast_to(x, shape):
    return np.broadcast_to(x, tuple(shape))


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


@_operation(_kept)
def fliplr(x):
    return np.fliplr(x)


@_operation(_kept)
def flipud(x):
    return np.flipud(x)


@_operation(_kept)
def roll(x, shift, axis=None):
    return np.roll(x, shift, axis)


@_operation(_viewed(np.rot90))
def rot90(array, k=1, axes=(0, 1)):
    return np.rot90(array, k, tuple(axes))


@_operation(_kept)
def tril(x, k=0):
    return np.tril(x, k)


@_operation(_kept)
def triu(x, k=0):
    return np.triu(x, k)


def _squared(x, k=0):
    if x.ndim == 2:
        return np.diagonal(x, k).shape
    if x.ndim != 1:
        raise ValueError(f"x: expected one or two axes, received shape {x.shape}")
    return (x.size + builtins.abs(k),) * 2


@_operation(_squared)
def diag(x, k=0):
    return np.diag(x, k)


@_operation(lambda x, k=0: (x.size + builtins.abs(k),) * 2)
def diagflat(x, k=0):
    return np.diagflat(x, k)


@_operation(_viewed(np.diagonal))
def diagonal(x, offset=0, axis1=0, axis2=1):
    return np.diagonal(x, offset, axis1, axis2)


@_operation(lambda x, *options, **named: np.diagonal(x, *options, **named).shape[:-1])
def trace(x, offset=0, axis1=0, axis2=1):
    return np.trace(x, offset, axis1, axis2)


@_operation(_viewed(np.flip))
def flip(x, axis=None):
    return np.flip(x, _axes(axis))


def _item(x, key):
    return x[tuple(key) if isinstance(key, list) else key]


@_operation(_viewed(_item), tensors=2, listed=True)
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


@_operation(_concatenated, listed=True)
def concatenate(xs, axis=0):
    return np.concatenate([*xs], axis)


@_operation(lambda xs: _concatenated(xs, builtins.min(1, xs[0].ndim - 1)), listed=True)
def hstack(xs):
    return np.hstack([*xs])


@_operation(lambda xs: _concatenated([np.atleast_2d(x) for x in xs], 0), listed=True)
def vstack(xs):
    return np.vstack([*xs])


@_operation(lambda xs: _concatenated([np.atleast_3d(x) for x in xs], 2), listed=True)
def dstack(xs):
    return np.dstack([*xs])


@_operation(
    lambda x1, x2, axis=None: (
        (x1.size + np.size(x2),) if axis is None else _concatenated([x1, x2], axis)
    ),
    tensors=2,
)
def append(x1, x2, axis=None):
    return np.append(x1, x2, axis)


def _stacked(x, axis=0):
    if len({part.shape for part in x}) > 1:
        raise ValueError("expected arrays of one shape")
    shape = [*x[0].shape]
    shape.insert(range(len(shape) + 1)[axis], len(x))
    return tuple(shape)


@_operation(_stacked, listed=True)
def stack(x, axis=0):
    return np.stack([*x], axis)


@_operation(
    lambda x, num=None, axis=0: [
        (*x.shape[: axis % x.ndim], *x.shape[axis % x.ndim + 1 :])
    ] * (x.shape[axis] if num is None else num),
    module="core",
)  # fmt: skip
def unstack(x, num=None, axis=0):
    """The list of x's parts along axis."""
    x = x if isinstance(x, Source) else np.asarray(x)
    if num not in (None, x.shape[axis]):
        raise ValueError(f"num: expected {x.shape[axis]}, received {num}")
    return [*np.moveaxis(x, axis, 0)]


def _parts(split, axis=None):
    def shape_of(x, indices_or_sections, axis=axis):
        options = () if axis is None else (axis,)
        return [part.shape for part in split(x, indices_or_sections, *options)]

    return shape_of


@_operation(_parts(np.array_split, 0))
def array_split(x, indices_or_sections, axis=0):
    """The list of so many parts, as equal as can be, or of those between these places."""
    return np.array_split(x, indices_or_sections, axis)


@_operation(_parts(np.hsplit))
def hsplit(x, indices_or_sections):
    return np.hsplit(x, indices_or_sections)


@_operation(_parts(np.vsplit))
def vsplit(x, indices_or_sections):
    return np.vsplit(x, indices_or_sections)


@_operation(_parts(np.dsplit))
def dsplit(x, indices_or_sections):
    return np.dsplit(x, indices_or_sections)


@_operation(_parts(np.split, 0))
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


def _with_constant(function):
    @functools.wraps(function)
    def pad(x, pad_width, mode="constant", constant_values=None):
        if constant_values is None:
            return function(x, pad_width, mode)
        if mode != "constant":
            raise ValueError(f"constant_values: expected None for mode {mode!r}")
        inside = function(ones_like(x), pad_width)
        return where(inside, function(x, pad_width), constant_values)

    return pad


@_with_constant
@_operation(_padded)
def pad(x, pad_width, mode="constant"):
    """Zeros (or constant_values), or what numpy.pad's mode says, before and after each axis."""
    return np.pad(x, pad_width, mode)


@_composed
def multi_hot(inputs, num_classes=None, axis=-1, dtype="float32", sparse=False, **kwargs):
    """1 in the places of the class numbers of each row, 0 elsewhere."""
    num_classes = kwargs.pop("num_tokens", num_classes)
    if kwargs or num_classes is None:
        raise ValueError(f"num_classes: expected a number, received {num_classes}, {kwargs}")
    inputs = inputs if is_symbolic(inputs) else convert_to_tensor(inputs)
    hot = one_hot(inputs, num_classes, axis, dtype or "float32", sparse)
    return max(hot, axis=1 if len(inputs.shape) > 1 else 0)


@_operation(lambda x, num_classes, axis=-1, **options: (
    *(at := [*x.shape])[: (axis if axis != -1 else len(at))], num_classes,
    *at[(axis if axis != -1 else len(at)) :],
), module="nn")  # fmt: skip
def one_hot(x, num_classes, axis=-1, dtype="float32", sparse=False):
    """1 in the place of each class number on a new axis, 0 elsewhere, and for other numbers."""
    if sparse:
        raise ValueError("sparse: expected False, received True")
    numbers = np.asarray(value_of(x)).astype(np.int64)[..., None]
    y = (numbers == np.arange(num_classes)).astype(dtype or "float32")
    return y if axis == -1 else np.moveaxis(y, -1, axis)


@_operation(lambda x, indices, axis=None: (
    np.shape(indices) if axis is None else
    (*x.shape[: axis % x.ndim], *np.shape(indices), *x.shape[axis % x.ndim + 1 :])
), tensors=2)  # fmt: skip
def take(x, indices, axis=None):
    return np.take(x, np.asarray(value_of(indices)).astype(np.int64), axis)


def _along(x, indices, axis=None):
    if axis is None:
        return np.shape(indices)
    axis = range(x.ndim)[axis]
    pairs = enumerate(zip(x.shape, np.shape(indices), strict=True))
    return tuple(np.broadcast_shapes((m,), () if at == axis else (n,))[0] for at, (n, m) in pairs)


@_operation(_along, tensors=2)
def take_along_axis(x, indices, axis=None):
    indices = np.asarray(value_of(indices)).astype(np.int64)
    return np.take_along_axis(x, indices, axis)


@_function
def meshgrid(*x, indexing="xy"):
    """For each of the vectors a grid of all of them, with its numbers along its own axis."""
    order = [1, 0, *range(2, len(x))][: len(x)] if indexing == "xy" else [*range(len(x))]
    sizes = [np.size(part) for part in x]
    grid = []
    for axis, part in zip(order, x, strict=True):
        shape = [-1 if at == axis else 1 for at in range(len(x))]
        grid.append(np.broadcast_to(np.reshape(part, shape), [sizes[at] for at in order]))
    return grid


@_composed
def select(condlist, choicelist, default=0):
    """The choice of the first condition that holds, number by number."""
    y = default
    for condition, choice in reversed([*zip(condlist, choicelist, strict=True)]):
        y = where(condition, choice, y)
    return y


@_function
def unravel_index(indices, shape):
    return np.unravel_index(value_of(indices), shape)


@_function
def extract_sequences(x, sequence_length, sequence_stride):
    """Parts of the last axis, of this length, that begin so far apart."""
    starts = np.arange(0, np.shape(x)[-1] - sequence_length + 1, sequence_stride)
    return np.take(x, starts[:, None] + np.arange(sequence_length), -1)


def _sliced(inputs, start_indices, shape):
    pairs = zip(inputs.shape, shape, strict=True)
    return tuple(n if size == -1 else size for n, size in pairs)


def _window(start_indices, shape):
    starts = [int(start) for start in np.asarray(value_of(start_indices))]
    return tuple(
        builtins.slice(start, None if size == -1 else start + size)
        for start, size in zip(starts, shape, strict=True)
    )


@_operation(_sliced, module="core", tensors=2)
def slice(inputs, start_indices, shape):  # noqa: A001
    """The part of this shape (-1: all that follows) that begins at start_indices."""
    return np.asarray(inputs)[_window(start_indices, shape)] if not isinstance(
        inputs, Source
    ) else inputs[_window(start_indices, shape)]  # fmt: skip


def _replaced(inputs, place, updates):
    """inputs with updates at this place, which names no number twice."""
    y = np.array(value_of(inputs))
    y[place] = value_of(updates)

    def of_inputs(g):
        g = np.array(g)
        g[place] = 0
        return g

    return traced(y, [(inputs, of_inputs), (updates, lambda g: g[place])])


@_operation(_kept, module="core", tensors=3)
def slice_update(inputs, start_indices, updates):
    """inputs with updates in the place that begins at start_indices."""
    return _replaced(inputs, _window(start_indices, np.shape(updates)), updates)


def _places(indices):
    indices = np.asarray(value_of(indices)).astype(np.int64)
    return tuple(np.moveaxis(indices, -1, 0))


@_operation(lambda indices, values, shape: tuple(shape), module="core", tensors=2)
def scatter(indices, values, shape):
    """Zeros of this shape, with the values added in their places."""
    places, given = _places(indices), np.asarray(value_of(values))
    y = np.zeros(shape, given.dtype)
    np.add.at(y, places, given)
    return traced(y, [(values, lambda g: g[places])])


_REDUCTIONS = {"max": np.maximum, "min": np.minimum, "mul": np.multiply}


@_operation(_kept, module="core", tensors=3)
def scatter_update(inputs, indices, updates, reduction=None):
    """inputs with updates in their places, or added to (or "max", "min", "mul") what is there."""
    places = _places(indices)
    if reduction is None:
        return _replaced(inputs, places, updates)
    y = np.array(value_of(inputs))
    if reduction == "add":
        np.add.at(y, places, value_of(updates))
        return traced(y, [(inputs, lambda g: g), (updates, lambda g: g[places])])
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"reduction: expected None, 'add', 'max', 'min' or 'mul', received {reduction!r}"
        )
    if isinstance(inputs, Source) or isinstance(updates, Source):
        raise TypeError(f"no derivative is known of scatter_update with reduction={reduction!r}")
    _REDUCTIONS[reduction].at(y, places, updates)
    return y


# --- products -------------------------------------------------------------------------------------


def _multiplied(x1, x2):
    left, right = np.shape(x1), np.shape(x2)
    if not left or not right or left[-1] != right[-2 if len(right) > 1 else 0]:
        raise ValueError("expected (..., n, k) and (..., k, m)")
    outer = np.broadcast_shapes(left[:-2], right[:-2])
    return (*outer, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


@_operation(_multiplied, tensors=2)
def matmul(x1, x2):
    return np.matmul(x1, x2)


def _dotted(x1, x2):
    left, right = np.shape(x1), np.shape(x2)
    if not left or not right:
        return left + right
    if left[-1] != right[-2 if len(right) > 1 else 0]:
        raise ValueError("expected (..., k) and (k, m)")
    return (*left[:-1], *right[:-2], *(right[-1:] if len(right) > 1 else ()))


@_operation(_dotted, tensors=2)
def dot(x1, x2):
    return np.dot(x1, x2)


def _contracted(x1, x2, axes=2):
    left, right = np.shape(x1), np.shape(x2)
    if np.ndim(axes) == 0:
        axes = range(len(left) - axes, len(left)), range(axes)
    one, two = ([range(len(x))[at] for at in np.atleast_1d(part)]
                for x, part in zip((left, right), axes, strict=True))  # fmt: skip
    if [left[at] for at in one] != [right[at] for at in two]:
        raise ValueError(f"axes: expected axes of the same sizes, received {axes}")
    kept = [n for at, n in enumerate(left) if at not in one]
    return (*kept, *(n for at, n in enumerate(right) if at not in two))


@_operation(_contracted, tensors=2)
def tensordot(x1, x2, axes=2):
    return np.tensordot(x1, x2, axes)


def _of_last_axes(x1, x2):
    if 0 in (np.ndim(x1), np.ndim(x2)):
        return np.shape(x1) + np.shape(x2)
    return _contracted(x1, x2, ([-1], [-1]))


@_operation(_of_last_axes, tensors=2)
def inner(x1, x2):
    return np.inner(x1, x2)


@_operation(lambda x1, x2: (np.size(x1), np.size(x2)), tensors=2)
def outer(x1, x2):
    return np.outer(x1, x2)


@_operation(lambda x1, x2: (), tensors=2)
def vdot(x1, x2):
    return np.vdot(x1, x2)


def _blocks(x1, x2):
    rank = builtins.max(np.ndim(x1), np.ndim(x2))
    sizes = ((1,) * (rank - np.ndim(x)) + np.shape(x) for x in (x1, x2))
    return tuple(n * m for n, m in zip(*sizes, strict=True))


@_operation(_blocks, tensors=2)
def kron(x1, x2):
    return np.kron(x1, x2)


@_operation(lambda x1, x2, *options, **named: _broadcast(x1, x2), tensors=2)
def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    return np.cross(x1, x2, axisa, axisb, axisc, axis)


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


@_composed
def cdist(x, y):
    """The distance of each row of x from each of y."""
    return sqrt(sum(square(expand_dims(x, -2) - expand_dims(y, -3)), -1))  # noqa: F821


# --- matrices -------------------------------------------------------------------------------------


def _square_matrices(x, **options):
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"x: expected square matrices, received shape {x.shape}")
    return x.shape


def _floats(x):
    """x, as float32 where it is neither that nor float64."""
    x = x if isinstance(x, Source) else np.asarray(x)
    return x if value_of(x).dtype.kind == "f" else x.astype(np.float32)


@_operation(_square_matrices, module="linalg")
def inv(x):
    return np.linalg.inv(_floats(x))


@_operation(lambda x: _square_matrices(x)[:-2], module="linalg")
def det(x):
    return np.linalg.det(_floats(x))


@_operation(lambda x: _square_matrices(x)[:-2], module="math")
def logdet(x):
    """The logarithm of the determinant of positive definite matrices."""
    return np.linalg.slogdet(_floats(x))[1]


@_operation(lambda x: [_square_matrices(x)[:-2]] * 2)
def slogdet(x):
    """The sign and the logarithm of the determinant."""
    return (*np.linalg.slogdet(_floats(x)),)


@_operation(_square_matrices, module="linalg")
def cholesky(x, upper=False):
    y = np.linalg.cholesky(_floats(x))
    return np.swapaxes(y, -1, -2) if upper else y


@_operation(_square_matrices, module="linalg")
def cholesky_inverse(x, upper=False):
    """The inverse of the matrix whose Cholesky factor is x."""
    y = np.linalg.inv(_floats(x))
    other = np.swapaxes(y, -1, -2)
    return np.matmul(y, other) if upper else np.matmul(other, y)


@_operation(lambda a, b: np.shape(b), module="linalg", tensors=2)
def solve(a, b):
    a, b = _floats(a), _floats(b)
    if b.ndim == a.ndim - 1:
        return np.squeeze(np.linalg.solve(a, b[..., None]), -1)
    return np.linalg.solve(a, b)


@_operation(lambda a, b, lower=False: np.shape(b), module="linalg", tensors=2)
def solve_triangular(a, b, lower=False):
    a, b = (np.tril if lower else np.triu)(_floats(a)), _floats(b)
    if b.ndim == a.ndim - 1:
        return np.squeeze(np.linalg.solve(a, b[..., None]), -1)
    return np.linalg.solve(a, b)


def _decomposition(name, function):
    """A function of numpy.linalg, which has no derivative here."""

    def made(x, *args, **options):
        y = function(_floats(x), *args, **options)
        return (*y,) if isinstance(y, tuple) else np.asarray(y)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"numpy.linalg.{name}; no derivative is known of it."
    globals()[name] = _function(made)


_decomposition("eig", np.linalg.eig)
_decomposition("eigh", np.linalg.eigh)
_decomposition("lstsq", lambda a, b, rcond=None: np.linalg.lstsq(a, b, rcond)[0])
_decomposition("matrix_rank", lambda x, tol=None: np.linalg.matrix_rank(x, tol))
_decomposition("pinv", lambda x, rcond=None: np.linalg.pinv(x, rcond))
_decomposition("qr", lambda x, mode="reduced": np.linalg.qr(x, mode))
_decomposition(
    "svd",
    lambda x, full_matrices=True, compute_uv=True: np.linalg.svd(x, full_matrices, compute_uv),
)


# --- of networks ----------------------------------------------------------------------------------


def _probabilities(p):
    return np.clip(p, 1e-7, 1 - 1e-7)


def _alike(target, output):
    if np.shape(target) != np.shape(output):
        raise ValueError(
            f"target and output: expected the same shape, received {np.shape(target)}, "
            f"{np.shape(output)}"
        )
    return output.shape


@_operation(lambda target, output, **options: _alike(target, output), module="nn", tensors=2)
def binary_crossentropy(target, output, from_logits=False):
    """That of each number."""
    target, output = _floats(target), _floats(output)
    _alike(target, output)
    if from_logits:
        return activations.softplus(output) - target * output
    p = _probabilities(output)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def _but_axis(target, output, from_logits=False, axis=-1):
    return tuple(n for at, n in enumerate(output.shape) if at != axis % output.ndim)


@_operation(_but_axis, module="nn", tensors=2)
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    target, output = _floats(target), _floats(output)
    _alike(target, output)
    if from_logits:
        return -np.sum(target * activations.log_softmax(output, axis=axis), axis)
    p = _probabilities(output / np.sum(output, axis, keepdims=True))
    return -np.sum(target * np.log(p), axis)


@_operation(_but_axis, module="nn", tensors=2)
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """The same of class numbers."""
    output = _floats(output)
    target = np.asarray(value_of(target)).astype(np.int64)
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = target[..., 0]
    if target.shape != _but_axis(target, output, axis=axis):
        raise ValueError(
            f"target: expected the shape of output without axis {axis}, received {target.shape} "
            f"for {output.shape}"
        )
    logits = output if from_logits else np.log(_probabilities(output))
    chosen = np.expand_dims(target, axis)
    found = np.take_along_axis(activations.log_softmax(logits, axis=axis), chosen, axis)
    return -np.squeeze(found, axis)


def _rank(x):
    return len(x.shape) if is_symbolic(x) else np.ndim(value_of(x))


@_composed
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """x of mean 0 and variance 1 along the axis of channels, by these, times scale plus offset."""
    rank = _rank(x)
    sizes = [-1 if at == axis % rank else 1 for at in range(rank)]
    factor = rsqrt(reshape(variance, sizes) + epsilon)  # noqa: F821
    y = (x - reshape(mean, sizes)) * (factor if scale is None else factor * reshape(scale, sizes))
    return y if offset is None else y + reshape(offset, sizes)


def _over(axis, rank):
    """The axes from this one on, or this list of them."""
    return tuple(range(axis % rank, rank)) if np.ndim(axis) == 0 else _axes(axis)


@_composed
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None):
    """x of mean 0 and variance 1 over the axis and those after it, times gamma plus beta."""
    axes = _over(axis, _rank(x))
    apart = x - mean(x, axes, keepdims=True)
    y = apart * rsqrt(  # noqa: F821
        mean(square(apart), axes, keepdims=True) + (1e-7 if epsilon is None else epsilon)  # noqa: F821
    )
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


@_composed
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """x over the root of the mean of its squares over the axis and those after it, times scale."""
    axes = _over(axis, _rank(x))
    epsilon = 1e-7 if epsilon is None else epsilon
    y = x * rsqrt(mean(square(x), axes, keepdims=True) + epsilon)  # noqa: F821
    return y if scale is None else y * scale


@_composed
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    """Attention of arrays of shape (batch, length, heads, features): softmax(q k * scale + bias) v,
    where mask and is_causal allow it."""
    if attn_logits_soft_cap is not None:
        raise ValueError("attn_logits_soft_cap: expected None")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = einsum("btnh,bsnh->bnts", query * scale, key)
    if bias is not None:
        scores = scores + bias
    if is_causal:
        lengths = query.shape[1], key.shape[1]
        before = np.tril(np.ones(lengths, bool))[None, None]
        mask = before if mask is None else logical_and(mask, before)  # noqa: F821
    if mask is not None:
        scores = where(mask, scores, -0.7 * float(np.finfo(np.float32).max))
    return einsum("bnts,bsnh->btnh", softmax(scores, -1), value)


@_composed
def psnr(x1, x2, max_val):
    """The ratio of max_val to the error between two arrays, in decibels."""
    error = mean(square(x1 - x2))  # noqa: F821
    return 20 * math.log10(max_val) - 10 * log10(error)  # noqa: F821


# --- new arrays -----------------------------------------------------------------------------------


def _float(dtype):
    return np.dtype(dtype or "float32")


@_function
def zeros(shape, dtype=None):
    return np.zeros(shape, _float(dtype))


@_function
def ones(shape, dtype=None):
    return np.ones(shape, _float(dtype))


@_function
def empty(shape, dtype=None):
    return np.zeros(shape, _float(dtype))


@_function
def full(shape, fill_value, dtype=None):
    return np.full(shape, value_of(fill_value), _float(dtype))


@_function
def eye(N, M=None, k=0, dtype=None):
    return np.eye(N, M, k, _float(dtype))


@_function
def identity(n, dtype=None):
    return np.eye(n, dtype=_float(dtype))


@_function
def tri(N, M=None, k=0, dtype=None):
    return np.tri(N, M, k, _float(dtype))


@_function
def arange(start, stop=None, step=None, dtype=None):
    """int32 of whole numbers, else float32."""
    start, stop, step = (part if part is None else value_of(part) for part in (start, stop, step))
    begin, end = (0, start) if stop is None else (start, stop)
    return np.arange(begin, end, 1 if step is None else step, dtype)


@_function
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    return np.linspace(start, stop, num, endpoint, retstep, dtype, axis)


@_function
def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    return np.logspace(start, stop, num, endpoint, base, dtype, axis)


@_function
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    return np.geomspace(start, stop, num, endpoint, dtype, axis)


@_function
def vander(x, N=None, increasing=False):
    """The powers of each number, in columns."""
    powers = np.arange(np.size(x) if N is None else N)
    return np.power(x[:, None], powers if increasing else powers[::-1])


def _window_function(name):
    function = getattr(np, name)

    def made(x, *beta):
        return function(int(value_of(x)), *beta).astype(np.float32)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"numpy.{name}."
    globals()[name] = _function(made)


for _name in ("bartlett", "blackman", "hamming", "hanning", "kaiser"):
    _window_function(_name)


# --- of tensors -----------------------------------------------------------------------------------


@_composed
def shape(x):
    """The shape, None where free."""
    return tuple(x.shape) if is_symbolic(x) else np.shape(value_of(x))


@_composed
def ndim(x):
    return len(shape(x))


@_composed
def size(x):
    """How many numbers there are."""
    _only_arrays("size", [x])
    return as_array(np.asarray(np.size(value_of(x)), np.int32))


@_composed
def dtype(x):
    """The name of the dtype."""
    return np.dtype(x.dtype).name


@_composed
def is_tensor(x):
    """Is x an array of fastrnn, a weight or the output of a layer?"""
    return is_symbolic(x) or isinstance(x, (Array, Source))


@_composed
def convert_to_numpy(x):
    """x as an array of NumPy's alone."""
    _only_arrays("convert_to_numpy", [x])
    return np.array(value_of(taken(x)))


# --- loops ----------------------------------------------------------------------------------------
# In Python, step by step; what takes part in a recording stays in it.


def _tensors(structure):
    """With an array in the place of each number."""
    numbers = (int, float, np.generic)
    return _each(lambda x: convert_to_tensor(x) if isinstance(x, numbers) else x, structure)


def _each(function, structure, *others):
    """function of each leaf of a structure, and of those in its place in the others."""
    if isinstance(structure, dict):
        return {k: _each(function, v, *(o[k] for o in others)) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        parts = [_each(function, *parts) for parts in zip(structure, *others, strict=True)]
        return (
            type(structure)(parts) if type(structure) in (list, tuple) else type(structure)(*parts)
        )
    return function(structure, *others)


def _first(structure):
    while isinstance(structure, (list, tuple, dict)):
        structure = next(iter(structure.values() if isinstance(structure, dict) else structure))
    return structure


@_composed
def cond(pred, true_fn, false_fn):
    """true_fn() where pred, a single truth, holds, else false_fn()."""
    if is_symbolic(pred):
        raise ValueError(
            "cond: expected an array, received the output of a layer; where(condition, x1, x2) "
            "chooses for each number"
        )
    return true_fn() if bool(value_of(pred)) else false_fn()


@_composed
def switch(index, branches, *operands):
    """The branch of this number, of the operands."""
    _only_arrays("switch", [index])
    return branches[int(np.clip(value_of(index), 0, len(branches) - 1))](*operands)


@_composed
def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """loop_vars after body(*loop_vars), over and over while cond(*loop_vars) holds."""
    single = not isinstance(loop_vars, (list, tuple))
    found = _tensors((loop_vars,) if single else tuple(loop_vars))
    _only_arrays("while_loop", found)
    count = 0
    while bool(value_of(cond(*found))) and count != maximum_iterations:
        step = body(*found)
        found = _tensors((step,) if not isinstance(step, (list, tuple)) else tuple(step))
        count += 1
    return found[0] if single else type(loop_vars)(found)


@_composed
def fori_loop(lower, upper, body_fun, init_val):
    """init_val after body_fun(i, value) for each i from lower to upper."""
    value = init_val
    _only_arrays("fori_loop", [lower, upper])
    for i in range(int(value_of(lower)), int(value_of(upper))):
        value = body_fun(convert_to_tensor(i), value)
    return _tensors(value)


@_composed
def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    """The last carry, and all y stacked, of carry, y = f(carry, x) for each x of xs in turn."""
    _only_arrays("scan", [_first(xs)])
    xs = _each(convert_to_tensor, xs) if xs is not None else None
    count = len(_first(xs)) if length is None else int(length)
    carry, found = _tensors(init), []
    for at in reversed(range(count)) if reverse else range(count):
        carry, y = f(carry, None if xs is None else _each(lambda x: x[at], xs))  # noqa: B023
        found.append(y)
    if reverse:
        found.reverse()
    if not found or found[0] is None:
        return carry, None
    return carry, _each(lambda *parts: stack(parts), *found)


@_composed
def map(f, xs):  # noqa: A001
    """f of each of xs (or of the parts of its structure), stacked."""
    _only_arrays("map", [_first(xs)])
    xs = _each(convert_to_tensor, xs)
    found = [f(_each(lambda x: x[at], xs)) for at in range(len(_first(xs)))]  # noqa: B023
    return _each(lambda *parts: stack(parts), *found)


@_composed
def vectorized_map(function, elements):
    """The same as map."""
    return map(function, elements)


@_composed
def vectorize(pyfunc, *, excluded=None, signature=None):
    """A function that maps pyfunc over the numbers of arrays, which are broadcast."""
    if excluded is not None or signature is not None:
        raise ValueError(f"excluded, signature: expected None, received {excluded}, {signature}")

    def call(*args):
        _only_arrays("vectorize", args)
        outer = np.broadcast_shapes(*(shape(arg) for arg in args))
        flat = [ravel(broadcast_to(arg, outer)) for arg in args]
        found = [pyfunc(*parts) for parts in zip(*flat, strict=True)]
        return _each(lambda *parts: reshape(stack(parts), outer), *found)

    return call


@_composed
def associative_scan(f, elems, reverse=False, axis=0):
    """All results of f(result so far, next) along axis."""
    _only_arrays("associative_scan", [_first(elems)])
    elems = _each(convert_to_tensor, elems)
    count = shape(_first(elems))[axis]
    order = [*range(count)][:: -1 if reverse else 1]
    parts = [_each(lambda x: take(x, [at], axis), elems) for at in order]  # noqa: B023
    found = parts[:1]
    for part in parts[1:]:
        found.append(f(found[-1], part))
    return _each(lambda *each: concatenate(each[:: -1 if reverse else 1], axis), *found)


@_composed
def custom_gradient(f):
    """f with the way back that it gives: y, grad = f(*args), where grad(dy) are the derivatives."""

    @functools.wraps(f)
    def call(*args, **kwargs):
        given = [of(arg) for arg in args]
        with not_recording():
            y, way = f(*(as_array(value_of(arg)) for arg in given), **kwargs)
        places = [n for n, x in enumerate(given) if isinstance(x, Source) and x.takes_part()]

        def pull(g):
            found = way(as_array(np.asarray(g)))
            found = found if isinstance(found, (list, tuple)) else [found]
            return [None if found[n] is None else np.asarray(value_of(found[n])) for n in places]

        if not places:
            return as_array(value_of(y))
        return Traced(np.asarray(value_of(y)), tuple(given[n] for n in places), pull)

    return call


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
LACKING = {
    **dict.fromkeys(
        ("adaptive_average_pool", "adaptive_max_pool", "average_pool", "conv", "conv_transpose",
         "depthwise_conv", "max_pool", "separable_conv"),
        "there are the layers Conv1D, Conv2D, MaxPooling1D and their like",
    ),
    **dict.fromkeys(
        ("angle", "conj", "conjugate", "imag", "isreal", "polar", "real", "view_as_complex",
         "view_as_real"),
        "there are no complex numbers",
    ),
    **dict.fromkeys(("ctc_decode", "ctc_loss"), "there is layers.CRF for sequences of labels"),
    **dict.fromkeys(
        ("fft", "fft2", "ifft2", "irfft", "istft", "rfft", "stft"),
        "numpy.fft has its like, without a derivative",
    ),
    **dict.fromkeys(
        ("depth_to_space", "fold", "rearrange", "space_to_depth", "unfold"),
        "reshape and transpose do it",
    ),
    "image": "there are layers.Resizing, UpSampling2D and ZeroPadding2D",
    "jvp": "there is GradientTape",
    "lu_factor": "there are solve and solve_triangular",
    "view": "there is cast",
}  # fmt: skip
public(__name__, lacking=LACKING)
