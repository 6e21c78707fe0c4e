"""Metrics that count right and wrong positives and negatives: precision, recall, AUC, F scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from . import checks
from .loss_functions import check_axes, fit_weights, same_shape, sigmoid
from .metric import Metric
from .tensors import tensor

if TYPE_CHECKING:
    from fastrnn._types import Whole


_EPSILON = 1e-7
_NEVER = -1e10  # what `top_k` gives the classes that are not among the first


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

    _counted = ("true_positives", "false_positives", "true_negatives", "false_negatives")

    def __init__(self, thresholds, name=None, dtype=None, top_k=None, class_id=None):
        super().__init__(dtype, name)
        self.top_k = None if top_k is None else checks.whole("top_k", top_k)
        self.class_id = None if class_id is None else checks.whole("class_id", class_id)
        self._thresholds = np.asarray(thresholds, np.float32)
        self._even = _evenly_spaced(self._thresholds)
        self._labels = ()  # (n,) to count n labels apart
        self.reset_state()

    def reset_state(self):
        shape = (len(self._thresholds), *self._labels)
        self.true_positives, self.false_positives = np.zeros(shape), np.zeros(shape)
        self.true_negatives, self.false_negatives = np.zeros(shape), np.zeros(shape)

    def update_state(self, y_true, y_pred, sample_weight=None):
        if len(self._thresholds) < 3:  # Keras takes single numbers for many thresholds
            check_axes(y_true, y_pred)
        y_true, y_pred = same_shape(y_true, np.asarray(y_pred, np.float32))
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
    return np.divide(
        a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b))), where=b != 0
    )


class _Count(_Confusion):
    _options = ("name", "dtype", "thresholds")

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        self.thresholds = thresholds
        super().__init__(_listed(0.5 if thresholds is None else thresholds), name, dtype)


class TruePositives(_Count):
    """How many y_true != 0 have y_pred > threshold (0.5, or a list)."""

    _counted = ("true_positives",)

    @tensor
    def result(self):
        return self._single(self.true_positives)


class FalsePositives(_Count):
    """How many y_true == 0 have y_pred > threshold (0.5, or a list)."""

    _counted = ("false_positives",)

    @tensor
    def result(self):
        return self._single(self.false_positives)


class TrueNegatives(_Count):
    """How many y_true == 0 have y_pred <= threshold (0.5, or a list)."""

    _counted = ("true_negatives",)

    @tensor
    def result(self):
        return self._single(self.true_negatives)


class FalseNegatives(_Count):
    """How many y_true != 0 have y_pred <= threshold (0.5, or a list)."""

    _counted = ("false_negatives",)

    @tensor
    def result(self):
        return self._single(self.false_negatives)


class _Rate(_Confusion):
    _options = ("name", "dtype", "thresholds", "top_k", "class_id")

    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: SupportsIndex | None = None,
        class_id: SupportsIndex | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        self.thresholds = thresholds
        values = [_NEVER] if top_k is not None else [0.5]
        if thresholds is not None:
            values = _listed(thresholds)
        super().__init__(values, name, dtype, top_k, class_id)


class Precision(_Rate):
    """The share of right ones among the positive, y_pred > threshold (0.5, or a list).

    top_k (None): only the k largest of a row are positive. class_id (None): one class only.
    """

    _counted = ("true_positives", "false_positives")

    @tensor
    def result(self):
        positives = self.true_positives + self.false_positives
        return self._single(_ratio(self.true_positives, positives))


class Recall(_Rate):
    """The share of y_true != 0 that is found, y_pred > threshold (0.5, or a list).

    top_k (None): only the k largest of a row are found. class_id (None): one class only.
    """

    _counted = ("true_positives", "false_negatives")

    @tensor
    def result(self):
        actual = self.true_positives + self.false_negatives
        return self._single(_ratio(self.true_positives, actual))


class _AtRate(_Confusion):
    """The best of one rate among the thresholds where another is at least `self._least`."""

    def __init__(self, least, argument, num_thresholds, class_id, name, dtype):
        least = checks.number(argument, least, "in [0, 1]")
        num_thresholds = checks.whole("num_thresholds", num_thresholds)
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

    def __init__(
        self,
        specificity: float,
        num_thresholds: Whole = 200,
        class_id: SupportsIndex | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(specificity, "specificity", num_thresholds, class_id, name, dtype)

    @tensor
    def result(self):
        return self._best(self._sensitivity(), self._specificity())


class SpecificityAtSensitivity(_AtRate):
    """The best specificity with at least this sensitivity, over num_thresholds (200)."""

    _options = ("name", "dtype", "sensitivity", "num_thresholds", "class_id")

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: Whole = 200,
        class_id: SupportsIndex | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(sensitivity, "sensitivity", num_thresholds, class_id, name, dtype)

    @tensor
    def result(self):
        return self._best(self._specificity(), self._sensitivity())


class PrecisionAtRecall(_AtRate):
    """The best precision with at least this recall, over num_thresholds (200)."""

    _options = ("name", "dtype", "recall", "num_thresholds", "class_id")

    def __init__(
        self,
        recall: float,
        num_thresholds: Whole = 200,
        class_id: SupportsIndex | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(recall, "recall", num_thresholds, class_id, name, dtype)

    @tensor
    def result(self):
        return self._best(self._precision(), self._sensitivity())


class RecallAtPrecision(_AtRate):
    """The best recall with at least this precision, over num_thresholds (200)."""

    _options = ("name", "dtype", "precision", "num_thresholds", "class_id")

    def __init__(
        self,
        precision: float,
        num_thresholds: Whole = 200,
        class_id: SupportsIndex | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(precision, "precision", num_thresholds, class_id, name, dtype)

    @tensor
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
        num_thresholds: Whole = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: float | Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: SupportsIndex | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ):
        self.curve = _choice("curve", curve, ("ROC", "PR", "PRGAIN"))
        self.summation_method = _choice(
            "summation_method", summation_method, ("interpolation", "majoring", "minoring")
        )
        if thresholds is not None:
            inner = sorted(_listed(thresholds))
        elif checks.whole("num_thresholds", num_thresholds) > 1:
            inner = [i / (num_thresholds - 1) for i in range(1, num_thresholds - 1)]
        else:
            raise ValueError(f"num_thresholds: expected an int > 1, received {num_thresholds}")
        if num_labels is not None:
            num_labels = checks.whole("num_labels", num_labels)
        if num_labels and not multi_label:
            raise ValueError(
                f"num_labels: expected None without multi_label, received {num_labels}"
            )
        self.num_thresholds = len(inner) + 2
        self.multi_label, self.num_labels = checks.flag("multi_label", multi_label), num_labels
        self.label_weights = None if label_weights is None else list(label_weights)
        self.from_logits = checks.flag("from_logits", from_logits)
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
            y_pred = sigmoid(y_pred)
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

    @tensor
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
    _counted = ("true_positives", "false_positives", "false_negatives")

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
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

    @tensor
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

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average, 1.0, threshold, name, dtype)
