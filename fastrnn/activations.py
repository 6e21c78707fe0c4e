"""Activation functions and their derivatives, as keras.activations.

A function takes an array and returns one of the same floating dtype (anything else counts as
float32). Its attribute `gradient(x, y, dy, **options)` returns the gradient with respect to the
input x from the output y and the gradient dy of the output, under the function's own options. For
users' functions without one fastrnn.tape finds it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastrnn._public import public

from . import _engine
from .tape import Source, Watched, activated, activated_back, derivative_of_users, of
from .tensors import as_tensor
from .utils import deserialize_object, serialize_object

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


__all__ = [
    "celu", "deserialize", "elu", "exponential", "gelu", "get", "glu", "hard_shrink",
    "hard_sigmoid", "hard_sigmoid_keras2", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "serialize",
    "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus",
    "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink", "threshold",
]  # fmt: skip
public(__name__)

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


_F = TypeVar("_F", bound=Callable[..., Any])
_TABLE: dict[str, Callable] = {}


# Which of them the engine does faster than NumPy where arrays are large.
SLOW = {"elu", "hard_sigmoid", "hard_sigmoid_keras2", "selu", "sigmoid", "softsign", "tanh"}


def _step(function: _F) -> _F:
    """A decorator of an activation: it is a step of the tape, and its result has numpy()."""

    code = _engine.ACTIVATIONS.get(function.__name__) if function.__name__ in SLOW else None

    @functools.wraps(function)
    def compute(x, *args, **options):
        y = None if code is None or args or options else activated(code, x)
        return function(x, *args, **options) if y is None else y

    @functools.wraps(function)
    def call(x, *args, **options):
        if not isinstance(x, (Source, Watched)):
            return as_tensor(compute(x, *args, **options))
        x = of(x)
        value = getattr(x, "value", x)
        y = as_tensor(compute(value, *args, **options))
        if not (isinstance(x, Source) and x.takes_part()):
            return y
        return x.then(y, lambda g: call.gradient(value, np.asarray(y), g, *args, **options))

    call.code = code  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def _gradient(fn: Callable) -> Callable:
    """Put `fn` into the table and make the function decorated its gradient."""
    _TABLE[fn.__name__] = fn

    def attach(gradient: Callable) -> Callable:
        code = getattr(fn, "code", None)

        def compute(x, y, dy, *args, **options):
            dx = None if code is None or args or options else activated_back(code, dy, y)
            return gradient(x, y, dy, *args, **options) if dx is None else dx

        fn.gradient = gradient if code is None else compute
        return gradient

    return attach


def _floating(x) -> np.ndarray:
    if isinstance(x, (np.ndarray, np.generic)) and np.issubdtype(x.dtype, np.floating):
        return np.asarray(x)
    return np.asarray(x, dtype=np.float32)


def _check_axis(x: np.ndarray, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"x: expected an axis {axis}, received shape {x.shape}")


def linear(x: ArrayLike) -> np.ndarray:
    """x itself."""
    return x


@_gradient(linear)
def _(x, y, dy):
    return dy


@_step
def relu(
    x: ArrayLike,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> np.ndarray:
    """x above `threshold`, cut at `max_value`; negative_slope * (x - threshold) below."""
    x = _floating(x)
    y = np.where(x > threshold, x, 0) if threshold else np.maximum(x, 0)
    if max_value is not None:
        y = np.clip(y, 0, max_value)
    if negative_slope:
        y = y + negative_slope * np.minimum(x - threshold, 0)
    return y


@_gradient(relu)
def _(x, y, dy, negative_slope=0.0, max_value=None, threshold=0.0):
    # Where two pieces meet, the slope is the one that Keras takes on TensorFlow.
    passed, below = x > threshold, x < threshold
    if max_value is not None:
        is_relu6 = max_value == 6 and threshold == 0
        passed &= (x >= 0) & ((x < 6) if is_relu6 else (x <= max_value))
    elif threshold == 0:
        below = x <= 0
    dx = np.where(passed, dy, 0)
    return np.where(below, negative_slope * dy, dx) if negative_slope else dx


@_step
def leaky_relu(x: ArrayLike, negative_slope: float = 0.2) -> np.ndarray:
    """x where positive, negative_slope * x elsewhere."""
    x = _floating(x)
    return np.where(x > 0, x, negative_slope * x)


@_gradient(leaky_relu)
def _(x, y, dy, negative_slope=0.2):
    return np.where(x > 0, dy, negative_slope * dy)


@_step
def relu6(x: ArrayLike) -> np.ndarray:
    """x cut to [0, 6]."""
    return np.clip(_floating(x), 0, 6)


@_gradient(relu6)
def _(x, y, dy):
    return np.where((x > 0) & (x < 6), dy, 0)


@_step
def sigmoid(x: ArrayLike) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    x = _floating(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


@_gradient(sigmoid)
def _(x, y, dy):
    return dy * y * (1 - y)


@_step
def hard_sigmoid(x: ArrayLike) -> np.ndarray:
    """x / 6 + 1/2 cut to [0, 1]; Keras 2 had another slope, see `hard_sigmoid_keras2`."""
    return relu6(_floating(x) + 3) / 6


@_gradient(hard_sigmoid)
def _(x, y, dy):
    return np.where(np.abs(x) < 3, dy / 6, 0)


@_step
def hard_sigmoid_keras2(x: ArrayLike) -> np.ndarray:
    """0.2 * x + 1/2 cut to [0, 1]: what "hard_sigmoid" means in files of Keras before 3."""
    return np.clip(0.2 * _floating(x) + 0.5, 0, 1)


@_gradient(hard_sigmoid_keras2)
def _(x, y, dy):
    return np.where(np.abs(x) < 2.5, 0.2 * dy, 0)


@_step
def sparse_sigmoid(x: ArrayLike) -> np.ndarray:
    """(x + 1) / 2 cut to [0, 1]; Blondel et al., 2019."""
    return np.clip(0.5 * _floating(x) + 0.5, 0, 1)


@_gradient(sparse_sigmoid)
def _(x, y, dy):
    return np.where(np.abs(x) < 1, 0.5 * dy, 0)


@_step
def tanh(x: ArrayLike) -> np.ndarray:
    """The hyperbolic tangent."""
    return np.tanh(_floating(x))


@_gradient(tanh)
def _(x, y, dy):
    return dy * (1 - y * y)


@_step
def hard_tanh(x: ArrayLike) -> np.ndarray:
    """x cut to [-1, 1]."""
    return np.clip(_floating(x), -1, 1)


@_gradient(hard_tanh)
def _(x, y, dy):
    return np.where(np.abs(x) < 1, dy, 0)


@_step
def tanh_shrink(x: ArrayLike) -> np.ndarray:
    """x - tanh(x)."""
    x = _floating(x)
    return x - np.tanh(x)


@_gradient(tanh_shrink)
def _(x, y, dy):
    return dy * np.square(np.tanh(x))


@_step
def softmax(x: ArrayLike, axis=-1) -> np.ndarray:
    """exp(x) over its sum along `axis` (None: along all)."""
    e = np.exp(_below_max(_floating(x), axis))
    return e / e.sum(axis=axis, keepdims=True)


@_gradient(softmax)
def _(x, y, dy, axis=-1):
    return y * (dy - np.sum(dy * y, axis=axis, keepdims=True))


@_step
def log_softmax(x: ArrayLike, axis=-1) -> np.ndarray:
    """The logarithm of `softmax`."""
    x = _below_max(_floating(x), axis)
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


@_gradient(log_softmax)
def _(x, y, dy, axis=-1):
    return dy - np.exp(y) * np.sum(dy, axis=axis, keepdims=True)


@_step
def sparsemax(x: ArrayLike, axis: int = -1) -> np.ndarray:
    """The nearest point to x on the probability simplex; Martins and Astudillo, 2016.

    Sums to 1 along `axis`; in Keras up to 3.15.1 it does not always.
    """
    x = _floating(x)
    _check_axis(x, axis)
    x = np.moveaxis(_below_max(x, axis), axis, -1)
    x = np.maximum(x, -1)  # What lies lower has no share either.
    descending = -np.sort(-x, axis=-1)
    excess = np.cumsum(descending, axis=-1) - 1
    ranks = np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    support = np.sum(descending * ranks > excess, axis=-1, keepdims=True)
    tau = np.take_along_axis(excess, support - 1, axis=-1) / support.astype(x.dtype)
    return np.moveaxis(np.maximum(x - tau, 0), -1, axis)


@_gradient(sparsemax)
def _(x, y, dy, axis=-1):
    kept = np.where(y > 0, dy, 0)
    mean = kept.sum(axis=axis, keepdims=True) / np.count_nonzero(y, axis=axis, keepdims=True)
    return np.where(y > 0, dy - mean.astype(kept.dtype), 0)


def _below_max(x: np.ndarray, axis) -> np.ndarray:
    if not x.ndim:
        raise ValueError("x: expected at least one axis, received a single number")
    with np.errstate(over="ignore", invalid="ignore"):
        return x - x.max(axis=axis, keepdims=True)


@_step
def softplus(x: ArrayLike) -> np.ndarray:
    """log(1 + exp(x))."""
    x = _floating(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@_gradient(softplus)
def _(x, y, dy):
    return dy * sigmoid(x)


@_step
def log_sigmoid(x: ArrayLike) -> np.ndarray:
    """log(1 / (1 + exp(-x)))."""
    return -softplus(-_floating(x))


@_gradient(log_sigmoid)
def _(x, y, dy):
    return dy * sigmoid(-x)


@_step
def sparse_plus(x: ArrayLike) -> np.ndarray:
    """0 below -1, x above 1 and (x + 1) ** 2 / 4 between."""
    x = _floating(x)
    return np.where(x < 1, np.square(np.clip(x, -1, 1) + 1) / 4, x)


@_gradient(sparse_plus)
def _(x, y, dy):
    return dy * sparse_sigmoid(x)


@_step
def squareplus(x: ArrayLike, b: float = 4) -> np.ndarray:
    """(x + sqrt(x ** 2 + b)) / 2, for b > 0; Barron, 2021."""
    x = _floating(x)
    half = 0.5 * np.hypot(x, math.sqrt(b)) + 0.5 * np.abs(x)
    return np.where(x >= 0, half, b / 4 / half)


@_gradient(squareplus)
def _(x, y, dy, b=4):
    return dy * y / np.hypot(x, math.sqrt(b))


@_step
def softsign(x: ArrayLike) -> np.ndarray:
    """x / (1 + abs(x))."""
    x = _floating(x)
    return x / (1 + np.abs(x))


@_gradient(softsign)
def _(x, y, dy):
    return dy * np.square(1 / (1 + np.abs(x)))


@_step
def elu(x: ArrayLike, alpha: float = 1.0) -> np.ndarray:
    """x where positive, alpha * (exp(x) - 1) elsewhere; Clevert et al., 2016."""
    x = _floating(x)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@_gradient(elu)
def _(x, y, dy, alpha=1.0):
    return dy * np.where(x > 0, 1, y + alpha)


@_step
def selu(x: ArrayLike) -> np.ndarray:
    """elu with the slope and alpha that keep mean 0 and variance 1; Klambauer et al., 2017."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


@_gradient(selu)
def _(x, y, dy):
    return dy * np.where(x > 0, _SELU_SCALE, y + _SELU_SCALE * _SELU_ALPHA)


@_step
def celu(x: ArrayLike, alpha: float = 1.0) -> np.ndarray:
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere; Barron, 2017."""
    x = _floating(x)
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


@_gradient(celu)
def _(x, y, dy, alpha=1.0):
    return dy * np.exp(np.minimum(x, 0) / alpha)


@_step
def exponential(x: ArrayLike) -> np.ndarray:
    """exp(x); infinite where that is too large for the dtype."""
    with np.errstate(over="ignore"):
        return np.exp(_floating(x))


@_gradient(exponential)
def _(x, y, dy):
    return dy * y


@_step
def gelu(x: ArrayLike, approximate: bool = False) -> np.ndarray:
    """x times the normal distribution function, or its tanh form; Hendrycks and Gimpel, 2016."""
    x = _floating(x)
    if approximate:
        return 0.5 * x * (1 + np.tanh(_gelu_angle(x)))
    return x * _normal_cdf(x)


@_gradient(gelu)
def _(x, y, dy, approximate=False):
    near = np.clip(x, -20, 20)  # Beyond, the derivative is 0 or 1, and squares could overflow.
    if approximate:
        t = np.tanh(_gelu_angle(near))
        slope = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * near * near)
        return dy * (0.5 * (1 + t) + 0.5 * near * (1 - t * t) * slope)
    density = np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi)
    return dy * (_normal_cdf(near) + near * density)


def _gelu_angle(x: np.ndarray) -> np.ndarray:
    near = np.clip(x, -20, 20)
    return _SQRT_2_OVER_PI * (near + 0.044715 * near * near * near)


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr  # Importing it takes longer than all of fastrnn.

    return ndtr(x).astype(x.dtype, copy=False)


@_step
def silu(x: ArrayLike) -> np.ndarray:
    """x * sigmoid(x); also under the name swish. Ramachandran et al., 2017."""
    x = _floating(x)
    return x * sigmoid(x)


@_gradient(silu)
def _(x, y, dy):
    s = sigmoid(x)
    return dy * (s + y * (1 - s))


@_step
def hard_silu(x: ArrayLike) -> np.ndarray:
    """x * hard_sigmoid(x); also under the name hard_swish. Howard et al., 2019."""
    x = _floating(x)
    return x * hard_sigmoid(x)


@_gradient(hard_silu)
def _(x, y, dy):
    return dy * np.where(np.abs(x) < 3, np.clip(x, -3, 3) / 3 + 0.5, x > 0)


@_step
def mish(x: ArrayLike) -> np.ndarray:
    """x * tanh(softplus(x)); Misra, 2019."""
    x = _floating(x)
    return x * np.tanh(softplus(x))


@_gradient(mish)
def _(x, y, dy):
    t = np.tanh(softplus(x))
    return dy * (t + x * (1 - t * t) * sigmoid(x))


@_step
def soft_shrink(x: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """x moved towards 0 by `threshold`, not beyond it."""
    x = _floating(x)
    return x - np.clip(x, -threshold, threshold)


@_gradient(soft_shrink)
def _(x, y, dy, threshold=0.5):
    return np.where(np.abs(x) > threshold, dy, 0)


@_step
def hard_shrink(x: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """x where abs(x) > threshold, 0 elsewhere."""
    x = _floating(x)
    return np.where(np.abs(x) > threshold, x, 0)


@_gradient(hard_shrink)
def _(x, y, dy, threshold=0.5):
    return np.where(np.abs(x) > threshold, dy, 0)


@_step
def threshold(x: ArrayLike, threshold: float, default_value: float) -> np.ndarray:
    """x where x > threshold, default_value elsewhere."""
    x = _floating(x)
    return np.where(x > threshold, x, default_value)


@_gradient(threshold)
def _(x, y, dy, threshold, default_value):
    return np.where(x > threshold, dy, 0)


@_step
def glu(x: ArrayLike, axis: int = -1) -> np.ndarray:
    """a * sigmoid(b) for the halves a, b of x along `axis`, of even size; Dauphin et al., 2017."""
    x = _floating(x)
    _check_axis(x, axis)
    if x.shape[axis] % 2:
        raise ValueError(f"x: expected an even size along axis {axis}, received shape {x.shape}")
    a, b = np.split(x, 2, axis=axis)
    return a * sigmoid(b)


@_gradient(glu)
def _(x, y, dy, axis=-1):
    _, b = np.split(x, 2, axis=axis)
    s = sigmoid(b)
    return np.concatenate([dy * s, dy * y * (1 - s)], axis=axis)


swish = _TABLE["swish"] = silu
_TABLE["time_distributed_softmax"] = softmax  # of Keras 1
hard_swish = _TABLE["hard_swish"] = hard_silu


def get(identifier) -> Callable:
    """Return the function for None (linear), a name, a config dict or a callable itself.

    Raises ValueError for anything else.
    """
    if callable(identifier):
        return identifier
    return deserialize(identifier)


def gradient_of(fn: Callable) -> Callable:
    """The gradient(x, y, dy) of an activation, of a user's function by fastrnn.tape where it
    has none; that raises ValueError for what is more than NumPy's functions."""
    if hasattr(fn, "gradient"):
        return fn.gradient

    def gradient(x, y, dy):
        advice = "attach fn.gradient = lambda x, y, dy: ..., dy times the derivative"
        return derivative_of_users("activation", repr(fn), advice, fn, x, dy)

    return gradient


def serialize(fn: Callable) -> str | dict:
    """The name of a function of this module, or the config dict of a user's own."""
    fn = get(fn)
    if fn is hard_sigmoid_keras2:  # in the form in which Keras looks into its custom_objects
        kind = {"module": "builtins", "class_name": "function", "registered_name": "function"}
        return {**kind, "config": fn.__name__}
    if _TABLE.get(getattr(fn, "__name__", "")) is fn:
        return fn.__name__
    return serialize_object(fn, {}, "")


def deserialize(config, custom_objects: Mapping | None = None) -> Callable:
    """The inverse of `serialize`; `custom_objects` maps names to the user's own functions."""
    if config is None:
        return linear
    return deserialize_object(config, _TABLE, "activation", custom_objects)
