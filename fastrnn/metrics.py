"""Metrics over many batches, as keras.metrics: update_state, result, reset_state.

A metric function takes (y_true, y_pred) and returns values; their mean is the metric. A user's own
function and subclasses of `Metric` work wherever names do.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Real

import numpy as np

from . import _engine, losses
from .losses import class_labels, fit_weights, kind_of_targets, match_ranks
from .utils import Configurable, class_table, deserialize_object, serialize_object, snake_case

_EPSILON = 1e-7
_NEVER = -1e10  # what `top_k` gives the classes that are not among the first


# --- metric functions


def accuracy(y_true, y_pred):
    """1.0 where y_true == y_pred."""
    y_true, y_pred = match_ranks(np.asarray(y_true), np.asarray(y_pred))
    return np.equal(y_true, y_pred).astype(np.float32)


def binary_accuracy(y_true, y_pred, threshold: float = 0.5):
    """1.0 where y_true == (y_pred > threshold)."""
    y_true, y_pred = _binary(y_true, y_pred)
    matches = np.empty(y_pred.shape, np.float32)
    _engine.binary_matches(y_true, y_pred, threshold, matches)
    return matches


def categorical_accuracy(y_true, y_pred):
    """1.0 for each row whose largest y_true and y_pred are in the same place, the first of equals."""
    y_true, y_pred = _one_hot(y_true, y_pred)
    matches = np.empty(y_pred.shape[:-1], np.float32)
    _engine.class_matches(y_true, y_pred, matches)
    return matches


def sparse_categorical_accuracy(y_true, y_pred):
    """1.0 for each row whose largest y_pred is in the place y_true."""
    y_pred = np.ascontiguousarray(y_pred, np.float32)
    matches = np.empty(y_pred.shape[:-1], np.float32)
    _engine.class_matches(class_labels(y_true, y_pred), y_pred, matches)
    return matches


def top_k_categorical_accuracy(y_true, y_pred, k: int = 5):
    """1.0 for each row where the place of the largest y_true is among the k largest of y_pred."""
    y_true, y_pred = _one_hot(y_true, y_pred)
    return sparse_top_k_categorical_accuracy(np.argmax(y_true, axis=-1), y_pred, k)


def sparse_top_k_categorical_accuracy(y_true, y_pred, k: int = 5):
    """1.0 for each row where the place y_true is among the k largest of y_pred, equals included."""
    y_pred = np.asarray(y_pred, np.float32)
    labels = class_labels(y_true, y_pred)
    known = (labels >= 0) & (labels < y_pred.shape[-1])
    own = np.take_along_axis(y_pred, np.where(known, labels, 0)[..., None], -1)
    larger = np.count_nonzero(y_pred > own, axis=-1)
    return (known & np.isfinite(own[..., 0]) & (larger < k)).astype(np.float32)


def cosine_similarity(y_true, y_pred, axis: int = -1):
    """The cosine of the angle between y_true and y_pred along `axis`."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


def _binary(y_true, y_pred):
    y_pred = np.ascontiguousarray(y_pred, np.float32)
    y_true = np.ascontiguousarray(y_true, np.float32)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = _same_shape(y_true, y_pred)
    return y_true, y_pred


def _one_hot(y_true, y_pred):
    y_pred = np.ascontiguousarray(y_pred, np.float32)
    y_true = np.ascontiguousarray(y_true, np.float32)
    if y_true.shape != y_pred.shape:
        _raise_shapes(y_true, y_pred)
    return y_true, y_pred


def _same_shape(y_true, y_pred):
    true, pred = match_ranks(y_true, y_pred)
    if true.shape != pred.shape:
        _raise_shapes(y_true, y_pred)
    return true, pred


def _raise_shapes(y_true, y_pred):
    raise ValueError(
        f"y_true and y_pred: expected the same shape, received {y_true.shape} and {y_pred.shape}"
    )


# --- base classes


class Metric(Configurable):
    """Base class: override update_state(y_true, y_pred, sample_weight=None), result() and
    reset_state().

    uses_mask: whether update_state takes a `mask` (bool, False leaves a value out) as well.
    """

    uses_mask = False
    _options: tuple[str, ...] = ("name", "dtype")

    def __init__(self, dtype=None, name=None):
        self.name = name or snake_case(type(self).__name__)
        self.dtype = "float32"

    def update_state(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} must define update_state")

    def result(self):
        raise NotImplementedError(f"{type(self).__name__} must define result")

    def reset_state(self):
        raise NotImplementedError(f"{type(self).__name__} must define reset_state")

    def reset_states(self):
        """reset_state under its name in Keras 2."""
        self.reset_state()

    def __call__(self, *args, **kwargs):
        """Take in more values and return the result so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"


def _samplewise(values, sample_weight, reduce: Callable):
    """Weighted values and weights reduced to one for each sample, as Keras does."""
    if sample_weight is not None:
        weights = np.asarray(sample_weight, np.float32)
        if weights.ndim > values.ndim:
            weights = fit_weights(weights, values.shape)
        elif values.ndim == weights.ndim + 1 and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim > weights.ndim:
            values = reduce(values, axis=tuple(range(weights.ndim, values.ndim)))
        weights = np.broadcast_to(fit_weights(weights, values.shape), values.shape)
        values = values * weights
        if weights.ndim > 1:
            weights = reduce(weights, axis=tuple(range(1, weights.ndim)))
        sample_weight = weights
    if values.ndim > 1:
        values = reduce(values, axis=tuple(range(1, values.ndim)))
    return values, sample_weight


def _sum(x) -> float:
    return float(np.sum(x, dtype=np.float64))


class Sum(Metric):
    """The sum of all values, each times its sample weight."""

    def __init__(self, name="sum", dtype=None):
        super().__init__(dtype, name)
        self.reset_state()

    def update_state(self, values, sample_weight=None):
        values, _ = _samplewise(np.asarray(values, np.float32), sample_weight, np.sum)
        self.total += _sum(values)

    def result(self):
        return self.total

    def reset_state(self):
        self.total = 0.0


class Mean(Metric):
    """The mean of all values, weighted by sample_weight; 0 before the first."""

    def __init__(self, name="mean", dtype=None):
        super().__init__(dtype, name)
        self.reset_state()

    def update_state(self, values, sample_weight=None):
        if isinstance(values, float) and (sample_weight is None or isinstance(sample_weight, Real)):
            weight = 1.0 if sample_weight is None else sample_weight
            self.total += values * weight
            self.count += weight
            return
        values = np.asarray(values, np.float32)
        values, weights = _samplewise(values, sample_weight, np.mean)
        self.total += _sum(values)
        self.count += (len(values) if values.ndim else 1) if weights is None else _sum(weights)

    def result(self):
        return self.total / self.count if self.count else 0.0

    def reset_state(self):
        self.total = self.count = 0.0


class MeanMetricWrapper(Mean):
    """The mean of what a function (y_true, y_pred, **options) returns."""

    uses_mask = True

    def __init__(self, fn, name=None, dtype=None, **options):
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self._fn, self._fn_options = fn, options

    def update_state(self, y_true, y_pred, sample_weight=None, mask=None):
        if sample_weight is None and mask is None:
            if not self._count_all(y_true, y_pred):
                super().update_state(self._values(y_true, y_pred))
            return
        if mask is not None:
            mask = np.asarray(mask, np.float32)
            if sample_weight is not None:
                mask = mask * fit_weights(np.asarray(sample_weight, np.float32), mask.shape)
            sample_weight = mask
            if mask.ndim > 1:
                y_true, y_pred = match_ranks(np.asarray(y_true), np.asarray(y_pred), expand=True)
        super().update_state(self._values(y_true, y_pred), sample_weight)

    def _values(self, y_true, y_pred):
        return self._fn(y_true, y_pred, **self._fn_options)

    def _count_all(self, y_true, y_pred) -> bool:
        """Take in a batch without weights in a faster way, if there is one."""
        return False

    def _add(self, total: float, samples: int, size: int) -> bool:
        """Take in the sum of `size` values of a batch."""
        if samples:
            self.total += total * samples / size
            self.count += samples
        return True

    def get_config(self):
        config = {**super().get_config(), **self._fn_options}
        if type(self) is MeanMetricWrapper:
            config["fn"] = losses.serialize(self._fn)
        return config

    @classmethod
    def from_config(cls, config):
        if isinstance(config.get("fn"), (str, Mapping)):
            config = {**config, "fn": losses.deserialize(config["fn"])}
        return cls(**config)


# --- accuracy


class Accuracy(MeanMetricWrapper):
    """How often y_true == y_pred."""

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often y_true == (y_pred > threshold), threshold 0.5."""

    def __init__(self, name="binary_accuracy", dtype=None, threshold=0.5):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)
        self.threshold = threshold

    def _count_all(self, y_true, y_pred):
        y_true, y_pred = _binary(y_true, y_pred)
        matches = _engine.binary_matches(y_true, y_pred, self.threshold)
        return self._add(matches, len(y_pred), y_pred.size)


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest of y_pred is in the place of the largest of one-hot y_true."""

    def __init__(self, name="categorical_accuracy", dtype=None):
        super().__init__(categorical_accuracy, name, dtype)

    def _count_all(self, y_true, y_pred):
        y_true, y_pred = _one_hot(y_true, y_pred)
        matches = _engine.class_matches(y_true, y_pred)
        return self._add(matches, len(y_pred), math.prod(y_pred.shape[:-1]))


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest of y_pred is in the place y_true."""

    def __init__(self, name="sparse_categorical_accuracy", dtype=None):
        super().__init__(sparse_categorical_accuracy, name, dtype)

    def _count_all(self, y_true, y_pred):
        y_pred = np.ascontiguousarray(y_pred, np.float32)
        labels = class_labels(y_true, y_pred)
        return self._add(_engine.class_matches(labels, y_pred), len(y_pred), labels.size)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the place of the largest of y_true is among the k (5) largest of y_pred."""

    def __init__(self, k=5, name="top_k_categorical_accuracy", dtype=None):
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the place y_true is among the k (5) largest of y_pred."""

    def __init__(self, k=5, name="sparse_top_k_categorical_accuracy", dtype=None):
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


# --- losses as metrics


class MeanSquaredError(MeanMetricWrapper):
    """The mean of (y_true - y_pred) ** 2."""

    def __init__(self, name="mean_squared_error", dtype=None):
        super().__init__(losses.mean_squared_error, name, dtype)

    def _count_all(self, y_true, y_pred):
        return _add_errors(self, _engine.SQUARED_ERROR, y_true, y_pred)


class RootMeanSquaredError(MeanMetricWrapper):
    """The square root of the mean of (y_true - y_pred) ** 2. A mask does not reach it, as in Keras."""

    uses_mask = False

    def __init__(self, name="root_mean_squared_error", dtype=None):
        super().__init__(losses.mean_squared_error, name, dtype)

    def _count_all(self, y_true, y_pred):
        return _add_errors(self, _engine.SQUARED_ERROR, y_true, y_pred)

    def result(self):
        return math.sqrt(super().result())


class MeanAbsoluteError(MeanMetricWrapper):
    """The mean of abs(y_true - y_pred)."""

    def __init__(self, name="mean_absolute_error", dtype=None):
        super().__init__(losses.mean_absolute_error, name, dtype)

    def _count_all(self, y_true, y_pred):
        return _add_errors(self, _engine.ABSOLUTE_ERROR, y_true, y_pred)


def _add_errors(metric, kind, y_true, y_pred) -> bool:
    y_true, y_pred = _binary(y_true, y_pred)
    total, _, _ = _engine.fused_loss(kind, y_pred, y_true, activation=False, gradient=False)
    return metric._add(total, len(y_pred), y_pred.size)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """100 times the mean of abs((y_true - y_pred) / y_true)."""

    def __init__(self, name="mean_absolute_percentage_error", dtype=None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """The mean of (log(1 + y_true) - log(1 + y_pred)) ** 2."""

    def __init__(self, name="mean_squared_logarithmic_error", dtype=None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


class LogCoshError(MeanMetricWrapper):
    """The mean of log(cosh(y_pred - y_true))."""

    def __init__(self, name="logcosh", dtype=None):
        super().__init__(losses.log_cosh, name, dtype)


class CosineSimilarity(MeanMetricWrapper):
    """The mean cosine of the angle between y_true and y_pred along `axis` (-1)."""

    def __init__(self, name="cosine_similarity", dtype=None, axis=-1):
        super().__init__(cosine_similarity, name, dtype, axis=axis)


class KLDivergence(MeanMetricWrapper):
    """The mean over samples of sum(y_true * log(y_true / y_pred))."""

    def __init__(self, name="kl_divergence", dtype=None):
        super().__init__(losses.kl_divergence, name, dtype)


class Poisson(MeanMetricWrapper):
    """The mean of y_pred - y_true * log(y_pred)."""

    def __init__(self, name="poisson", dtype=None):
        super().__init__(losses.poisson, name, dtype)


class Hinge(MeanMetricWrapper):
    """The mean of max(1 - y_true * y_pred, 0)."""

    def __init__(self, name="hinge", dtype=None):
        super().__init__(losses.hinge, name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """The mean of max(1 - y_true * y_pred, 0) ** 2."""

    def __init__(self, name="squared_hinge", dtype=None):
        super().__init__(losses.squared_hinge, name, dtype)


class CategoricalHinge(MeanMetricWrapper):
    """The mean of max(1 + the best of the wrong classes - the right one, 0)."""

    def __init__(self, name="categorical_hinge", dtype=None):
        super().__init__(losses.categorical_hinge, name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """The mean binary crossentropy; options as the loss."""

    def __init__(
        self, name="binary_crossentropy", dtype=None, from_logits=False, label_smoothing=0
    ):
        super().__init__(
            losses.binary_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
        )


class CategoricalCrossentropy(MeanMetricWrapper):
    """The mean categorical crossentropy; options as the loss."""

    def __init__(
        self,
        name="categorical_crossentropy",
        dtype=None,
        from_logits=False,
        label_smoothing=0,
        axis=-1,
    ):
        super().__init__(
            losses.categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
            axis=axis,
        )


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """The mean crossentropy of class numbers; options as the loss.

    Samples of ignore_class are left out; Keras counts them as 0.
    """

    def __init__(
        self,
        name="sparse_categorical_crossentropy",
        dtype=None,
        from_logits=False,
        ignore_class=None,
        axis=-1,
    ):
        super().__init__(
            losses.sparse_categorical_crossentropy,
            name,
            dtype,
            from_logits=from_logits,
            ignore_class=ignore_class,
            axis=axis,
        )


# --- confusion


def _listed(thresholds) -> list[float]:
    values = list(thresholds) if isinstance(thresholds, (list, tuple, np.ndarray)) else [thresholds]
    for value in values:
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"thresholds: expected numbers in [0, 1], received {value!r}")
    return [float(value) for value in values]


def _evenly_spaced(thresholds) -> bool:
    n = len(thresholds)
    return n > 2 and np.allclose(thresholds, np.arange(n) / (n - 1), atol=_EPSILON)


def _first_k(y_pred, k: int):
    """y_pred where among the k largest of its row, else _NEVER."""
    first = np.argsort(-y_pred, axis=-1, kind="stable")[..., :k]
    kept = np.full_like(y_pred, _NEVER)
    np.put_along_axis(kept, first, np.take_along_axis(y_pred, first, -1), -1)
    return kept


class _Confusion(Metric):
    """Weighted counts of right and wrong positives and negatives at each threshold."""

    def __init__(self, thresholds, name=None, dtype=None, top_k=None, class_id=None):
        super().__init__(dtype, name)
        self.top_k, self.class_id = top_k, class_id
        self._thresholds = np.asarray(thresholds, np.float32)
        self._even = _evenly_spaced(self._thresholds)
        self._labels = ()  # (n,) to count n labels apart
        self.reset_state()

    def reset_state(self):
        shape = (len(self._thresholds), *self._labels)
        self.true_positives, self.false_positives = np.zeros(shape), np.zeros(shape)
        self.true_negatives, self.false_negatives = np.zeros(shape), np.zeros(shape)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred, y_true = np.asarray(y_pred, np.float32), np.asarray(y_true, np.float32)
        y_true, y_pred = _same_shape(y_true, y_pred)
        weights = None
        if sample_weight is not None:
            weights = fit_weights(np.asarray(sample_weight, np.float32), y_pred.shape)
            weights = np.broadcast_to(weights, y_pred.shape)
        if self.top_k is not None:
            y_pred = _first_k(y_pred, self.top_k)
        if self.class_id is not None:
            if y_pred.ndim == 1:
                raise ValueError(
                    f"y_pred: expected classes along the last axis for class_id, "
                    f"received shape {y_pred.shape}"
                )
            y_true, y_pred = y_true[..., self.class_id], y_pred[..., self.class_id]
            weights = None if weights is None else weights[..., self.class_id]
        self._count(y_true != 0, y_pred, weights)

    def _count(self, actual, y_pred, weights):
        if self._labels:
            place = np.broadcast_to(np.arange(self._labels[0]), y_pred.shape).ravel()
        else:
            place = 0
        weights = np.ones(y_pred.size) if weights is None else weights.ravel()
        actual, y_pred = actual.ravel(), y_pred.ravel()
        positive, negative = np.where(actual, weights, 0), np.where(actual, 0, weights)
        above = self._above_even if self._even else self._above_each
        tp, fp = above(y_pred, place, positive), above(y_pred, place, negative)
        shape = self.true_positives.shape
        tp, fp = tp.reshape(shape), fp.reshape(shape)
        columns = math.prod(self._labels)
        of_label = place + np.zeros(y_pred.size, np.intp)
        positives = np.bincount(of_label, positive, columns).reshape(self._labels)
        negatives = np.bincount(of_label, negative, columns).reshape(self._labels)
        self.true_positives += tp
        self.false_positives += fp
        self.false_negatives += positives - tp
        self.true_negatives += negatives - fp

    def _above_even(self, y_pred, place, weights):
        """Sum of the weights where y_pred is above each of evenly spaced thresholds."""
        n, columns = len(self._thresholds), math.prod(self._labels)
        bucket = np.ceil(np.clip(y_pred, 0, 1) * np.float32(n - 1)) - 1
        if self._thresholds[0] < 0:
            bucket = np.maximum(bucket, 0)
        inside = bucket >= 0
        bucket = np.where(inside, bucket, 0).astype(np.intp)
        sums = np.bincount(bucket * columns + place, np.where(inside, weights, 0), n * columns)
        return np.cumsum(sums.reshape(n, columns)[::-1], axis=0)[::-1]

    def _above_each(self, y_pred, place, weights):
        columns = math.prod(self._labels)
        of_label = place + np.zeros(y_pred.size, np.intp)
        return np.array(
            [
                np.bincount(of_label, np.where(y_pred > threshold, weights, 0), columns)
                for threshold in self._thresholds
            ]
        )

    def _single(self, values):
        """A float for one threshold, else an array."""
        return float(values[0]) if len(self._thresholds) == 1 else values


def _ratio(a, b):
    """a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=b != 0)


class _Count(_Confusion):
    _options = ("name", "dtype", "thresholds")

    def __init__(self, thresholds=None, name=None, dtype=None):
        self.thresholds = thresholds
        super().__init__(_listed(0.5 if thresholds is None else thresholds), name, dtype)


class TruePositives(_Count):
    """How many y_true != 0 have y_pred > threshold (0.5, or a list)."""

    def result(self):
        return self._single(self.true_positives)


class FalsePositives(_Count):
    """How many y_true == 0 have y_pred > threshold (0.5, or a list)."""

    def result(self):
        return self._single(self.false_positives)


class TrueNegatives(_Count):
    """How many y_true == 0 have y_pred <= threshold (0.5, or a list)."""

    def result(self):
        return self._single(self.true_negatives)


class FalseNegatives(_Count):
    """How many y_true != 0 have y_pred <= threshold (0.5, or a list)."""

    def result(self):
        return self._single(self.false_negatives)


class _Rate(_Confusion):
    _options = ("name", "dtype", "thresholds", "top_k", "class_id")

    def __init__(self, thresholds=None, top_k=None, class_id=None, name=None, dtype=None):
        self.thresholds = thresholds
        values = [_NEVER] if top_k is not None else [0.5]
        if thresholds is not None:
            values = _listed(thresholds)
        super().__init__(values, name, dtype, top_k, class_id)


class Precision(_Rate):
    """The share of right ones among the positive, y_pred > threshold (0.5, or a list).

    top_k (None): only the k largest of a row are positive. class_id (None): one class only.
    """

    def result(self):
        positives = self.true_positives + self.false_positives
        return self._single(_ratio(self.true_positives, positives))


class Recall(_Rate):
    """The share of y_true != 0 that is found, y_pred > threshold (0.5, or a list).

    top_k (None): only the k largest of a row are found. class_id (None): one class only.
    """

    def result(self):
        actual = self.true_positives + self.false_negatives
        return self._single(_ratio(self.true_positives, actual))


class _AtRate(_Confusion):
    """The best of one rate among the thresholds where another is at least `self._least`."""

    def __init__(self, least, argument, num_thresholds, class_id, name, dtype):
        if not 0 <= least <= 1:
            raise ValueError(f"{argument}: expected a number in [0, 1], received {least}")
        if num_thresholds <= 0:
            raise ValueError(f"num_thresholds: expected an int > 0, received {num_thresholds}")
        self._least, self.num_thresholds = least, num_thresholds
        setattr(self, argument, least)
        thresholds = np.linspace(0, 1, num_thresholds) if num_thresholds > 1 else [0.5]
        super().__init__(thresholds, name, dtype, class_id=class_id)
        self._even = num_thresholds > 1

    def _best(self, rate, where):
        return float(np.max(np.where(where >= self._least, rate, 0), initial=0))

    def _sensitivity(self):
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    def _specificity(self):
        return _ratio(self.true_negatives, self.true_negatives + self.false_positives)

    def _precision(self):
        return _ratio(self.true_positives, self.true_positives + self.false_positives)


class SensitivityAtSpecificity(_AtRate):
    """The best sensitivity with at least this specificity, over num_thresholds (200)."""

    _options = ("name", "dtype", "specificity", "num_thresholds", "class_id")

    def __init__(self, specificity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(specificity, "specificity", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._sensitivity(), self._specificity())


class SpecificityAtSensitivity(_AtRate):
    """The best specificity with at least this sensitivity, over num_thresholds (200)."""

    _options = ("name", "dtype", "sensitivity", "num_thresholds", "class_id")

    def __init__(self, sensitivity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(sensitivity, "sensitivity", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._specificity(), self._sensitivity())


class PrecisionAtRecall(_AtRate):
    """The best precision with at least this recall, over num_thresholds (200)."""

    _options = ("name", "dtype", "recall", "num_thresholds", "class_id")

    def __init__(self, recall, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(recall, "recall", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._precision(), self._sensitivity())


class RecallAtPrecision(_AtRate):
    """The best recall with at least this precision, over num_thresholds (200)."""

    _options = ("name", "dtype", "precision", "num_thresholds", "class_id")

    def __init__(self, precision, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(precision, "precision", num_thresholds, class_id, name, dtype)

    def result(self):
        return self._best(self._sensitivity(), self._precision())


class AUC(_Confusion):
    """The area under the curve of rates over the thresholds.

    num_thresholds 200, evenly spaced in [0, 1], or the list `thresholds` with 0 and 1 added.
    curve "ROC" (sensitivity over false positive rate), "PR" (precision over recall) or "PRGAIN";
    summation_method "interpolation" (for PR after Davis and Goadrich, 2006), "minoring" or
    "majoring". multi_label: the mean of an area for each label (num_labels if known), weighted by
    label_weights, which weigh the labels together otherwise. from_logits: y_pred goes through a
    sigmoid first.
    """

    _options = (
        *("name", "dtype", "num_thresholds", "curve", "summation_method", "multi_label"),
        *("num_labels", "label_weights", "from_logits"),
    )

    def __init__(
        self,
        num_thresholds=200,
        curve="ROC",
        summation_method="interpolation",
        name=None,
        dtype=None,
        thresholds=None,
        multi_label=False,
        num_labels=None,
        label_weights=None,
        from_logits=False,
    ):
        self.curve = _choice("curve", curve, ("ROC", "PR", "PRGAIN"))
        self.summation_method = _choice(
            "summation_method", summation_method, ("interpolation", "majoring", "minoring")
        )
        if thresholds is not None:
            inner = sorted(_listed(thresholds))
        elif num_thresholds > 1:
            inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
        else:
            raise ValueError(f"num_thresholds: expected an int > 1, received {num_thresholds}")
        if num_labels and not multi_label:
            raise ValueError(
                f"num_labels: expected None without multi_label, received {num_labels}"
            )
        self.num_thresholds = len(inner) + 2
        self.multi_label, self.num_labels = bool(multi_label), num_labels
        self.label_weights = None if label_weights is None else list(label_weights)
        self.from_logits = bool(from_logits)
        self._inner = inner if thresholds is not None else None
        super().__init__([-_EPSILON, *inner, 1 + _EPSILON], name, dtype)
        self._even = _evenly_spaced([0.0, *inner, 1.0]) or thresholds is None
        if num_labels:
            self._labels = (num_labels,)
            self.reset_state()

    @property
    def thresholds(self) -> list[float]:
        return [float(threshold) for threshold in self._thresholds]

    def get_config(self):
        config = super().get_config()
        return config if self._inner is None else {**config, "thresholds": self._inner}

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = np.asarray(y_pred, np.float32)
        if self.from_logits:
            y_pred = losses._sigmoid(y_pred)
        if self.multi_label:
            if y_pred.ndim != 2 or self._labels not in ((), y_pred.shape[1:]):
                labels = self._labels[0] if self._labels else "labels"
                raise ValueError(
                    f"y_pred: expected shape (samples, {labels}) with multi_label, "
                    f"received {y_pred.shape}"
                )
            if not self._labels:
                self._labels = y_pred.shape[1:]
                self.reset_state()
        elif self.label_weights is not None:
            weights = np.broadcast_to(np.asarray(self.label_weights, np.float32), y_pred.shape)
            if sample_weight is not None:
                given = np.asarray(sample_weight, np.float32)
                weights = weights * fit_weights(given, y_pred.shape)
            sample_weight = weights
        super().update_state(y_true, y_pred, sample_weight)

    def result(self):
        tp, fp = self.true_positives, self.false_positives
        tn, fn = self.true_negatives, self.false_negatives
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._over_labels(self._interpolated_precision())
        recall = _ratio(tp, tp + fn)
        if self.curve == "ROC":
            x, y = _ratio(fp, fp + tn), recall
        elif self.curve == "PR":
            x, y = recall, _ratio(tp, tp + fp)
        else:
            scale = _ratio(tp + fn, tn + fp)
            x = np.where(tp == 0, 0, np.maximum(1 - scale * _ratio(fn, tp), 0))
            y = np.where(tp == 0, 1, 1 - scale * _ratio(fp, tp))
        if self.summation_method == "interpolation":
            heights = (y[:-1] + y[1:]) / 2
        elif self.summation_method == "minoring":
            heights = np.minimum(y[:-1], y[1:])
        else:
            heights = np.maximum(y[:-1], y[1:])
        return self._over_labels((x[:-1] - x[1:]) * heights)

    def _interpolated_precision(self):
        tp, positives = self.true_positives, self.true_positives + self.false_positives
        dtp, dp = tp[:-1] - tp[1:], positives[:-1] - positives[1:]
        slope = _ratio(dtp, np.maximum(dp, 0))
        intercept = tp[1:] - slope * positives[1:]
        both = (positives[:-1] > 0) & (positives[1:] > 0)
        ratio = np.where(both, _ratio(positives[:-1], positives[1:]), 1)
        actual = np.maximum(tp[1:] + self.false_negatives[1:], 0)
        return _ratio(slope * (dtp + intercept * np.log(ratio)), actual)

    def _over_labels(self, terms):
        areas = np.sum(terms, axis=0)
        if not self.multi_label:
            return float(areas)
        if self.label_weights is None:
            return float(np.mean(areas))
        weights = np.asarray(self.label_weights, np.float64)
        return float(_ratio(np.sum(areas * weights), np.sum(weights)))


def _choice(name: str, value, allowed):
    for choice in allowed:
        if isinstance(value, str) and value.lower() == choice.lower():
            return choice
    raise ValueError(f"{name}: expected one of {', '.join(allowed)}, received {value!r}")


class FBetaScore(Metric):
    """(1 + beta ** 2) * precision * recall / (beta ** 2 * precision + recall) for each class.

    y_true and y_pred are (samples, classes). average None (an array), "micro", "macro" or
    "weighted"; beta 1.0; threshold None (the largest of a row is positive) or a number in (0, 1].
    """

    _options = ("name", "dtype", "average", "beta", "threshold")

    def __init__(self, average=None, beta=1.0, threshold=None, name="fbeta_score", dtype=None):
        super().__init__(dtype, name)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                f'average: expected None, "micro", "macro" or "weighted", received {average!r}'
            )
        if not isinstance(beta, float) or beta <= 0:
            raise ValueError(f"beta: expected a float > 0, received {beta!r}")
        if threshold is not None and not (isinstance(threshold, float) and 0 < threshold <= 1):
            raise ValueError(
                f"threshold: expected None or a float in (0, 1], received {threshold!r}"
            )
        self.average, self.beta, self.threshold = average, beta, threshold
        self.reset_state()

    def reset_state(self):
        self.true_positives = self.false_positives = self.false_negatives = 0.0

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = np.asarray(y_true, np.float64), np.asarray(y_pred, np.float32)
        if y_true.ndim != 2 or y_true.shape != y_pred.shape:
            raise ValueError(
                "y_true and y_pred: expected shape (samples, classes), "
                f"received {y_true.shape} and {y_pred.shape}"
            )
        if self.threshold is None:
            largest = np.max(y_pred, axis=-1, keepdims=True)
            found = (y_pred >= largest) & (np.abs(y_pred) > 1e-9)
        else:
            found = y_pred > self.threshold
        weights = 1.0 if sample_weight is None else np.asarray(sample_weight, np.float64)[:, None]
        axis = None if self.average == "micro" else 0
        self.true_positives = self.true_positives + np.sum(found * y_true * weights, axis)
        self.false_positives = self.false_positives + np.sum(found * (1 - y_true) * weights, axis)
        self.false_negatives = self.false_negatives + np.sum(~found * y_true * weights, axis)

    def result(self):
        tp, actual = self.true_positives, self.true_positives + self.false_negatives
        precision = tp / (tp + self.false_positives + _EPSILON)
        recall = tp / (actual + _EPSILON)
        square = self.beta**2
        score = (1 + square) * precision * recall / (square * precision + recall + _EPSILON)
        if self.average == "weighted":
            return float(np.sum(score * actual / (np.sum(actual) + _EPSILON)))
        return score if self.average is None else float(np.mean(score))


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall for each class; options as FBetaScore."""

    _options = ("name", "dtype", "average", "threshold")

    def __init__(self, average=None, threshold=None, name="f1_score", dtype=None):
        super().__init__(average, 1.0, threshold, name, dtype)


# --- names

_TABLE = class_table(
    *(Mean, Sum, MeanMetricWrapper, Accuracy, BinaryAccuracy, CategoricalAccuracy),
    *(SparseCategoricalAccuracy, TopKCategoricalAccuracy, SparseTopKCategoricalAccuracy),
    *(MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError),
    *(MeanSquaredLogarithmicError, LogCoshError, CosineSimilarity, KLDivergence, Poisson),
    *(Hinge, SquaredHinge, CategoricalHinge, BinaryCrossentropy, CategoricalCrossentropy),
    *(SparseCategoricalCrossentropy, TruePositives, FalsePositives, TrueNegatives),
    *(FalseNegatives, Precision, Recall, SensitivityAtSpecificity, SpecificityAtSensitivity),
    *(PrecisionAtRecall, RecallAtPrecision, AUC, FBetaScore, F1Score),
    acc=Accuracy,
    cosine_proximity=CosineSimilarity,
    logcosh=LogCoshError,
    log_cosh=LogCoshError,
    kullback_leibler_divergence=KLDivergence,
)
_TABLE |= {snake_case(cls.__name__): cls for cls in list(_TABLE.values())}
for _name, _cls in {
    "bce": BinaryCrossentropy,
    "kld": KLDivergence,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "mse": MeanSquaredError,
    "msle": MeanSquaredLogarithmicError,
    "rmse": RootMeanSquaredError,
}.items():
    _TABLE |= {_name: _cls, _name.upper(): _cls}


def get(identifier):
    """Return the metric for a name, a config dict, a class, an instance or a function itself.

    None stays None. Raises ValueError for anything else.
    """
    if identifier is None:
        return None
    if isinstance(identifier, (str, Mapping)):
        return deserialize(identifier)
    if inspect.isclass(identifier):
        return identifier()
    if callable(identifier):
        return identifier
    raise ValueError(
        f"metric: expected a name, a config dict, a Metric or a function, received {identifier!r}"
    )


def resolve(identifier, y_true_shape, y_pred_shape) -> Metric:
    """The `Metric` that compile(metrics=[identifier]) stands for, given shapes of y_true, y_pred.

    "accuracy" and "acc" become the binary one for one output, else the sparse categorical one for
    class numbers, else the categorical one; "crossentropy" and "ce" likewise. The metric is named
    as the identifier if that is a string. Raises ValueError for what is no metric.
    """
    if identifier is None:
        raise ValueError("metric: expected a name, a Metric or a function, received None")
    known = identifier.lower() if isinstance(identifier, str) else None
    if known in ("accuracy", "acc"):
        kinds = BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy
        metric = kinds[kind_of_targets(y_true_shape, y_pred_shape)]()
    elif known in ("crossentropy", "ce"):
        kinds = BinaryCrossentropy, SparseCategoricalCrossentropy, CategoricalCrossentropy
        metric = kinds[kind_of_targets(y_true_shape, y_pred_shape)]()
    else:
        metric = get(identifier)
    if not isinstance(metric, Metric):
        name = getattr(metric, "name", None) or getattr(metric, "__name__", None)
        metric = MeanMetricWrapper(metric, name=name or snake_case(type(metric).__name__))
    if known is not None:
        metric.name = identifier
    return metric


def serialize(metric) -> dict | None:
    """The Keras config dict of a metric."""
    return serialize_object(metric, _TABLE, "keras.metrics")


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own."""
    return deserialize_object(config, _TABLE, "metric", custom_objects)
