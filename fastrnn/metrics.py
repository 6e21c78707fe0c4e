"""Metrics over many batches, as keras.metrics: update_state, result, reset_state.

A metric function takes (y_true, y_pred) and returns values; their mean is the metric. A user's own
function and subclasses of `Metric` work wherever names do.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn._public import public
from fastrnn.arrays import contiguous

from . import _engine, checks, loss_functions
from .confusion_metrics import (
    AUC,
    F1Score,
    FalseNegatives,
    FalsePositives,
    FBetaScore,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from .layers.base import Layer
from .loss_functions import (
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    check_axes,
    class_labels,
    hinge,
    kl_divergence,
    log_cosh,
    match_ranks,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    same_shape,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from .losses import kind_of_targets
from .metric import Mean, MeanMetricWrapper, Metric, Sum
from .tensors import tensor
from .utils import class_table, deserialize_object, serialize_object, snake_case

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn._types import Axes, Whole


__all__ = [
    "AUC", "Accuracy", "BinaryAccuracy", "BinaryCrossentropy", "CRFAccuracy", "CRFViterbiAccuracy",
    "CategoricalAccuracy", "CategoricalCrossentropy", "CategoricalHinge", "CosineSimilarity",
    "F1Score", "FBetaScore", "FalseNegatives", "FalsePositives", "Hinge", "KLDivergence",
    "LogCoshError", "Mean", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanMetricWrapper",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "Metric", "Poisson", "Precision",
    "PrecisionAtRecall", "Recall", "RecallAtPrecision", "RootMeanSquaredError",
    "SensitivityAtSpecificity", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy", "SpecificityAtSensitivity", "SquaredHinge", "Sum",
    "TopKCategoricalAccuracy", "TrueNegatives", "TruePositives", "accuracy", "binary_accuracy",
    "binary_crossentropy", "categorical_accuracy", "categorical_crossentropy", "categorical_hinge",
    "cosine_similarity", "deserialize", "get", "hinge", "kl_divergence", "log_cosh",
    "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "poisson", "serialize", "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy", "sparse_top_k_categorical_accuracy", "squared_hinge",
    "top_k_categorical_accuracy",
]  # fmt: skip
public(__name__)

# --- metric functions


@tensor
def accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """1.0 where y_true == y_pred."""
    y_true, y_pred = match_ranks(np.asarray(y_true), np.asarray(y_pred))
    return np.equal(y_true, y_pred).astype(np.float32)


@tensor
def binary_accuracy(y_true: ArrayLike, y_pred: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """1.0 where y_true == (y_pred > threshold)."""
    y_true, y_pred = _same_shape(y_true, y_pred, broadcast=True)
    matches = np.empty(y_pred.shape, np.float32)
    _engine.binary_matches(y_true, y_pred, threshold, matches)
    return matches


@tensor
def categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """1.0 for each row whose largest y_true and y_pred are in the same place."""
    check_axes(y_true, y_pred)
    y_true, y_pred = _same_shape(y_true, y_pred)
    matches = np.empty(y_pred.shape[:-1], np.float32)
    _engine.class_matches(y_true, y_pred, matches)
    return matches


@tensor
def sparse_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """1.0 for each row whose largest y_pred is in the place y_true."""
    y_pred = contiguous(y_pred, np.float32)
    if _crosswise(y_true, y_pred):
        return np.equal(y_true, y_pred.argmax(axis=-1)).astype(np.float32)
    matches = np.empty(y_pred.shape[:-1], np.float32)
    _engine.class_matches(class_labels(y_true, y_pred), y_pred, matches)
    return matches


def _crosswise(y_true, y_pred):
    """Is every label to be compared with every prediction, as Keras does, which broadcasts them?"""
    rows = y_pred.shape[:-1]
    return np.ndim(y_true) == len(rows) > 1 and all(
        a != b and 1 in (a, b) for a, b in zip(np.shape(y_true), rows, strict=True)
    )


@tensor
def top_k_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike, k: int = 5) -> np.ndarray:
    """1.0 for each row where the place of the largest y_true is among the k largest of y_pred."""
    check_axes(y_true, y_pred)
    y_true, y_pred = _same_shape(y_true, y_pred)
    return sparse_top_k_categorical_accuracy(np.argmax(y_true, axis=-1), y_pred, k)


@tensor
def sparse_top_k_categorical_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, k: int = 5
) -> np.ndarray:
    """1.0 for each row where the place y_true is among the k largest of y_pred, equals included."""
    y_pred = np.asarray(y_pred, np.float32)
    labels = class_labels(y_true, y_pred)
    known = (labels >= 0) & (labels < y_pred.shape[-1])
    own = np.take_along_axis(y_pred, np.where(known, labels, 0)[..., None], -1)
    larger = np.count_nonzero(y_pred > own, axis=-1)
    return (known & np.isfinite(own[..., 0]) & (larger < k)).astype(np.float32)


@tensor
def cosine_similarity(y_true: ArrayLike, y_pred: ArrayLike, axis: int = -1) -> np.ndarray:
    """The cosine of the angle between y_true and y_pred along `axis`."""
    return -loss_functions.cosine_similarity(y_true, y_pred, axis)


def _same_shape(y_true, y_pred, broadcast=False):
    """Both as contiguous float32 of the same shape; raises ValueError where they cannot be."""
    y_true, y_pred = contiguous(y_true, np.float32), contiguous(y_pred, np.float32)
    if y_true.shape != y_pred.shape:
        y_true, y_pred = map(contiguous, same_shape(y_true, y_pred, broadcast=broadcast))
    return y_true, y_pred


# --- accuracy


class Accuracy(MeanMetricWrapper):
    """How often y_true == y_pred."""

    def __init__(self, name: str | None = "accuracy", dtype: Any = None):
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often y_true == (y_pred > threshold), threshold 0.5."""

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ):
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)
        self.threshold = checks.number("threshold", threshold)

    def _count_all(self, y_true, y_pred):
        y_true, y_pred = _same_shape(y_true, y_pred, broadcast=True)
        matches = _engine.binary_matches(y_true, y_pred, self.threshold)
        return self._add(matches, len(y_pred), y_pred.size)


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest of y_pred is in the place of the largest of one-hot y_true."""

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None):
        super().__init__(categorical_accuracy, name, dtype)

    def _count_all(self, y_true, y_pred):
        check_axes(y_true, y_pred)
        y_true, y_pred = _same_shape(y_true, y_pred)
        matches = _engine.class_matches(y_true, y_pred)
        return self._add(matches, len(y_pred), math.prod(y_pred.shape[:-1]))


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest of y_pred is in the place y_true."""

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None):
        super().__init__(sparse_categorical_accuracy, name, dtype)

    def _count_all(self, y_true, y_pred):
        check_axes(y_true, y_pred)
        y_pred = contiguous(y_pred, np.float32)
        if _crosswise(y_true, y_pred):
            return False
        labels = class_labels(y_true, y_pred)
        return self._add(_engine.class_matches(labels, y_pred), len(y_pred), labels.size)


class CRFViterbiAccuracy(MeanMetricWrapper):
    """How often layers.CRF finds the tag of a step: y_true class numbers or one-hot."""

    def __init__(self, name: str | None = "crf_viterbi_accuracy", dtype: Any = None):
        super().__init__(_tags_found, name, dtype)


class CRFAccuracy(CRFViterbiAccuracy):
    """CRFViterbiAccuracy under another name."""

    def __init__(self, name: str | None = "crf_accuracy", dtype: Any = None):
        super().__init__(name, dtype)


def _tags_found(y_true, y_pred):
    same = np.shape(y_true) == np.shape(y_pred)
    return (categorical_accuracy if same else sparse_categorical_accuracy)(y_true, y_pred)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the place of the largest of y_true is among the k (5) largest of y_pred."""

    def __init__(
        self, k: Whole = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None
    ):
        k = checks.whole("k", k)
        super().__init__(top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the place y_true is among the k (5) largest of y_pred."""

    def __init__(
        self,
        k: Whole = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
    ):
        k = checks.whole("k", k)
        super().__init__(sparse_top_k_categorical_accuracy, name, dtype, k=k)
        self.k = k


# --- losses as metrics


class MeanSquaredError(MeanMetricWrapper):
    """The mean of (y_true - y_pred) ** 2."""

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None):
        super().__init__(mean_squared_error, name, dtype)

    def _count_all(self, y_true, y_pred):
        check_axes(y_true, y_pred)
        return _add_errors(self, _engine.SQUARED_ERROR, y_true, y_pred)


def _squared_errors(y_true, y_pred):
    y_true, y_pred = same_shape(y_true, y_pred, broadcast=True)
    return np.square(y_pred - y_true)


class RootMeanSquaredError(MeanMetricWrapper):
    """The square root of the mean of (y_true - y_pred) ** 2; as in Keras, masks do not count."""

    uses_mask = False

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None):
        super().__init__(_squared_errors, name, dtype)

    def _count_all(self, y_true, y_pred):
        return _add_errors(self, _engine.SQUARED_ERROR, y_true, y_pred)

    @tensor
    def result(self):
        return math.sqrt(super().result())


class MeanAbsoluteError(MeanMetricWrapper):
    """The mean of abs(y_true - y_pred)."""

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None):
        super().__init__(mean_absolute_error, name, dtype)

    def _count_all(self, y_true, y_pred):
        check_axes(y_true, y_pred)
        return _add_errors(self, _engine.ABSOLUTE_ERROR, y_true, y_pred)


def _add_errors(metric, kind, y_true, y_pred) -> bool:
    y_true, y_pred = _same_shape(y_true, y_pred, broadcast=True)
    total, _, _ = _engine.fused_loss(kind, y_pred, y_true, activation=False, gradient=False)
    return metric._add(total, len(y_pred), y_pred.size)


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """100 times the mean of abs((y_true - y_pred) / y_true)."""

    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(mean_absolute_percentage_error, name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """The mean of (log(1 + y_true) - log(1 + y_pred)) ** 2."""

    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(mean_squared_logarithmic_error, name, dtype)


class LogCoshError(MeanMetricWrapper):
    """The mean of log(cosh(y_pred - y_true))."""

    def __init__(self, name: str | None = "logcosh", dtype: Any = None):
        super().__init__(log_cosh, name, dtype)


class CosineSimilarity(MeanMetricWrapper):
    """The mean cosine of the angle between y_true and y_pred along `axis` (-1)."""

    def __init__(self, name: str | None = "cosine_similarity", dtype: Any = None, axis: Whole = -1):
        super().__init__(cosine_similarity, name, dtype, axis=checks.axes("axis", axis))


class KLDivergence(MeanMetricWrapper):
    """The mean over samples of sum(y_true * log(y_true / y_pred))."""

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None):
        super().__init__(kl_divergence, name, dtype)


class Poisson(MeanMetricWrapper):
    """The mean of y_pred - y_true * log(y_pred)."""

    def __init__(self, name: str | None = "poisson", dtype: Any = None):
        super().__init__(poisson, name, dtype)


class Hinge(MeanMetricWrapper):
    """The mean of max(1 - y_true * y_pred, 0)."""

    def __init__(self, name: str | None = "hinge", dtype: Any = None):
        super().__init__(hinge, name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """The mean of max(1 - y_true * y_pred, 0) ** 2."""

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None):
        super().__init__(squared_hinge, name, dtype)


class CategoricalHinge(MeanMetricWrapper):
    """The mean of max(1 + the best of the wrong classes - the right one, 0)."""

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None):
        super().__init__(categorical_hinge, name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """The mean binary crossentropy; options as the loss."""

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ):
        super().__init__(
            binary_crossentropy,
            name,
            dtype,
            from_logits=checks.flag("from_logits", from_logits),
            label_smoothing=checks.number("label_smoothing", label_smoothing, "in [0, 1]"),
        )


class CategoricalCrossentropy(MeanMetricWrapper):
    """The mean categorical crossentropy; options as the loss."""

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: Axes = -1,
    ):
        super().__init__(
            categorical_crossentropy,
            name,
            dtype,
            from_logits=checks.flag("from_logits", from_logits),
            label_smoothing=checks.number("label_smoothing", label_smoothing, "in [0, 1]"),
            axis=checks.axes("axis", axis),
        )


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """The mean crossentropy of class numbers; options as the loss, ignored ones counting as 0."""

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: SupportsIndex | None = None,
        axis: Axes = -1,
    ):
        super().__init__(
            sparse_categorical_crossentropy,
            name,
            dtype,
            from_logits=checks.flag("from_logits", from_logits),
            ignore_class=ignore_class,
            axis=checks.axes("axis", axis),
        )


# --- names

_TABLE = class_table(
    *(Mean, Sum, MeanMetricWrapper, Accuracy, BinaryAccuracy, CategoricalAccuracy),
    *(SparseCategoricalAccuracy, TopKCategoricalAccuracy, SparseTopKCategoricalAccuracy),
    *(CRFAccuracy, CRFViterbiAccuracy),
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


def check(identifier) -> None:
    """Raise ValueError for what `resolve` will not take."""
    if identifier is None:
        raise ValueError("metric: expected a name, a Metric or a function, received None")
    known = ("acc", "accuracy", "ce", "crossentropy")
    if not isinstance(identifier, str) or identifier.lower() not in known:
        get(identifier)


def resolve(identifier, y_true_shape, y_pred_shape) -> Metric:
    """The `Metric` that compile(metrics=[identifier]) stands for, given shapes of y_true, y_pred.

    "accuracy" and "acc" become the binary one for one output, else the sparse categorical one for
    class numbers, else the categorical one; "crossentropy" and "ce" likewise. The metric is named
    as the identifier if that is a string. Raises ValueError for what is no metric.
    """
    check(identifier)
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


Layer._Metric, Layer._Mean = Metric, Mean  # which layers of the user's own have
