"""Losses and their gradients, as keras.losses.

A loss function takes arrays (y_true, y_pred) and returns one value a sample, the mean over the last
axis as a rule. Its attribute `gradient(y_true, y_pred, **options)` returns the derivative of the
sum of the values with respect to y_pred. A user's own function needs such a gradient to be trained
with, and none to be evaluated; as in

    def absolute(y_true, y_pred):
        return np.mean(np.abs(y_true - y_pred), axis=-1)

    absolute.gradient = lambda y_true, y_pred: np.sign(y_pred - y_true) / y_pred.shape[-1]

A `Loss` reduces the values to one, with sample weights and masks.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from . import _engine
from .utils import Configurable, deserialize_object, serialize_object, snake_case

_EPSILON = 1e-7
_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


# --- shapes and weights


def _floating(x) -> np.ndarray:
    """x as an array of float64 if it is one, else of float32."""
    if isinstance(x, np.ndarray) and x.dtype in (np.float32, np.float64):
        return x
    return np.asarray(x, np.float32)


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


def _pair(y_true, y_pred, expand: bool = False):
    """Both as floating arrays of the same shape; raises ValueError where they cannot be."""
    y_pred = _floating(y_pred)
    y_true = np.asarray(y_true, y_pred.dtype)
    shapes = y_true.shape, y_pred.shape
    y_true, y_pred = match_ranks(y_true, y_pred, expand)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            "y_true and y_pred: expected the same shape, "
            f"received {shapes[0]} and {shapes[1]}"
        )
    return y_true, y_pred


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


# --- loss functions


def _gradient(fn: Callable) -> Callable:
    def attach(gradient: Callable) -> Callable:
        fn.gradient = gradient
        return gradient

    return attach


def mean_squared_error(y_true, y_pred):
    """mean((y_true - y_pred) ** 2)."""
    y_true, y_pred = _pair(y_true, y_pred)
    return np.mean(np.square(y_pred - y_true), axis=-1)


@_gradient(mean_squared_error)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    return (y_pred - y_true) * (2 / y_pred.shape[-1])


def mean_absolute_error(y_true, y_pred):
    """mean(abs(y_true - y_pred))."""
    y_true, y_pred = _pair(y_true, y_pred)
    return np.mean(np.abs(y_pred - y_true), axis=-1)


@_gradient(mean_absolute_error)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    return np.sign(y_pred - y_true) / y_pred.shape[-1]


def mean_absolute_percentage_error(y_true, y_pred):
    """100 * mean(abs((y_true - y_pred) / y_true)), the divisor at least 1e-7."""
    y_true, y_pred = _pair(y_true, y_pred)
    scale = 100 / np.maximum(np.abs(y_true), _EPSILON)
    return np.mean(np.abs(y_pred - y_true) * scale, axis=-1)


@_gradient(mean_absolute_percentage_error)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    scale = 100 / np.maximum(np.abs(y_true), _EPSILON)
    return np.sign(y_pred - y_true) * scale / y_pred.shape[-1]


def mean_squared_logarithmic_error(y_true, y_pred):
    """mean((log(1 + y_true) - log(1 + y_pred)) ** 2), negative numbers counting as 1e-7."""
    y_true, y_pred = _pair(y_true, y_pred)
    return np.mean(np.square(_log_ratio(y_true, y_pred)), axis=-1)


@_gradient(mean_squared_logarithmic_error)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    slope = np.where(y_pred < _EPSILON, 0, 2 / (1 + np.maximum(y_pred, _EPSILON)))
    return _log_ratio(y_true, y_pred) * slope / y_pred.shape[-1]


def _log_ratio(y_true, y_pred):
    return np.log1p(np.maximum(y_pred, _EPSILON)) - np.log1p(np.maximum(y_true, _EPSILON))


def huber(y_true, y_pred, delta: float = 1.0):
    """mean of error ** 2 / 2, and beyond `delta` of delta * (abs(error) - delta / 2)."""
    y_true, y_pred = _pair(y_true, y_pred)
    error = np.abs(y_pred - y_true)
    values = np.where(error <= delta, error * error / 2, delta * (error - delta / 2))
    return np.mean(values, axis=-1)


@_gradient(huber)
def _(y_true, y_pred, delta=1.0):
    y_true, y_pred = _pair(y_true, y_pred)
    return np.clip(y_pred - y_true, -delta, delta) / y_pred.shape[-1]


def log_cosh(y_true, y_pred):
    """mean(log(cosh(y_pred - y_true)))."""
    y_true, y_pred = _pair(y_true, y_pred)
    error = np.abs(y_pred - y_true)
    return np.mean(error + np.log1p(np.exp(-2 * error)) - math.log(2), axis=-1)


@_gradient(log_cosh)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    return np.tanh(y_pred - y_true) / y_pred.shape[-1]


def hinge(y_true, y_pred):
    """mean(max(1 - y_true * y_pred, 0)), y_true being -1 or 1; 0 and 1 are turned into these."""
    y_true, y_pred = _signs(*_pair(y_true, y_pred))
    return np.mean(np.maximum(1 - y_true * y_pred, 0), axis=-1)


@_gradient(hinge)
def _(y_true, y_pred):
    y_true, y_pred = _signs(*_pair(y_true, y_pred))
    return np.where(y_true * y_pred < 1, -y_true, 0) / y_pred.shape[-1]


def squared_hinge(y_true, y_pred):
    """mean(max(1 - y_true * y_pred, 0) ** 2), y_true as for `hinge`."""
    y_true, y_pred = _signs(*_pair(y_true, y_pred))
    return np.mean(np.square(np.maximum(1 - y_true * y_pred, 0)), axis=-1)


@_gradient(squared_hinge)
def _(y_true, y_pred):
    y_true, y_pred = _signs(*_pair(y_true, y_pred))
    return -2 * y_true * np.maximum(1 - y_true * y_pred, 0) / y_pred.shape[-1]


def _signs(y_true, y_pred):
    binary = np.all((y_true == 0) | (y_true == 1))
    return (2 * y_true - 1 if binary else y_true), y_pred


def categorical_hinge(y_true, y_pred):
    """max(1 + the best of the wrong classes - the right one, 0), y_true one-hot."""
    y_true, y_pred = _pair(y_true, y_pred)
    right, wrong = np.sum(y_true * y_pred, axis=-1), np.max((1 - y_true) * y_pred, axis=-1)
    return np.maximum(wrong - right + 1, 0)


@_gradient(categorical_hinge)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    wrong = (1 - y_true) * y_pred
    best = np.argmax(wrong, axis=-1)[..., None]
    slope = -y_true
    np.put_along_axis(slope, best, np.take_along_axis(1 - 2 * y_true, best, -1), -1)
    return np.where(categorical_hinge(y_true, y_pred)[..., None] > 0, slope, 0)


def kl_divergence(y_true, y_pred):
    """sum(y_true * log(y_true / y_pred)), both cut to [1e-7, 1]."""
    y_true, y_pred = _pair(y_true, y_pred)
    y_true, y_pred = np.clip(y_true, _EPSILON, 1), np.clip(y_pred, _EPSILON, 1)
    return np.sum(y_true * np.log(y_true / y_pred), axis=-1)


@_gradient(kl_divergence)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    return -np.clip(y_true, _EPSILON, 1) * _clipped_log_slope(y_pred, 1)


def _clipped_log_slope(p, high):
    """Derivative of log(clip(p, 1e-7, high))."""
    inside = (p >= p.dtype.type(_EPSILON)) & (p <= p.dtype.type(high))
    return np.where(inside | np.isnan(p), 1 / np.maximum(p, _EPSILON), 0)


def poisson(y_true, y_pred):
    """mean(y_pred - y_true * log(y_pred + 1e-7))."""
    y_true, y_pred = _pair(y_true, y_pred)
    return np.mean(y_pred - y_true * np.log(y_pred + _EPSILON), axis=-1)


@_gradient(poisson)
def _(y_true, y_pred):
    y_true, y_pred = _pair(y_true, y_pred)
    return (1 - y_true / (y_pred + _EPSILON)) / y_pred.shape[-1]


def cosine_similarity(y_true, y_pred, axis: int = -1):
    """Minus the cosine of the angle between y_true and y_pred along `axis`."""
    y_true, y_pred = _pair(y_true, y_pred)
    return -np.sum(y_true * _inverse_norm(y_true, axis) * y_pred * _inverse_norm(y_pred, axis), axis)


@_gradient(cosine_similarity)
def _(y_true, y_pred, axis=-1):
    y_true, y_pred = _pair(y_true, y_pred)
    inverse = _inverse_norm(y_pred, axis)
    true, pred = y_true * _inverse_norm(y_true, axis), y_pred * inverse
    along = np.sum(true * pred, axis=axis, keepdims=True)
    varies = inverse < y_pred.dtype.type(1 / _EPSILON)
    return (np.where(varies, along * pred, 0) - true) * inverse


def _inverse_norm(x, axis):
    norm = np.sqrt(np.sum(np.square(x), axis=axis, keepdims=True))
    return 1 / np.maximum(norm, _EPSILON)


def binary_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
):
    """-mean(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred)).

    Probabilities are cut to [1e-7, 1 - 1e-7]. `label_smoothing` moves y_true towards 1/2.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    return np.mean(
        _bernoulli(_smooth(y_true, label_smoothing, 2), y_pred, from_logits), axis=axis
    )


@_gradient(binary_crossentropy)
def _(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    y_true, y_pred = _pair(y_true, y_pred)
    y_true = _smooth(y_true, label_smoothing, 2)
    return _bernoulli_slope(y_true, y_pred, from_logits) / y_pred.shape[axis]


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
        return _sigmoid(p) - t
    cut = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.where((cut == p) | np.isnan(p), (cut - t) / (cut * (1 - cut)), 0)


def _sigmoid(z):
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
    y_true, y_pred = _pair(y_true, y_pred)
    _warn_of_one_class(y_pred)
    return y_true, y_pred


def _warn_of_one_class(y_pred):
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


def class_labels(y_true, y_pred: np.ndarray) -> np.ndarray:
    """y_true as contiguous int64 of the shape of y_pred without its last axis.

    Raises ValueError for other shapes.
    """
    labels = np.ascontiguousarray(y_true, np.int64)
    shape = y_pred.shape[:-1]
    if labels.shape != shape:
        if labels.shape != (*shape, 1):
            raise ValueError(
                f"y_true: expected labels of shape {shape} or {(*shape, 1)} for y_pred of shape "
                f"{y_pred.shape}, received shape {labels.shape}"
            )
        labels = labels.reshape(shape)
    return labels


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

    `apply_class_balancing` weighs class 1 with alpha, class 0 with 1 - alpha. Lin et al., 2018.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    t = _smooth(y_true, label_smoothing, 2)
    p = _sigmoid(y_pred) if from_logits else y_pred
    factor = np.power(1 - (t * p + (1 - t) * (1 - p)), gamma)
    if apply_class_balancing:
        factor = factor * (t * alpha + (1 - t) * (1 - alpha))
    return np.mean(factor * _bernoulli(t, p), axis=axis)


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
    y_true, y_pred = _pair(y_true, y_pred)
    t = _smooth(y_true, label_smoothing, 2)
    p = _sigmoid(y_pred) if from_logits else y_pred
    miss = 1 - (t * p + (1 - t) * (1 - p))
    slope = np.power(miss, gamma) * _bernoulli_slope(t, p)
    if gamma:
        slope = slope - gamma * np.power(miss, gamma - 1) * (2 * t - 1) * _bernoulli(t, p)
    if apply_class_balancing:
        slope = slope * (t * alpha + (1 - t) * (1 - alpha))
    if from_logits:
        slope = slope * p * (1 - p)
    return slope / y_pred.shape[axis]


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
def _(
    y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1
):
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


# --- losses


class Loss(Configurable):
    """Base class: override `call(y_true, y_pred)`, and for training `gradient(y_true, y_pred)`.

    Both have the contract of a loss function and its gradient. `reduction` is "sum_over_batch_size"
    (default) or "mean" for the sum divided by the number of values, "sum",
    "mean_with_sample_weight" for the sum divided by that of the weights, or "none" or None for the
    values themselves. Raises ValueError for another.

    fused_activation: the activation of a last layer whose input `fused` can start from, or None.
    """

    fused_activation: str | None = None
    _options = ("name", "reduction")
    _kernel: int | None = None

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
        if reduction not in _REDUCTIONS:
            raise ValueError(f"reduction: expected one of {_REDUCTIONS}, received {reduction!r}")
        self.name = name or snake_case(type(self).__name__)
        self.reduction = reduction

    def call(self, y_true, y_pred):
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred)")

    def gradient(self, y_true, y_pred):
        raise ValueError(
            f"loss: expected {self.name!r} to define gradient(y_true, y_pred), the derivative of "
            "the sum of its values with respect to y_pred, to be trained with; received none"
        )

    def __call__(self, y_true, y_pred, sample_weight=None, mask=None):
        """The reduced loss, a float (an array for reduction "none")."""
        if self._runs_in_kernel() and self.reduction not in ("none", None):
            return self._run(y_true, y_pred, sample_weight, mask, False, False)[0]
        y_true, y_pred = self._inputs(y_true, y_pred, sample_weight, mask)
        values = np.asarray(self.call(y_true, y_pred))
        mask = self._full_mask(y_true, y_pred, mask)
        return self._reduce(values, *self._weigh(values.shape, sample_weight, mask))

    def value_and_gradient(self, y_true, y_pred, sample_weight=None, mask=None):
        """The reduced loss and its float32 gradient with respect to y_pred.

        mask: bool, one for each value; False leaves the value out. Raises ValueError for shapes
        that do not fit and where the loss has no gradient.
        """
        if self._runs_in_kernel() and self.reduction not in ("none", None):
            value, _, gradient = self._run(y_true, y_pred, sample_weight, mask, False, True)
            return value, gradient
        shape = np.shape(y_pred)
        y_true, y_pred = self._inputs(y_true, y_pred, sample_weight, mask)
        gradient = np.asarray(self.gradient(y_true, y_pred), np.float32)
        if gradient.size != y_pred.size:
            raise ValueError(
                f"gradient: expected shape {y_pred.shape} from loss {self.name!r}, as y_pred, "
                f"received {gradient.shape}"
            )
        gradient = gradient.reshape(y_pred.shape)
        values = np.asarray(self.call(y_true, y_pred))
        mask = self._full_mask(y_true, y_pred, mask)
        weights, scale = self._weigh(values.shape, sample_weight, mask)
        factor = np.float32(scale)
        if weights is not None:
            factor = weights * factor
            if values.ndim == 0:
                factor = np.sum(factor)
            elif values.ndim == gradient.ndim - 1:
                factor = np.expand_dims(factor, getattr(self, "axis", -1))
        gradient = np.ascontiguousarray(gradient * factor, np.float32)
        return self._reduce(values, weights, scale), gradient.reshape(shape)

    def fused(self, y_true, z, sample_weight=None, mask=None, gradient=True):
        """The reduced loss, y_pred = fused_activation(z), and the gradient with respect to z.

        For y_pred in [0, 1] this is exact where the loss of y_pred itself has to be cut. Without
        `gradient` that is None. Raises ValueError for a loss without fused_activation.
        """
        raise ValueError(f"loss: expected one with a fused_activation, received {self.name!r}")

    def _inputs(self, y_true, y_pred, sample_weight, mask):
        y_pred, y_true = np.asarray(y_pred, np.float32), np.asarray(y_true, np.float32)
        return match_ranks(y_true, y_pred, _refers_to_steps(sample_weight, mask))

    def _full_mask(self, y_true, y_pred, mask):
        """The mask together with what the loss itself leaves out."""
        return mask

    def _weigh(self, shape, sample_weight, mask):
        """Weights that fit values of `shape` (or None), and what their sum is multiplied by."""
        reduction = self.reduction
        mean = reduction in ("sum_over_batch_size", "mean")
        weights = None
        if sample_weight is not None or mask is not None:
            if not shape:  # one value for the whole batch
                shape = np.shape(mask if sample_weight is None else sample_weight)
            weights = merge_mask(sample_weight, mask, shape, mean)
        if reduction == "mean_with_sample_weight" and weights is not None:
            total = float(np.sum(weights, dtype=np.float64))
        elif mean or reduction == "mean_with_sample_weight":
            total = math.prod(shape)
        else:
            return weights, 1.0
        return weights, 1.0 / total if total else 0.0

    def _reduce(self, values, weights, scale):
        if weights is not None:
            values = values * weights
        if self.reduction in ("none", None):
            return values
        return float(np.sum(values, dtype=np.float64)) * scale

    # The engine computes losses of some kinds from y_pred, or from what goes into the activation.

    def _runs_in_kernel(self) -> bool:
        return self._kernel is not None

    def _kernel_inputs(self, y_true, y_pred, expand):
        """Targets as the kernel takes them, y_pred, and the shape of the values."""
        if y_true.shape != y_pred.shape:
            y_true, y_pred = _pair(y_true, y_pred, expand)
        return np.ascontiguousarray(y_true, np.float32), y_pred, y_pred.shape[:-1]

    def _smoothing(self, classes: int) -> tuple[float, float]:
        """Factor and offset of the targets."""
        return 1.0, 0.0

    def _run(self, y_true, y_pred, sample_weight, mask, activation, gradient):
        """-> reduced loss, activation of y_pred or None, gradient or None."""
        y_pred = np.ascontiguousarray(y_pred, np.float32)
        shape = y_pred.shape
        expand = _refers_to_steps(sample_weight, mask)
        mask = self._full_mask(y_true, y_pred, mask)
        y_true, y_pred, rows = self._kernel_inputs(np.asarray(y_true), y_pred, expand)
        weights, scale = self._weigh(rows, sample_weight, mask)
        if weights is not None:
            if weights.shape != rows:
                weights = np.broadcast_to(weights, rows)
            weights = np.ascontiguousarray(weights)
        columns = y_pred.shape[-1]
        if self._kernel != _engine.SOFTMAX_CROSSENTROPY:
            scale = scale / columns if columns else 0.0
        factor, offset = self._smoothing(columns)
        value, y, dy = _engine.fused_loss(
            self._kernel, y_pred, y_true, weights, scale, factor, offset, activation, gradient
        )
        if y_pred.shape != shape:
            y = None if y is None else y.reshape(shape)
            dy = None if dy is None else dy.reshape(shape)
        return value * scale, y, dy


def _refers_to_steps(sample_weight, mask) -> bool:
    """Whether weights have an axis beyond the samples."""
    if sample_weight is None and mask is None:
        return False
    return any(x is not None and np.ndim(x) > 1 for x in (sample_weight, mask))


class LossFunctionWrapper(Loss):
    """The loss of a function (y_true, y_pred, **options); see the module about its gradient."""

    def __init__(self, fn, reduction="sum_over_batch_size", name=None, dtype=None, **options):
        super().__init__(name or getattr(fn, "__name__", None), reduction)
        self.fn, self._fn_options = fn, options

    def call(self, y_true, y_pred):
        return self.fn(y_true, y_pred, **self._fn_options)

    def gradient(self, y_true, y_pred):
        if not hasattr(self.fn, "gradient"):
            raise ValueError(
                f"loss: expected {self.name!r} to have an attribute gradient, a function of "
                "(y_true, y_pred) returning the derivative of the sum of its values with respect "
                "to y_pred, to be trained with; received none. "
                f"Attach one: {self.name}.gradient = lambda y_true, y_pred: ..."
            )
        return self.fn.gradient(y_true, y_pred, **self._fn_options)

    def get_config(self):
        return {**super().get_config(), "fn": serialize(self.fn), **self._fn_options}

    @classmethod
    def from_config(cls, config):
        fn = config["fn"]
        return cls(**{**config, "fn": fn if callable(fn) else deserialize(fn)})


class _FunctionLoss(Loss):
    """A loss of this module: `_function` with the options of `_arguments`."""

    _function: Callable
    _arguments: tuple[str, ...] = ()

    def __init__(self, reduction="sum_over_batch_size", name=None, dtype=None):
        super().__init__(name or self._function.__name__, reduction)

    def call(self, y_true, y_pred):
        return self._function(y_true, y_pred, **self._function_options())

    def gradient(self, y_true, y_pred):
        return self._function.gradient(y_true, y_pred, **self._function_options())

    def _function_options(self):
        return {name: getattr(self, name) for name in self._arguments}

    def get_config(self):
        return {**super().get_config(), **self._function_options()}


class MeanSquaredError(_FunctionLoss):
    """The mean of (y_true - y_pred) ** 2."""

    _function = staticmethod(mean_squared_error)
    _kernel = _engine.SQUARED_ERROR


class MeanAbsoluteError(_FunctionLoss):
    """The mean of abs(y_true - y_pred)."""

    _function = staticmethod(mean_absolute_error)
    _kernel = _engine.ABSOLUTE_ERROR


class MeanAbsolutePercentageError(_FunctionLoss):
    """100 times the mean of abs((y_true - y_pred) / y_true)."""

    _function = staticmethod(mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(_FunctionLoss):
    """The mean of (log(1 + y_true) - log(1 + y_pred)) ** 2."""

    _function = staticmethod(mean_squared_logarithmic_error)


class LogCosh(_FunctionLoss):
    """The mean of log(cosh(y_pred - y_true))."""

    _function = staticmethod(log_cosh)


class Hinge(_FunctionLoss):
    """The mean of max(1 - y_true * y_pred, 0), y_true being -1 or 1 (or 0 or 1)."""

    _function = staticmethod(hinge)


class SquaredHinge(_FunctionLoss):
    """The mean of max(1 - y_true * y_pred, 0) ** 2, y_true being -1 or 1 (or 0 or 1)."""

    _function = staticmethod(squared_hinge)


class CategoricalHinge(_FunctionLoss):
    """max(1 + the best of the wrong classes - the right one, 0)."""

    _function = staticmethod(categorical_hinge)


class KLDivergence(_FunctionLoss):
    """The sum of y_true * log(y_true / y_pred)."""

    _function = staticmethod(kl_divergence)


class Poisson(_FunctionLoss):
    """The mean of y_pred - y_true * log(y_pred)."""

    _function = staticmethod(poisson)


class Huber(_FunctionLoss):
    """Squared error, linear beyond `delta` (1.0)."""

    _function = staticmethod(huber)
    _arguments = ("delta",)

    def __init__(
        self, delta=1.0, reduction="sum_over_batch_size", name="huber_loss", dtype=None
    ):
        super().__init__(reduction, name)
        self.delta = delta


class CosineSimilarity(_FunctionLoss):
    """Minus the cosine of the angle between y_true and y_pred along `axis` (-1)."""

    _function = staticmethod(cosine_similarity)
    _arguments = ("axis",)

    def __init__(self, axis=-1, reduction="sum_over_batch_size", name=None, dtype=None):
        super().__init__(reduction, name)
        self.axis = axis


class _Crossentropy(_FunctionLoss):
    """What the crossentropies share: `fused`, from the input of a sigmoid or softmax."""

    from_logits = False
    axis = -1

    def _runs_in_kernel(self):
        return self.from_logits and self.axis == -1

    @property
    def fused_activation(self):
        if self.axis != -1:
            return None
        return "softmax" if self._kernel == _engine.SOFTMAX_CROSSENTROPY else "sigmoid"

    def fused(self, y_true, z, sample_weight=None, mask=None, gradient=True):
        if self.from_logits:
            warnings.warn(
                f"from_logits: expected False for the loss {self.name!r} after a "
                f"{self.fused_activation}, received True; the input of the {self.fused_activation} "
                "is taken for the logits",
                stacklevel=2,
            )
        value, y, dz = self._run(y_true, z, sample_weight, mask, True, gradient)
        if self.reduction in ("none", None):
            from_logits = {**self.get_config(), "from_logits": True}
            value = type(self).from_config(from_logits)(y_true, z, sample_weight, mask)
        return value, y, dz


class BinaryCrossentropy(_Crossentropy):
    """Crossentropy of y_true in [0, 1] and probabilities (`from_logits`: the sigmoid's input).

    from_logits False, label_smoothing 0.0 towards 1/2, axis -1 of the mean.
    """

    _function = staticmethod(binary_crossentropy)
    _arguments = ("from_logits", "label_smoothing", "axis")
    _kernel = _engine.SIGMOID_CROSSENTROPY

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(reduction, name)
        self.from_logits, self.axis = bool(from_logits), axis
        self.label_smoothing = _fraction("label_smoothing", label_smoothing)

    def _smoothing(self, classes):
        return 1.0 - self.label_smoothing, 0.5 * self.label_smoothing


class CategoricalCrossentropy(_Crossentropy):
    """Crossentropy of one-hot y_true and probabilities (`from_logits`: the softmax's input).

    from_logits False, label_smoothing 0.0 towards 1 / classes, axis -1 of the classes.
    """

    _function = staticmethod(categorical_crossentropy)
    _arguments = ("from_logits", "label_smoothing", "axis")
    _kernel = _engine.SOFTMAX_CROSSENTROPY

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(reduction, name)
        self.from_logits, self.axis = bool(from_logits), axis
        self.label_smoothing = _fraction("label_smoothing", label_smoothing)

    def _kernel_inputs(self, y_true, y_pred, expand):
        _warn_of_one_class(y_pred)
        return super()._kernel_inputs(y_true, y_pred, expand)

    def _smoothing(self, classes):
        return 1.0 - self.label_smoothing, self.label_smoothing / classes


class SparseCategoricalCrossentropy(_Crossentropy):
    """Crossentropy of class numbers and probabilities (`from_logits`: the softmax's input).

    from_logits False; samples of ignore_class (None) are left out, as by a mask; axis -1.
    """

    _function = staticmethod(sparse_categorical_crossentropy)
    _arguments = ("from_logits", "ignore_class", "axis")
    _kernel = _engine.SOFTMAX_CROSSENTROPY

    def __init__(
        self,
        from_logits=False,
        ignore_class=None,
        reduction="sum_over_batch_size",
        axis=-1,
        name=None,
        dtype=None,
    ):
        super().__init__(reduction, name)
        self.from_logits, self.ignore_class, self.axis = bool(from_logits), ignore_class, axis

    def _inputs(self, y_true, y_pred, sample_weight, mask):
        return np.asarray(y_true), np.asarray(y_pred, np.float32)

    def _full_mask(self, y_true, y_pred, mask):
        if self.ignore_class is None:
            return mask
        valid = class_labels(y_true, y_pred) != self.ignore_class
        return valid if mask is None else valid & fit_weights(np.asarray(mask), valid.shape, "mask")

    def _kernel_inputs(self, y_true, y_pred, expand):
        labels = class_labels(y_true, y_pred)
        if self.ignore_class is not None:
            labels = np.where(labels == self.ignore_class, 0, labels)
        return labels, y_pred, labels.shape


class BinaryFocalCrossentropy(_FunctionLoss):
    """Binary crossentropy that counts what is right already less; see the function.

    apply_class_balancing False, alpha 0.25, gamma 2.0, from_logits False, label_smoothing 0.0.
    """

    _function = staticmethod(binary_focal_crossentropy)
    _arguments = (
        *("apply_class_balancing", "alpha", "gamma", "from_logits", "label_smoothing", "axis"),
    )

    def __init__(
        self,
        apply_class_balancing=False,
        alpha=0.25,
        gamma=2.0,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(reduction, name)
        self.apply_class_balancing, self.alpha, self.gamma = apply_class_balancing, alpha, gamma
        self.from_logits, self.axis = bool(from_logits), axis
        self.label_smoothing = _fraction("label_smoothing", label_smoothing)


class CategoricalFocalCrossentropy(_FunctionLoss):
    """Categorical crossentropy that counts what is right already less; see the function.

    alpha 0.25 (or one for each class), gamma 2.0, from_logits False, label_smoothing 0.0.
    """

    _function = staticmethod(categorical_focal_crossentropy)
    _arguments = ("alpha", "gamma", "from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        alpha=0.25,
        gamma=2.0,
        from_logits=False,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(reduction, name)
        self.alpha, self.gamma = alpha, gamma
        self.from_logits, self.axis = bool(from_logits), axis
        self.label_smoothing = _fraction("label_smoothing", label_smoothing)


def _fraction(name: str, value) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], received {value!r}")
    return float(value)


# --- names

_CLASSES = (
    *(MeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError),
    *(MeanSquaredLogarithmicError, Huber, LogCosh, Hinge, SquaredHinge, CategoricalHinge),
    *(KLDivergence, Poisson, CosineSimilarity, BinaryCrossentropy, CategoricalCrossentropy),
    *(SparseCategoricalCrossentropy, BinaryFocalCrossentropy, CategoricalFocalCrossentropy),
)
_CLASS_OF = {cls._function: cls for cls in _CLASSES}
_TABLE = {cls.__name__: cls for cls in _CLASSES} | {fn.__name__: fn for fn in _CLASS_OF}
_TABLE |= {
    "LossFunctionWrapper": LossFunctionWrapper,
    "huber_loss": huber,
    "logcosh": log_cosh,
    "kullback_leibler_divergence": kl_divergence,
    "cosine_proximity": cosine_similarity,
}
for _names, _function in {
    ("bce", "BCE"): binary_crossentropy,
    ("kld", "KLD"): kl_divergence,
    ("mae", "MAE"): mean_absolute_error,
    ("mse", "MSE"): mean_squared_error,
    ("mape", "MAPE"): mean_absolute_percentage_error,
    ("msle", "MSLE"): mean_squared_logarithmic_error,
}.items():
    _TABLE |= dict.fromkeys(_names, _function)


def get(identifier):
    """Return the function or `Loss` for a name, a config dict, a class, or either itself.

    As in Keras the name of a function gives the function, that of a class an instance. None stays
    None. Raises ValueError for anything else.
    """
    if identifier is None:
        return None
    if isinstance(identifier, (str, Mapping)):
        identifier = deserialize(identifier)
    if inspect.isclass(identifier):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(
        "loss: expected a name, a config dict, a function or a Loss, "
        f"received {identifier!r}"
    )


def resolve(identifier, y_true_shape, y_pred_shape):
    """The `Loss` that compile(loss=identifier) stands for, given the shapes of y_true and y_pred.

    "crossentropy" and "ce" become binary_crossentropy for one output, else
    sparse_categorical_crossentropy for class numbers, else categorical_crossentropy.
    """
    if isinstance(identifier, str) and identifier.lower() in ("crossentropy", "ce"):
        loss = (binary_crossentropy, sparse_categorical_crossentropy, categorical_crossentropy)[
            kind_of_targets(y_true_shape, y_pred_shape)
        ]
    else:
        loss = get(identifier)
    if loss is None or isinstance(loss, Loss):
        return loss
    name = identifier if isinstance(identifier, str) else getattr(loss, "__name__", None)
    if loss in _CLASS_OF:
        return _CLASS_OF[loss](name=name)
    return LossFunctionWrapper(loss, name=name)


def kind_of_targets(y_true_shape, y_pred_shape) -> int:
    """0 for one output, 1 for class numbers, 2 for one-hot targets, as Keras guesses."""
    if y_pred_shape[-1] == 1:
        return 0
    return 1 if len(y_true_shape) < len(y_pred_shape) or y_true_shape[-1] == 1 else 2


def serialize(loss) -> dict | None:
    """The Keras config dict of a loss or loss function."""
    return serialize_object(loss, _TABLE, "keras.losses")


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own."""
    return deserialize_object(config, _TABLE, "loss", custom_objects)
