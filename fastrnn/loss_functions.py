"""Loss functions of arrays (y_true, y_pred), each with its gradient.

They return one value a sample, the mean over the last axis as a rule. The attribute
`gradient(y_true, y_pred, **options)` returns the derivative of the sum of the values with respect
to y_pred. Floating y_pred keeps its precision; anything else counts as float32.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.arrays import contiguous

from .tape import Source, Traced, derivative, is_recording, of, value_of
from .tensors import as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


_EPSILON = 1e-7


# --- shapes and weights


def _floating(x) -> np.ndarray:
    """x as an array of float64 if it is one, else of float32."""
    if isinstance(x, np.ndarray) and x.dtype in (np.float32, np.float64):
        return x
    return np.asarray(x, np.float32)


def _targets(y_true, dtype):
    return y_true if isinstance(y_true, Traced) else np.asarray(y_true, dtype)


def match_ranks(y_true: np.ndarray, y_pred: np.ndarray, expand: bool = False):
    """Drop or add a last axis of size 1 so that both have as many axes, as Keras does.

    With `expand` it is always added, which keeps an axis that weights may refer to.
    """
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        if y_pred.ndim == 1:
            return y_true, y_pred[:, None]
        return y_true[..., 0], y_pred
    if y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        if y_true.ndim == 1 or expand:
            return y_true[..., None], y_pred
        return y_true, y_pred[..., 0]
    return y_true, y_pred


def broadcasts(targets, outputs) -> bool:
    """Can targets of this shape stand for those of the outputs' shape?"""
    return len(targets) == len(outputs) and all(
        target in (1, size) for target, size in zip(targets, outputs, strict=True)
    )


def same_shape(y_true, y_pred, expand: bool = False, broadcast: bool = False):
    """Both as floating arrays of the same shape; raises ValueError where they cannot be.

    broadcast: axes of size 1 of y_true stand for all of y_pred's."""
    y_pred = _floating(y_pred)
    y_true = _targets(y_true, y_pred.dtype)
    shapes = y_true.shape, y_pred.shape
    y_true, y_pred = match_ranks(y_true, y_pred, expand)
    if broadcast and y_true.shape != y_pred.shape and broadcasts(y_true.shape, y_pred.shape):
        y_true = np.broadcast_to(y_true, y_pred.shape)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y_true and y_pred: expected the same shape, received {shapes[0]} and {shapes[1]}"
        )
    return y_true, y_pred


def check_axes(y_true, y_pred) -> None:
    """Raise ValueError for single numbers, which have no last axis."""
    if not (np.ndim(y_true) and np.ndim(y_pred)):
        raise ValueError(
            "y_true and y_pred: expected at least one axis, "
            f"received shapes {np.shape(y_true)} and {np.shape(y_pred)}"
        )


def _size_along(x: np.ndarray, axis) -> int:
    if axis is None:
        return x.size
    return math.prod(x.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


def fit_weights(weights: np.ndarray, shape: tuple[int, ...], name: str = "sample_weight"):
    """Weights with the axes of `shape`: an axis of size 1 too many goes, missing ones are added.

    Raises ValueError where they do not fit.
    """
    given = weights.shape
    if given == shape:
        return weights
    if weights.ndim == len(shape) + 1 and given[-1] == 1:
        weights = weights[..., 0]
    elif weights.ndim < len(shape):
        weights = weights.reshape(given + (1,) * (len(shape) - weights.ndim))
    fits = weights.ndim == len(shape) and all(
        a in (1, b) for a, b in zip(weights.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: expected a shape that fits {shape}, received {given}")
    return weights


def merge_mask(sample_weight, mask, shape: tuple[int, ...], rescale: bool):
    """Float32 weights for values of `shape`, masked ones zero; None without weight and mask.

    `rescale` makes up for the masked values in a mean over all.
    """
    weights = None
    if mask is not None:
        mask = np.asarray(mask, bool)
        valid = np.count_nonzero(mask)
        factor = mask.size / valid if rescale and valid else 1.0
        weights = fit_weights(mask.astype(np.float32) * np.float32(factor), shape, "mask")
    if sample_weight is not None:
        sample_weight = fit_weights(np.asarray(sample_weight, np.float32), shape)
        weights = sample_weight if weights is None else sample_weight * weights
    return weights


def class_labels(y_true, y_pred: np.ndarray) -> np.ndarray:
    """y_true as contiguous int64 of the shape of y_pred without its last axis.

    Raises ValueError for other shapes.
    """
    if not y_pred.ndim:
        check_axes(y_true, y_pred)
    y_true = np.asarray(y_true)
    if y_true.dtype.kind == "f" and not np.isfinite(y_true).all():
        raise ValueError("y_true: expected labels, received NaN or infinity")
    labels = contiguous(y_true, np.int64)
    shape = y_pred.shape[:-1]
    if labels.shape != shape:
        if labels.shape != (*shape, 1):
            raise ValueError(
                f"y_true: expected labels of shape {shape} or {(*shape, 1)} for y_pred of shape "
                f"{y_pred.shape}, received shape {labels.shape}"
            )
        labels = labels.reshape(shape)
    return labels


# --- loss functions


def _along(g, slope, options):
    return g if g.ndim == slope.ndim else np.expand_dims(g, options.get("axis", -1))


def _gradient(fn: Callable) -> Callable:
    """Attach a gradient to `fn`, which so can be a step of a user's loss (fastrnn.tape)."""

    @functools.wraps(fn)
    def loss(y_true, y_pred, *args, **options):
        if is_recording() and isinstance(y_true := of(y_true), Source):
            values = loss(y_true.value, y_pred, *args, **options)
            slope = derivative(lambda t: fn(t, value_of(y_pred), *args, **options), y_true.value)
            return values + y_true.then(
                np.zeros_like(value_of(values)),
                lambda g: slope * _along(g, slope, options),
            )
        y_pred = of(y_pred)
        if not isinstance(y_pred, Source if is_recording() else Traced):
            if fn.__name__ != "cosine_similarity":
                check_axes(y_true, y_pred)
            return as_tensor(fn(y_true, y_pred, *args, **options))
        slope = loss.gradient(y_true, y_pred.value, *args, **options).reshape(y_pred.shape)
        return y_pred.then(
            fn(y_true, y_pred.value, *args, **options),
            lambda g: slope * _along(g, slope, options),
        )

    def attach(gradient: Callable) -> Callable:
        loss.gradient = gradient
        globals()[fn.__name__] = loss
        return gradient

    return attach


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """mean((y_true - y_pred) ** 2)."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.mean(np.square(y_pred - y_true), axis=-1)


@_gradient(mean_squared_error)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return (y_pred - y_true) * (2 / y_pred.shape[-1])


def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """mean(abs(y_true - y_pred))."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.mean(np.abs(y_pred - y_true), axis=-1)


@_gradient(mean_absolute_error)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.sign(y_pred - y_true) / y_pred.shape[-1]


def mean_absolute_percentage_error(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """100 * mean(abs((y_true - y_pred) / y_true)), the divisor at least 1e-7."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    scale = 100 / np.maximum(np.abs(y_true), _EPSILON)
    return np.mean(np.abs(y_pred - y_true) * scale, axis=-1)


@_gradient(mean_absolute_percentage_error)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    scale = 100 / np.maximum(np.abs(y_true), _EPSILON)
    return np.sign(y_pred - y_true) * scale / y_pred.shape[-1]


def mean_squared_logarithmic_error(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """mean((log(1 + y_true) - log(1 + y_pred)) ** 2), negative numbers counting as 1e-7."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.mean(np.square(_log_ratio(y_true, y_pred)), axis=-1)


@_gradient(mean_squared_logarithmic_error)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    slope = np.where(y_pred < _EPSILON, 0, 2 / (1 + np.maximum(y_pred, _EPSILON)))
    return _log_ratio(y_true, y_pred) * slope / y_pred.shape[-1]


def _log_ratio(y_true, y_pred):
    return np.log1p(np.maximum(y_pred, _EPSILON)) - np.log1p(np.maximum(y_true, _EPSILON))


def huber(y_true: ArrayLike, y_pred: ArrayLike, delta: float = 1.0) -> np.ndarray:
    """mean of error ** 2 / 2, and beyond `delta` of delta * (abs(error) - delta / 2)."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    error = np.abs(y_pred - y_true)
    values = np.where(error <= delta, error * error / 2, delta * (error - delta / 2))
    return np.mean(values, axis=-1)


@_gradient(huber)
def _(y_true, y_pred, delta=1.0):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.clip(y_pred - y_true, -delta, delta) / y_pred.shape[-1]


def log_cosh(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """mean(log(cosh(y_pred - y_true)))."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    error = np.abs(y_pred - y_true)
    return np.mean(error + np.log1p(np.exp(-2 * error)) - math.log(2), axis=-1)


@_gradient(log_cosh)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.tanh(y_pred - y_true) / y_pred.shape[-1]


def hinge(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """mean(max(1 - y_true * y_pred, 0)), y_true being -1 or 1; 0 and 1 are turned into these."""
    y_true, y_pred = _signs(*same_shape(y_true, y_pred, broadcast=True))
    return np.mean(np.maximum(1 - y_true * y_pred, 0), axis=-1)


@_gradient(hinge)
def _(y_true, y_pred):
    y_true, y_pred = _signs(*same_shape(y_true, y_pred, broadcast=True))
    return np.where(y_true * y_pred < 1, -y_true, 0) / y_pred.shape[-1]


def squared_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """mean(max(1 - y_true * y_pred, 0) ** 2), y_true as for `hinge`."""
    y_true, y_pred = _signs(*same_shape(y_true, y_pred, broadcast=True))
    return np.mean(np.square(np.maximum(1 - y_true * y_pred, 0)), axis=-1)


@_gradient(squared_hinge)
def _(y_true, y_pred):
    y_true, y_pred = _signs(*same_shape(y_true, y_pred, broadcast=True))
    return -2 * y_true * np.maximum(1 - y_true * y_pred, 0) / y_pred.shape[-1]


def _signs(y_true, y_pred):
    binary = np.all((y_true == 0) | (y_true == 1))
    return (2 * y_true - 1 if binary else y_true), y_pred


def categorical_hinge(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """max(1 + the best of the wrong classes - the right one, 0), y_true one-hot."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    right, wrong = np.sum(y_true * y_pred, axis=-1), np.max((1 - y_true) * y_pred, axis=-1)
    return np.maximum(wrong - right + 1, 0)


@_gradient(categorical_hinge)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    wrong = (1 - y_true) * y_pred
    best = np.argmax(wrong, axis=-1)[..., None]
    slope = -y_true
    np.put_along_axis(slope, best, np.take_along_axis(1 - 2 * y_true, best, -1), -1)
    return np.where(categorical_hinge(y_true, y_pred)[..., None] > 0, slope, 0)


def kl_divergence(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """sum(y_true * log(y_true / y_pred)), both cut to [1e-7, 1]."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    y_true, y_pred = np.clip(y_true, _EPSILON, 1), np.clip(y_pred, _EPSILON, 1)
    return np.sum(y_true * np.log(y_true / y_pred), axis=-1)


@_gradient(kl_divergence)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return -np.clip(y_true, _EPSILON, 1) * _clipped_log_slope(y_pred, 1)


def _clipped_log_slope(p, high):
    """Derivative of log(clip(p, 1e-7, high))."""
    inside = (p >= p.dtype.type(_EPSILON)) & (p <= p.dtype.type(high))
    return np.where(inside | np.isnan(p), 1 / np.maximum(p, _EPSILON), 0)


def poisson(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """mean(y_pred - y_true * log(y_pred + 1e-7))."""
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.mean(y_pred - y_true * np.log(y_pred + _EPSILON), axis=-1)


@_gradient(poisson)
def _(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return (1 - y_true / (y_pred + _EPSILON)) / y_pred.shape[-1]


def cosine_similarity(y_true: ArrayLike, y_pred: ArrayLike, axis: int = -1) -> np.ndarray:
    """Minus the cosine of the angle between y_true and y_pred along `axis`."""
    true, y_pred = _directions(y_true, y_pred, axis)
    return -np.sum(true * y_pred * _inverse_norm(y_pred, axis), axis)


@_gradient(cosine_similarity)
def _(y_true, y_pred, axis=-1):
    true, y_pred = _directions(y_true, y_pred, axis)
    inverse = _inverse_norm(y_pred, axis)
    pred = y_pred * inverse
    along = np.sum(true * pred, axis=axis, keepdims=True)
    varies = inverse < y_pred.dtype.type(1 / _EPSILON)
    return (np.where(varies, along * pred, 0) - true) * inverse


def _directions(y_true, y_pred, axis):
    """y_true of length 1 along the axis, which it has before it stands for all of y_pred."""
    y_pred = _floating(y_pred)
    y_true, y_pred = match_ranks(_targets(y_true, y_pred.dtype), y_pred)
    return same_shape(y_true * _inverse_norm(y_true, axis), y_pred, broadcast=True)


def _inverse_norm(x, axis):
    norm = np.sqrt(np.sum(np.square(x), axis=axis, keepdims=True))
    return 1 / np.maximum(norm, _EPSILON)


def binary_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
):
    """-mean(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred)).

    Probabilities are cut to [1e-7, 1 - 1e-7]. `label_smoothing` moves y_true towards 1/2.
    """
    y_true, y_pred = same_shape(y_true, y_pred)
    return np.mean(_bernoulli(_smooth(y_true, label_smoothing, 2), y_pred, from_logits), axis=axis)


@_gradient(binary_crossentropy)
def _(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    y_true, y_pred = same_shape(y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    return _bernoulli_slope(y_true, y_pred, from_logits) / _size_along(y_pred, axis)


def _smooth(y_true, label_smoothing, classes):
    if not label_smoothing:
        return y_true
    return y_true * (1 - label_smoothing) + label_smoothing / classes


def _bernoulli(t, p, from_logits=False):
    if from_logits:
        return np.maximum(p, 0) - p * t + np.log1p(np.exp(-np.abs(p)))
    p = np.clip(p, _EPSILON, 1 - _EPSILON)
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def _bernoulli_slope(t, p, from_logits=False):
    if from_logits:
        return sigmoid(p) - t
    cut = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.where((cut == p) | np.isnan(p), (cut - t) / (cut * (1 - cut)), 0)


def sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _softmax(z, axis):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(z, axis):
    z = z - z.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def categorical_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
):
    """-sum(y_true * log(y_pred)) over the classes along `axis`, y_true one-hot or probabilities.

    Probabilities are divided by their sum and cut to [1e-7, 1 - 1e-7]. `label_smoothing` moves
    y_true towards 1 / classes.
    """
    y_true, y_pred = _classes(y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, y_true.shape[-1])
    if from_logits:
        return -np.sum(y_true * _log_softmax(y_pred, axis), axis=axis)
    share = y_pred / np.sum(y_pred, axis=axis, keepdims=True)
    return -np.sum(y_true * np.log(np.clip(share, _EPSILON, 1 - _EPSILON)), axis=axis)


@_gradient(categorical_crossentropy)
def _(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    y_true, y_pred = _classes(y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, y_true.shape[-1])
    if from_logits:
        return _softmax(y_pred, axis) * np.sum(y_true, axis=axis, keepdims=True) - y_true
    total = np.sum(y_pred, axis=axis, keepdims=True)
    slope = -y_true * _clipped_log_slope(y_pred / total, 1 - _EPSILON)
    return (slope - np.sum(slope * y_pred / total, axis=axis, keepdims=True)) / total


def _classes(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred)
    warn_of_one_class(y_pred)
    return y_true, y_pred


def warn_of_one_class(y_pred):
    if y_pred.shape[-1] == 1:
        warnings.warn(
            "y_pred: expected more than one class for categorical_crossentropy, "
            f"received shape {y_pred.shape}; for two classes see binary_crossentropy",
            SyntaxWarning,
            stacklevel=2,
        )


def sparse_categorical_crossentropy(
    y_true, y_pred, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
):
    """-log(y_pred[y_true]), y_true the numbers of the classes along the last axis of y_pred.

    y_true has the shape of y_pred without that axis, or 1 for it. Probabilities are cut to
    [1e-7, 1 - 1e-7], then divided by their sum. The value for the class `ignore_class` is 0.
    """
    labels, ignored, y_pred = _labels_and_ignored(y_true, y_pred, ignore_class, axis)
    logs = _log_softmax(y_pred if from_logits else _clipped_log(y_pred), -1)
    values = -np.take_along_axis(logs, labels[..., None], -1)[..., 0]
    return np.where(ignored, 0, values) if ignored is not None else values


@_gradient(sparse_categorical_crossentropy)
def _(y_true, y_pred, from_logits=False, ignore_class=None, axis=-1):
    labels, ignored, y_pred = _labels_and_ignored(y_true, y_pred, ignore_class, axis)
    slope = _softmax(y_pred if from_logits else _clipped_log(y_pred), -1)
    right = labels[..., None]
    np.put_along_axis(slope, right, np.take_along_axis(slope, right, -1) - 1, -1)
    if not from_logits:
        slope = slope * _clipped_log_slope(y_pred, 1 - _EPSILON)
    return slope if ignored is None else np.where(ignored[..., None], 0, slope)


def _clipped_log(p):
    return np.log(np.clip(p, _EPSILON, 1 - _EPSILON))


def _labels_and_ignored(y_true, y_pred, ignore_class, axis):
    y_pred = _floating(y_pred)
    if axis not in (-1, y_pred.ndim - 1):
        raise ValueError(f"axis: expected the last one, -1, received {axis}")
    labels = class_labels(y_true, y_pred)
    ignored = None
    if ignore_class is not None:
        ignored = labels == ignore_class
        labels = np.where(ignored, 0, labels)
    wrong = labels[(labels < 0) | (labels >= y_pred.shape[-1])]
    if wrong.size:
        raise ValueError(
            f"y_true: expected labels in [0, {y_pred.shape[-1]}), the classes of y_pred, "
            f"received {wrong[0]}"
        )
    return labels, ignored, y_pred


def binary_focal_crossentropy(
    y_true,
    y_pred,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
):
    """mean of binary_crossentropy times (1 - probability of the right class) ** gamma.

    `apply_class_balancing` weighs class 1 with alpha, class 0 with 1 - alpha. Probabilities are cut
    as in binary_crossentropy, logits are not. Lin et al., 2018.
    """
    y_true, y_pred = same_shape(y_true, y_pred)
    t = _smooth(y_true, label_smoothing, 2)
    p = sigmoid(y_pred) if from_logits else y_pred
    factor = np.power(1 - (t * p + (1 - t) * (1 - p)), gamma)
    if apply_class_balancing:
        factor = factor * (t * alpha + (1 - t) * (1 - alpha))
    return np.mean(factor * _bernoulli(t, y_pred, from_logits), axis=axis)


@_gradient(binary_focal_crossentropy)
def _(
    y_true,
    y_pred,
    apply_class_balancing=False,
    alpha=0.25,
    gamma=2.0,
    from_logits=False,
    label_smoothing=0.0,
    axis=-1,
):
    y_true, y_pred = same_shape(y_true, y_pred)
    t = _smooth(y_true, label_smoothing, 2)
    p = sigmoid(y_pred) if from_logits else y_pred
    miss = 1 - (t * p + (1 - t) * (1 - p))
    slope = np.power(miss, gamma) * _bernoulli_slope(t, y_pred, from_logits)
    if gamma:
        rise = p * sigmoid(-y_pred) if from_logits else 1
        rise = rise * gamma * np.power(miss, gamma - 1) * (2 * t - 1)
        slope = slope - rise * _bernoulli(t, y_pred, from_logits)
    if apply_class_balancing:
        slope = slope * (t * alpha + (1 - t) * (1 - alpha))
    return slope / _size_along(y_pred, axis)


def categorical_focal_crossentropy(
    y_true,
    y_pred,
    alpha=0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
):
    """categorical_crossentropy, each class times alpha * (1 - its probability) ** gamma.

    alpha is a number or one for each class. Lin et al., 2018.
    """
    t, p, _ = _focal_inputs(y_true, y_pred, from_logits, label_smoothing, axis)
    p = np.clip(p, _EPSILON, 1 - _EPSILON)
    alpha = np.asarray(alpha, p.dtype)
    return -np.sum(alpha * np.power(1 - p, gamma) * t * np.log(p), axis=axis)


@_gradient(categorical_focal_crossentropy)
def _(y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1):
    t, p, total = _focal_inputs(y_true, y_pred, from_logits, label_smoothing, axis)
    cut = np.clip(p, _EPSILON, 1 - _EPSILON)
    slope = -np.power(1 - cut, gamma) / cut
    if gamma:
        slope = slope + gamma * np.power(1 - cut, gamma - 1) * np.log(cut)
    slope = np.where((cut == p) | np.isnan(p), np.asarray(alpha, p.dtype) * t * slope, 0)
    slope = slope - np.sum(slope * p, axis=axis, keepdims=True)
    return slope * p if from_logits else slope / total


def _focal_inputs(y_true, y_pred, from_logits, label_smoothing, axis):
    y_true, y_pred = _classes(y_true, y_pred)
    t = _smooth(y_true, label_smoothing, y_true.shape[-1])
    p = _softmax(y_pred, axis) if from_logits else y_pred
    total = np.sum(p, axis=axis, keepdims=True)
    return t, p / total, total
