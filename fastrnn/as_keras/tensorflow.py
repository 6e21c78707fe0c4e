"""What scripts use of TensorFlow itself: the functions of `tf`, `tf.math`, `tf.nn`, `tf.linalg`,
`tf.random` and `tf.debugging`, with TensorFlow's arguments, made of fastrnn.ops.

They take arrays, weights, what a GradientTape watches and, where fastrnn.ops does, the outputs of
layers. There is no graph: a `tf.function` runs as it is written."""

import contextlib
import functools
import sys
from typing import Any

import numpy as np

from fastrnn import ops, random
from fastrnn.arrays import Array, as_array
from fastrnn.as_keras import random_numbers
from fastrnn.as_keras.random_numbers import sizes
from fastrnn.layers.symbolic import is_symbolic
from fastrnn.tape import Source, Traced, of, taken, value_of
from fastrnn.variable import Variable

TABLES: dict[str, dict[str, Any]] = {
    "tensorflow": {},
    **{
        f"tensorflow.{name}": {}
        for name in ("compat.v1", "debugging", "dtypes", "errors", "linalg", "math", "nn", "random")
    },
}
LACKING = {
    "Graph": "functions and layers of tensorflow.keras run as they are called",
    "Module": "there are tensorflow.keras.layers.Layer and tensorflow.keras.Model",
    "RaggedTensor": "there is tensorflow.keras.utils.pad_sequences",
    "SparseTensor": "there are arrays",
    "autograph": "functions run as they are written",
    "compat": "there are tensorflow.compat.v1.keras and tensorflow.compat.v1.Session",
    "data": "fit takes arrays, generators and tensorflow.keras.utils.Sequence",
    "distribute": "networks run on the cores of one machine",
    "feature_column": "there are the preprocessing layers of tensorflow.keras.layers",
    "image": "there are tensorflow.keras.layers.Resizing and Rescaling",
    "io": "there are Python's files and tensorflow.keras.utils.get_file",
    "lite": "fastrnn.to_onnx and to_c export models",
    "placeholder": "there is tensorflow.keras.Input",
    "ragged": "there is tensorflow.keras.utils.pad_sequences",
    "saved_model": "model.save writes files of Keras",
    "signal": "numpy.fft has its like, without a derivative",
    "sparse": "there are arrays",
    "strings": "there are Python's and layers.TextVectorization",
    "summary": "there is tensorflow.keras.callbacks.TensorBoard",
    "train": "there are tensorflow.keras.optimizers and model.save_weights",
}


def _in(*modules, name=""):
    """A decorator: the function is in these modules of TensorFlow ("" for the topmost); name= is
    taken and of no effect."""

    def put(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            kwargs.pop("name", None)
            return function(*args, **kwargs)

        for module in modules:
            TABLES[f"tensorflow.{module}" if module else "tensorflow"][
                name or function.__name__
            ] = call
        return call

    return put


def _tensor(x):
    return x if is_symbolic(x) else ops.convert_to_tensor(x)


def _axes(axis):
    """Axes as numbers of Python's."""
    if axis is None:
        return None
    axis = value_of(axis)
    return int(axis) if np.ndim(axis) == 0 else tuple(int(a) for a in axis)


# --- types ----------------------------------------------------------------------------------------

TABLES["tensorflow"] |= {"DType": np.dtype, "newaxis": None}
TABLES["tensorflow.dtypes"]["DType"] = np.dtype
TABLES["tensorflow.errors"]["InvalidArgumentError"] = ValueError


class _OfTensors(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, (Array, Traced))


class Tensor(metaclass=_OfTensors):
    """For isinstance and annotations: what functions and layers give."""


TABLES["tensorflow"]["Tensor"] = Tensor


@_in("", "dtypes")
def as_dtype(type_value):
    return np.dtype(type_value)


@_in("", "dtypes")
def cast(x, dtype):
    return ops.cast(x, dtype)


@_in("", "dtypes")
def saturate_cast(value, dtype):
    return ops.saturate_cast(value, dtype)


# --- functions ------------------------------------------------------------------------------------


@_in("")
def function(func=None, **options):
    """func itself, which runs as it is written; options have no effect."""
    return (lambda given: given) if func is None else func


@_in("")
def custom_gradient(f):
    return ops.custom_gradient(f)


@_in("")
def executing_eagerly():
    return True


def _context(*args, **kwargs):
    """`with` it nothing changes."""
    return contextlib.nullcontext()


for _name in ("control_dependencies", "device", "name_scope"):
    TABLES["tensorflow"][_name] = _context


@_in("", name="print")
def _print(*inputs, output_stream=sys.stderr, summarize=3, sep=" ", end="\n"):
    parts = [value_of(of(x)) if isinstance(x, (Source, Array)) else x for x in inputs]
    with np.printoptions(edgeitems=summarize):
        print(*(np.asarray(x) if isinstance(x, Array) else x for x in parts), sep=sep, end=end,
              file=output_stream)  # fmt: skip


@_in("")
def get_static_value(tensor, partial=False):
    return None if is_symbolic(tensor) else ops.convert_to_numpy(tensor)


# --- new arrays -----------------------------------------------------------------------------------


@_in("")
def is_tensor(x):
    return ops.is_tensor(x)


@_in("")
def identity(input):
    return input if is_symbolic(input) else ops.copy(input)


@_in("")
def stop_gradient(input):
    return ops.stop_gradient(input)


@_in("")
def zeros(shape, dtype="float32"):
    return ops.zeros(sizes(shape), dtype)


@_in("")
def ones(shape, dtype="float32"):
    return ops.ones(sizes(shape), dtype)


@_in("")
def fill(dims, value):
    value = _tensor(value)
    return ops.broadcast_to(value, sizes(dims))


@_in("")
def zeros_like(input, dtype=None):
    return ops.zeros_like(input, dtype)


@_in("")
def ones_like(input, dtype=None):
    return ops.ones_like(input, dtype)


@_in("", "linalg")
def eye(num_rows, num_columns=None, batch_shape=None, dtype="float32"):
    y = ops.eye(int(num_rows), None if num_columns is None else int(num_columns), dtype=dtype)
    return y if batch_shape is None else ops.broadcast_to(y, (*sizes(batch_shape), *y.shape))


@_in("", name="range")
def range_(start, limit=None, delta=1, dtype=None):
    start, limit, delta = (_scalar(part) for part in (start, limit, delta))
    return ops.arange(*((0, start) if limit is None else (start, limit)), delta, dtype)


def _scalar(x):
    return x if x is None else np.asarray(value_of(x)).item()


@_in("", name="linspace")
def linspace(start, stop, num, axis=0):
    return ops.linspace(start, stop, int(num), axis=axis)


@_in("")
def meshgrid(*args, indexing="xy"):
    return ops.meshgrid(*args, indexing=indexing)


@_in("")
def one_hot(indices, depth, on_value=None, off_value=None, axis=None, dtype=None):
    axis = -1 if axis is None else axis
    y = ops.one_hot(indices, int(value_of(depth)), axis, "float32")
    if on_value is None and off_value is None:
        return ops.cast(y, dtype) if dtype is not None else y
    on, off = (1 if on_value is None else on_value), (0 if off_value is None else off_value)
    kind = dtype or np.asarray(value_of(_tensor(on))).dtype
    return ops.cast(y * on + (1 - y) * off, kind)


@_in("")
def sequence_mask(lengths, maxlen=None, dtype="bool"):
    lengths = ops.convert_to_numpy(lengths)
    maxlen = int(lengths.max(initial=0)) if maxlen is None else int(value_of(maxlen))
    return as_array((np.arange(maxlen) < lengths[..., None]).astype(np.dtype(dtype)))


# --- shapes ---------------------------------------------------------------------------------------


@_in("")
def shape(input, out_type="int32"):
    if is_symbolic(input):
        raise ValueError(
            "tf.shape: expected an array, received the output of a layer, whose batch is free; "
            "tf.reshape(x, (-1, n)) goes without it, or put it into the `call` of a layer"
        )
    return as_array(np.array(ops.shape(of(input)), np.dtype(out_type)))


@_in("")
def size(input, out_type="int32"):
    return ops.cast(ops.size(input), out_type)


@_in("")
def rank(input):
    return as_array(np.array(ops.ndim(of(input)), np.int32))


@_in("")
def ensure_shape(x, shape):
    value = of(x)
    value.set_shape(shape)
    return x


@_in("")
def reshape(tensor, shape):
    return ops.reshape(tensor, sizes(shape))


@_in("")
def expand_dims(input, axis):
    return ops.expand_dims(input, _axes(axis))


@_in("")
def squeeze(input, axis=None):
    axis = None if isinstance(axis, (list, tuple)) and not axis else axis
    return ops.squeeze(input, _axes(axis))


@_in("", "linalg")
def transpose(a, perm=None, conjugate=False):
    return ops.transpose(a, None if perm is None else sizes(perm))


@_in("linalg")
def matrix_transpose(a, conjugate=False):
    return ops.swapaxes(a, -1, -2)


@_in("")
def broadcast_to(input, shape):
    return ops.broadcast_to(input, sizes(shape))


@_in("")
def concat(values, axis):
    return ops.concatenate(values, int(axis))


@_in("")
def stack(values, axis=0):
    return ops.stack(values, axis)


@_in("")
def unstack(value, num=None, axis=0):
    return ops.unstack(value, num, axis)


@_in("")
def split(value, num_or_size_splits, axis=0, num=None):
    parts = value_of(num_or_size_splits)
    if np.ndim(parts) == 0:
        return ops.split(value, int(parts), axis)
    total, parts = ops.shape(of(value))[axis], [int(part) for part in parts]
    if -1 in parts:
        parts[parts.index(-1)] = total - sum(part for part in parts if part != -1)
    return ops.split(value, [int(end) for end in np.cumsum(parts)[:-1]], axis)


@_in("")
def tile(input, multiples):
    return ops.tile(input, sizes(multiples))


@_in("")
def repeat(input, repeats, axis=None):
    return ops.repeat(input, repeats, axis)


@_in("")
def pad(tensor, paddings, mode="CONSTANT", constant_values=0):
    pairs = tuple(tuple(int(n) for n in pair) for pair in np.asarray(value_of(paddings)))
    mode = mode.lower()
    if mode == "constant":
        return ops.pad(tensor, pairs, constant_values=constant_values or None)
    return ops.pad(tensor, pairs, mode)


@_in("", name="slice")
def slice_(input_, begin, size):
    return ops.slice(input_, sizes(begin), sizes(size))


@_in("")
def strided_slice(input_, begin, end, strides=None):
    strides = [1] * len(begin) if strides is None else strides
    return _tensor(input_)[tuple(map(slice, sizes(begin), sizes(end), sizes(strides)))]


@_in("")
def reverse(tensor, axis):
    return ops.flip(tensor, _axes(axis))


@_in("")
def roll(input, shift, axis):
    return ops.roll(input, _axes(shift), _axes(axis))


@_in("")
def gather(params, indices, validate_indices=None, axis=None, batch_dims=0):
    if batch_dims == 0:
        return ops.take(params, indices, 0 if axis is None else axis)
    if batch_dims != 1 or axis not in (None, 1):
        raise ValueError(f"batch_dims: expected 0, or 1 with axis 1, received {batch_dims}, {axis}")
    rows = zip(ops.unstack(params), ops.unstack(indices), strict=True)
    return ops.stack([ops.take(row, place, 0) for row, place in rows])


@_in("")
def gather_nd(params, indices, batch_dims=0):
    if batch_dims != 0:
        raise ValueError(f"batch_dims: expected 0, received {batch_dims}")
    places = np.moveaxis(ops.convert_to_numpy(indices).astype(np.int64), -1, 0)
    return _tensor(params)[tuple(places)]


@_in("")
def scatter_nd(indices, updates, shape):
    return ops.scatter(indices, updates, sizes(shape))


@_in("")
def tensor_scatter_nd_update(tensor, indices, updates):
    return ops.scatter_update(tensor, indices, updates)


@_in("")
def tensor_scatter_nd_add(tensor, indices, updates):
    return ops.scatter_update(tensor, indices, updates, reduction="add")


@_in("")
def boolean_mask(tensor, mask, axis=None):
    mask, ahead = ops.convert_to_numpy(mask).astype(bool), 0 if axis is None else int(axis)
    return _tensor(tensor)[(slice(None),) * ahead + (mask,)]


@_in("")
def where(condition, x=None, y=None):
    if x is None and y is None:
        return as_array(np.argwhere(ops.convert_to_numpy(condition)))
    return ops.where(condition, x, y)


@_in("")
def unique(x, out_idx="int32"):
    values, first, places = np.unique(ops.convert_to_numpy(ops.array(x)), True, True)
    order = np.argsort(first)
    return as_array(values[order]), as_array(np.argsort(order)[places].astype(np.dtype(out_idx)))


@_in("")
def sort(values, axis=-1, direction="ASCENDING"):
    y = ops.sort(values, axis)
    return ops.flip(y, axis) if direction == "DESCENDING" else y


@_in("")
def argsort(values, axis=-1, direction="ASCENDING", stable=False):
    return ops.argsort(ops.negative(values) if direction == "DESCENDING" else values, axis)


@_in("")
def searchsorted(sorted_sequence, values, side="left", out_type="int32"):
    return ops.cast(ops.searchsorted(sorted_sequence, values, side), out_type)


# --- arithmetic -----------------------------------------------------------------------------------


def _renamed(places, name, function, first="x", second="y", other=""):
    """A function of ops under TensorFlow's name, with TensorFlow's names of arguments; `other` is
    the name in the topmost module where it differs."""

    def call(*args, **kwargs):
        kwargs.pop("name", None)
        for own in (first, second):
            if own in kwargs:
                args = (*args, kwargs.pop(own))
        return function(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = function.__doc__
    for place in places:
        TABLES[f"tensorflow.{place}" if place else "tensorflow"][(not place and other) or name] = (
            call
        )


for _name in (
    "abs", "add", "divide", "equal", "exp", "floor", "greater", "greater_equal", "less",
    "less_equal", "logical_and", "logical_not", "logical_or", "maximum", "minimum", "multiply",
    "not_equal", "pow", "round", "sigmoid", "sign", "sin", "cos", "tan", "sqrt", "square",
    "subtract", "tanh", "sinh", "cosh",
):  # fmt: skip
    _renamed(("", "math"), _name, getattr(ops, _name))
for _name in (
    "ceil", "divide_no_nan", "erf", "erfc", "erfinv", "expm1", "log", "log1p", "log_sigmoid",
    "logical_xor", "mod", "reciprocal", "rsqrt", "softplus", "softsign",
):  # fmt: skip
    _renamed(("math",), _name, getattr(ops, _name))
for _name, _other in (
    ("acos", "arccos"), ("acosh", "arccosh"), ("asin", "arcsin"), ("asinh", "arcsinh"),
    ("atan", "arctan"), ("atan2", "arctan2"), ("atanh", "arctanh"), ("negative", "negative"),
    ("truediv", "true_divide"),
):  # fmt: skip
    _renamed(("", "math"), _name, getattr(ops, _other))
for _name, _other in (
    ("ceil", "ceil"), ("floordiv", "floor_divide"), ("floormod", "mod"), ("is_finite", "isfinite"),
    ("is_inf", "isinf"), ("is_nan", "isnan"), ("invert_permutation", "argsort"),
):  # fmt: skip
    _renamed(("math",), _name, getattr(ops, _other))
TABLES["tensorflow.math"]["bincount"] = ops.bincount


@_in("math")
def multiply_no_nan(x, y):
    return ops.where(ops.equal(y, 0), 0.0, ops.multiply(x, y))


@_in("math")
def xlogy(x, y):
    return ops.where(ops.equal(x, 0), 0.0, x * ops.log(ops.where(ops.equal(x, 0), 1.0, y)))


@_in("math")
def squared_difference(x, y):
    return ops.square(ops.subtract(x, y))


@_in("", "math")
def add_n(inputs):
    total = inputs[0]
    for part in inputs[1:]:
        total = ops.add(total, part)
    return total


@_in("", "math")
def cumsum(x, axis=0, exclusive=False, reverse=False):
    return _running(ops.cumsum, 0, x, axis, exclusive, reverse)


@_in("math")
def cumprod(x, axis=0, exclusive=False, reverse=False):
    return _running(ops.cumprod, 1, x, axis, exclusive, reverse)


def _running(function, start, x, axis, exclusive, reverse):
    x = ops.flip(x, axis) if reverse else _tensor(x)
    if exclusive:
        size = x.shape[axis]
        first = ops.take(ops.full_like(x, start), [0], axis)
        x = ops.take(ops.concatenate([first, x], axis), np.arange(size), axis)
    y = function(x, axis)
    return ops.flip(y, axis) if reverse else y


@_in("")
def clip_by_value(t, clip_value_min, clip_value_max):
    if any(map(is_symbolic, (clip_value_min, clip_value_max))):
        return ops.minimum(ops.maximum(t, clip_value_min), clip_value_max)
    return ops.clip(t, clip_value_min, clip_value_max)


@_in("")
def clip_by_norm(t, clip_norm, axes=None):
    norms = ops.sqrt(ops.sum(ops.square(t), _axes(axes), keepdims=True))
    return ops.multiply(t, ops.divide(clip_norm, ops.maximum(norms, clip_norm)))


@_in("", "linalg")
def global_norm(t_list):
    return ops.sqrt(add_n([ops.sum(ops.square(t)) for t in t_list if t is not None]))


@_in("")
def clip_by_global_norm(t_list, clip_norm, use_norm=None):
    norm = global_norm(t_list) if use_norm is None else use_norm
    factor = ops.divide(clip_norm, ops.maximum(norm, clip_norm))
    return [None if t is None else ops.multiply(t, factor) for t in t_list], norm


def _reduction(name, function, whole=False):
    def call(input_tensor, axis=None, keepdims=False):
        y = function(input_tensor, axis=_axes(axis), keepdims=keepdims)
        if whole and not is_symbolic(input_tensor):
            dtype = np.dtype(_tensor(input_tensor).dtype)
            return y if dtype.kind == "f" else ops.cast(ops.floor(y), dtype)
        return y

    call.__name__ = call.__qualname__ = f"reduce_{name}"
    call.__doc__ = function.__doc__
    top = ("",) if name not in ("std", "variance", "euclidean_norm") else ()
    _in(*top, "math")(call)


for _name in ("all", "any", "max", "min", "prod", "std", "sum", "logsumexp"):
    _reduction(_name, getattr(ops, _name))
_reduction("mean", ops.mean, whole=True)
_reduction("variance", ops.var)
_reduction("euclidean_norm", ops.norm)


@_in("", "math")
def argmax(input, axis=0, output_type="int64"):
    return ops.cast(ops.argmax(input, 0 if axis is None else int(axis)), output_type)


@_in("", "math")
def argmin(input, axis=0, output_type="int64"):
    return ops.cast(ops.argmin(input, 0 if axis is None else int(axis)), output_type)


@_in("math")
def count_nonzero(input, axis=None, keepdims=None, dtype="int64"):
    return ops.sum(ops.cast(ops.not_equal(input, 0), dtype), _axes(axis), bool(keepdims))


@_in("math", "nn")
def top_k(input, k=1, sorted=True):
    return ops.top_k(input, int(k), sorted)


@_in("math", "nn")
def in_top_k(targets, predictions, k):
    return ops.in_top_k(targets, predictions, int(k))


for _name in ("sum", "max", "min", "prod"):
    _renamed(("math",), f"segment_{_name}", getattr(ops, f"segment_{_name}"), "data", "segment_ids")
    _renamed(("math",), f"unsorted_segment_{_name}", getattr(ops, f"segment_{_name}"), "data",
             "segment_ids")  # fmt: skip


@_in("math")
def confusion_matrix(labels, predictions, num_classes=None, weights=None, dtype="int32"):
    labels, predictions = (ops.convert_to_numpy(x).astype(int) for x in (labels, predictions))
    most = max(labels.max(initial=-1), predictions.max(initial=-1)) + 1
    table = np.zeros([most if num_classes is None else int(num_classes)] * 2, np.dtype(dtype))
    np.add.at(table, (labels, predictions), 1 if weights is None else value_of(weights))
    return as_array(table)


# --- products and matrices ------------------------------------------------------------------------


@_in("", "linalg")
def matmul(a, b, transpose_a=False, transpose_b=False, **options):
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


@_in("linalg")
def matvec(a, b, transpose_a=False):
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.squeeze(ops.matmul(a, ops.expand_dims(b, -1)), -1)


@_in("", "linalg")
def tensordot(a, b, axes):
    axes = axes if np.ndim(axes) == 0 else [[*np.atleast_1d(part).tolist()] for part in axes]
    return ops.tensordot(a, b, axes)


@_in("", "linalg")
def einsum(equation, *inputs, **options):
    return ops.einsum(equation, *inputs)


@_in("", "linalg")
def norm(tensor, ord="euclidean", axis=None, keepdims=False):
    if axis is None and ord not in ("euclidean", 2, "fro"):
        tensor = ops.ravel(tensor)
    elif ord in (2, "fro") and np.ndim(axis) == 0:
        ord = "euclidean"  # noqa: A001
    return ops.norm(tensor, ord, _axes(axis), keepdims)


@_in("linalg")
def band_part(input, num_lower, num_upper):
    y = input if num_lower < 0 else ops.triu(input, -int(num_lower))
    return y if num_upper < 0 else ops.tril(y, int(num_upper))


@_in("linalg")
def diag(diagonal, k=0):
    y = _tensor(diagonal)
    if k != 0 or len(y.shape) == 1:
        return ops.diag(y, k)
    return ops.expand_dims(y, -1) * np.eye(y.shape[-1], dtype=np.float32)


@_in("linalg")
def diag_part(input, k=0):
    return ops.diagonal(input, k, -2, -1)


@_in("linalg")
def trace(x):
    return ops.trace(x, 0, -2, -1)


for _name in ("cholesky", "det", "eigh", "inv", "logdet", "pinv", "qr", "slogdet"):
    TABLES["tensorflow.linalg"][_name] = getattr(ops, _name)


@_in("linalg")
def solve(matrix, rhs, adjoint=False):
    return ops.solve(ops.swapaxes(matrix, -1, -2) if adjoint else matrix, rhs)


# --- of networks ----------------------------------------------------------------------------------

for _name in ("elu", "log_sigmoid", "relu", "relu6", "selu", "sigmoid", "softplus", "softsign",
              "tanh"):  # fmt: skip
    _renamed(("nn",), _name, getattr(ops, _name), "features", "x")


@_in("nn", "math")
def softmax(logits, axis=-1):
    return ops.softmax(logits, -1 if axis is None else axis)


@_in("nn", "math")
def log_softmax(logits, axis=-1):
    return ops.log_softmax(logits, -1 if axis is None else axis)


@_in("nn")
def gelu(features, approximate=False):
    return ops.gelu(features, approximate)


@_in("nn")
def leaky_relu(features, alpha=0.2):
    return ops.leaky_relu(features, alpha)


@_in("nn")
def silu(features, beta=1.0):
    return ops.multiply(features, ops.sigmoid(ops.multiply(features, beta)))


TABLES["tensorflow.nn"]["swish"] = silu


@_in("nn")
def dropout(x, rate, noise_shape=None, seed=None):
    return random_numbers.dropout(x, rate, noise_shape, _generator(seed))


@_in("nn", "math")
def l2_normalize(x, axis=None, epsilon=1e-12):
    squares = ops.sum(ops.square(x), _axes(axis), keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(squares, epsilon)))


@_in("nn")
def l2_loss(t):
    return ops.sum(ops.square(t)) / 2


@_in("nn")
def moments(x, axes, shift=None, keepdims=False):
    return ops.moments(x, _axes(axes), keepdims)


@_in("nn")
def batch_normalization(x, mean, variance, offset, scale, variance_epsilon):
    factor = ops.rsqrt(ops.add(variance, variance_epsilon))
    y = (x - mean) * (factor if scale is None else factor * scale)
    return y if offset is None else y + offset


@_in("nn")
def bias_add(value, bias, data_format=None):
    return ops.add(value, bias)


@_in("nn")
def embedding_lookup(params, ids, max_norm=None):
    return ops.take(params, ids, 0)


@_in("nn")
def softmax_cross_entropy_with_logits(labels, logits, axis=-1):
    return ops.categorical_crossentropy(labels, logits, from_logits=True, axis=axis)


@_in("nn")
def sparse_softmax_cross_entropy_with_logits(labels, logits):
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


@_in("nn")
def sigmoid_cross_entropy_with_logits(labels=None, logits=None):
    return ops.binary_crossentropy(labels, logits, from_logits=True)


@_in("nn")
def weighted_cross_entropy_with_logits(labels=None, logits=None, pos_weight=1.0):
    weight = 1 + (pos_weight - 1) * labels
    return (1 - labels) * logits + weight * ops.softplus(ops.negative(logits))


# --- random numbers -------------------------------------------------------------------------------

_of_seeds: dict[tuple[int, int], np.random.Generator] = {}


def _generator(seed):
    """That of a seed, which goes on from call to call until the seed of all is set."""
    if seed is None:
        return random.generator()
    key = random._restarts, int(seed)
    return _of_seeds.setdefault(key, random.generator(int(seed)))


@_in("random", name="normal")
def _normal(shape, mean=0.0, stddev=1.0, dtype="float32", seed=None):
    return random_numbers.normal(shape, mean, stddev, dtype, _generator(seed))


@_in("random", name="truncated_normal")
def _truncated_normal(shape, mean=0.0, stddev=1.0, dtype="float32", seed=None):
    return random_numbers.truncated_normal(shape, mean, stddev, dtype, _generator(seed))


@_in("random", name="uniform")
def _uniform(shape, minval=0, maxval=None, dtype="float32", seed=None):
    whole = np.dtype(dtype).kind in "iu"
    if whole and maxval is None:
        raise ValueError(f"maxval: expected a number for dtype {dtype}, received None")
    draw = random_numbers.randint if whole else random_numbers.uniform
    return draw(shape, minval, 1 if maxval is None else maxval, dtype, _generator(seed))


@_in("random", name="shuffle")
def _shuffle(value, seed=None):
    return random_numbers.shuffle(value, 0, _generator(seed))


@_in("random", name="categorical")
def _categorical(logits, num_samples, dtype="int64", seed=None):
    return random_numbers.categorical(logits, num_samples, dtype or "int64", _generator(seed))


@_in("random", name="gamma")
def _gamma(shape, alpha, beta=1.0, dtype="float32", seed=None):
    return random_numbers.gamma(shape, alpha, dtype, _generator(seed)) / np.float32(beta)


for _name in ("normal", "uniform"):
    TABLES["tensorflow.compat.v1"][f"random_{_name}"] = TABLES["tensorflow.random"][_name]


# --- loops ----------------------------------------------------------------------------------------


@_in("")
def cond(pred, true_fn=None, false_fn=None):
    return ops.cond(pred, true_fn, false_fn)


@_in("")
def switch_case(branch_index, branch_fns, default=None):
    branches = dict(branch_fns) if isinstance(branch_fns, dict) else dict(enumerate(branch_fns))
    chosen = branches.get(int(value_of(branch_index)), default or branches[max(branches)])
    return chosen()


@_in("")
def while_loop(cond, body, loop_vars, shape_invariants=None, parallel_iterations=10,
               back_prop=True, swap_memory=False, maximum_iterations=None):  # fmt: skip
    return ops.while_loop(cond, body, loop_vars, maximum_iterations)


@_in("")
def map_fn(fn, elems, dtype=None, parallel_iterations=None, back_prop=True, swap_memory=False,
           infer_shape=True, fn_output_signature=None):  # fmt: skip
    return ops.map(fn, elems)


@_in("")
def vectorized_map(fn, elems, fallback_to_while_loop=True, warn=True):
    return ops.map(fn, elems)


@_in("")
def scan(fn, elems, initializer=None, parallel_iterations=10, back_prop=True, swap_memory=False,
         infer_shape=True, reverse=False):  # fmt: skip
    """All results of fn(result so far, next), stacked."""

    def step(carry, x):
        y = fn(carry, x)
        return y, y

    if initializer is not None:
        return ops.scan(step, initializer, elems, reverse=reverse)[1]
    if isinstance(elems, (list, tuple, dict)) and not np.ndim(value_of(elems[0])) == 0:
        raise ValueError("initializer: expected one for several elems, received None")
    elems = _tensor(elems)
    first, rest = (elems[-1], elems[:-1]) if reverse else (elems[0], elems[1:])
    _, found = ops.scan(step, first, rest, reverse=reverse)
    found = [] if found is None else [found]
    first = ops.expand_dims(first, 0)
    return ops.concatenate([*found, first] if reverse else [first, *found], 0)


class TensorArray:
    """Tensors by number, as loops write and read them."""

    def __init__(self, dtype="float32", size=0, dynamic_size=None, clear_after_read=None,
                 tensor_array_name=None, handle=None, flow=None, infer_shape=True,
                 element_shape=None, colocate_with_first_write_call=True, name=None):  # fmt: skip
        self.dtype, self.dynamic_size = np.dtype(dtype), bool(dynamic_size)
        self.element_shape = element_shape
        self._parts: list[Any] = [None] * int(value_of(size))

    def write(self, index, value, name=None):
        index = int(value_of(index))
        if index >= len(self._parts):
            if not self.dynamic_size:
                raise ValueError(
                    f"index: expected one below {len(self._parts)}, received {index}; "
                    "dynamic_size=True lets a TensorArray grow"
                )
            self._parts += [None] * (index + 1 - len(self._parts))
        self._parts[index] = ops.convert_to_tensor(value, self.dtype)
        return self

    def read(self, index, name=None):
        part = self._parts[int(value_of(index))]
        if part is None:
            raise ValueError(f"index: expected one that was written, received {index}")
        return part

    def _all(self):
        known = next((part for part in self._parts if part is not None), None)
        if known is None:
            raise ValueError("TensorArray: expected a tensor that was written, there is none")
        return [ops.zeros_like(known) if part is None else part for part in self._parts]

    def stack(self, name=None):
        return ops.stack(self._all())

    def concat(self, name=None):
        return ops.concatenate(self._all(), 0)

    def gather(self, indices, name=None):
        return ops.stack([self.read(index) for index in np.asarray(value_of(indices))])

    def unstack(self, value, name=None):
        self._parts = [ops.cast(part, self.dtype) for part in ops.unstack(value)]
        return self

    def split(self, value, lengths, name=None):
        self._parts = split(value, lengths)
        return self

    def size(self, name=None):
        return as_array(np.array(len(self._parts), np.int32))

    def identity(self):
        return self

    def mark_used(self):
        pass

    def close(self, name=None):
        self._parts = []


TABLES["tensorflow"]["TensorArray"] = TensorArray


# --- checks ---------------------------------------------------------------------------------------


def _assertion(name, holds, says):
    def call(x, y=None, message=None, summarize=None):
        given = [ops.convert_to_numpy(taken(part)) for part in ((x,) if y is None else (x, y))]
        if not np.all(holds(*given)):
            shown = " and ".join(f"{part!r:.80}" for part in given)
            raise ValueError(
                f"{message + ': ' if message else ''}expected {says}, received {shown}"
            )

    call.__name__ = call.__qualname__ = f"assert_{name}"
    call.__doc__ = f"Raise ValueError unless {says}."
    _in("debugging")(call)


_assertion("equal", np.equal, "x == y")
_assertion("none_equal", np.not_equal, "x != y")
_assertion("greater", np.greater, "x > y")
_assertion("greater_equal", np.greater_equal, "x >= y")
_assertion("less", np.less, "x < y")
_assertion("less_equal", np.less_equal, "x <= y")
_assertion("near", lambda x, y: np.isclose(x, y, 1e-5, 1e-5), "x near y")
_assertion("negative", lambda x: x < 0, "x < 0")
_assertion("non_negative", lambda x: x >= 0, "x >= 0")
_assertion("positive", lambda x: x > 0, "x > 0")
_assertion("all_finite", np.isfinite, "finite numbers")
TABLES["tensorflow"]["assert_equal"] = TABLES["tensorflow.debugging"]["assert_equal"]


@_in("debugging")
def assert_rank(x, rank, message=None):
    """Raise ValueError unless x has so many axes."""
    if ops.ndim(of(x)) != int(value_of(rank)):
        raise ValueError(f"{message or 'x'}: expected rank {rank}, received {ops.ndim(of(x))}")


@_in("debugging")
def assert_shapes(shapes, data=None, summarize=None, message=None):
    """Raise ValueError unless each x of pairs (x, sizes) has those sizes; a letter stands for one
    size all over."""
    named: dict[str, int] = {}
    for x, expected in shapes.items() if isinstance(shapes, dict) else shapes:
        found = ops.shape(of(x))
        fits = len(found) == len(expected) and all(
            size in (None, n) or (isinstance(size, str) and named.setdefault(size, n) == n)
            for n, size in zip(found, expected, strict=True)
        )
        if not fits:
            raise ValueError(f"{message or 'x'}: expected shape {expected}, received {found}")


@_in("debugging")
def check_numerics(tensor, message):
    """The tensor; raises ValueError for NaN and infinity."""
    if not np.isfinite(value_of(of(tensor))).all():
        raise ValueError(f"{message}: expected finite numbers, received NaN or infinity")
    return tensor


TABLES["tensorflow"] |= {"Variable": Variable}
