"""Losses, as keras.losses.

A `Loss` reduces the values that a function (y_true, y_pred) returns to one, with sample weights and
masks. A user's own function of NumPy's functions, or those of keras.backend,

    def absolute(y_true, y_pred):
        return np.mean(np.abs(y_true - y_pred), axis=-1)

is trained with the derivative of the sum of its values with respect to y_pred that
fastrnn.tape finds, or, which is faster and goes for any function, that of its attribute

    absolute.gradient = lambda y_true, y_pred: np.sign(y_pred - y_true) / y_pred.shape[-1]
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn._public import public
from fastrnn.arrays import contiguous

from . import _engine, checks
from .loss_functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    broadcasts,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    check_axes,
    class_labels,
    cosine_similarity,
    fit_weights,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    match_ranks,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    merge_mask,
    poisson,
    same_shape,
    sigmoid,
    sparse_categorical_crossentropy,
    squared_hinge,
    warn_of_one_class,
)
from .tape import Source, derivative_of_users, is_recording, of, value_of
from .tensors import tensor
from .utils import Configurable, deserialize_object, serialize_object, snake_case

if TYPE_CHECKING:
    from fastrnn._types import Axes, Reduction, Whole


__all__ = [
    "BinaryCrossentropy", "BinaryFocalCrossentropy", "CRFLoss", "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy", "CategoricalHinge", "CosineSimilarity", "Hinge", "Huber",
    "KLDivergence", "LogCosh", "Loss", "LossFunctionWrapper", "MeanAbsoluteError",
    "MeanAbsolutePercentageError", "MeanSquaredError", "MeanSquaredLogarithmicError", "Poisson",
    "SparseCategoricalCrossentropy", "SquaredHinge", "binary_crossentropy",
    "binary_focal_crossentropy", "categorical_crossentropy", "categorical_focal_crossentropy",
    "categorical_hinge", "cosine_similarity", "deserialize", "get", "hinge", "huber",
    "kl_divergence", "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_error", "mean_squared_logarithmic_error", "poisson", "serialize",
    "sparse_categorical_crossentropy", "squared_hinge",
]  # fmt: skip
public(__name__)

_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)


class Loss(Configurable):
    """Base class: override `call(y_true, y_pred)`, and where it is to be trained with and is more
    than NumPy's functions `gradient(y_true, y_pred)`.

    Both have the contract of a loss function and its gradient. `reduction` is "sum_over_batch_size"
    (default) or "mean" for the sum divided by the number of values, "sum",
    "mean_with_sample_weight" for the sum divided by that of the weights, or "none" or None for the
    values themselves. Raises ValueError for another.

    fused_activation: the activation of a last layer whose input `fused` can start from, or None.
    """

    fused_activation: str | None = None
    _options = ("name", "reduction")
    _hidden_names = frozenset({"check_shapes", "fused", "fused_activation", "value_and_gradient"})
    _kernel: int | None = None

    def __init__(
        self,
        name: str | None = None,
        reduction: Reduction = "sum_over_batch_size",
        dtype: Any = None,
    ):
        if reduction not in _REDUCTIONS:
            raise ValueError(f"reduction: expected one of {_REDUCTIONS}, received {reduction!r}")
        self.name = checks.text("name", name) or snake_case(type(self).__name__)
        self.reduction = reduction

    def call(self, y_true, y_pred):
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred)")

    def check_shapes(self, targets, outputs):
        """Raise ValueError if targets of this shape cannot be compared with such outputs."""

    def gradient(self, y_true, y_pred):
        return self._derivative("define a method gradient(self, y_true, y_pred)", y_true, y_pred)

    def _derivative(self, way, y_true, y_pred):
        advice = f"{way}, the derivative of the sum of its values with respect to y_pred"
        return derivative_of_users(
            "loss", repr(self.name), advice, lambda y: self.call(y_true, y), y_pred
        )

    @tensor
    def __call__(self, y_true, y_pred, sample_weight=None, mask=None):
        """The reduced loss, a float (an array for reduction "none")."""
        y_pred, mask = of(y_pred), getattr(y_pred, "_keras_mask", None) if mask is None else mask
        if is_recording() and isinstance(of(y_true), Source):
            return self._recorded_targets(of(y_true), y_pred, sample_weight, mask)
        if isinstance(y_pred, Source):
            if is_recording():
                return self._recorded(y_true, y_pred, sample_weight, mask)
            y_pred = y_pred.value
        y_true = value_of(y_true)
        if self._runs_in_kernel() and self.reduction not in ("none", None):
            return self._run(y_true, y_pred, sample_weight, mask, False, False)[0]
        y_true, y_pred = self._inputs(y_true, y_pred, sample_weight, mask)
        values = np.asarray(self.call(y_true, y_pred))
        mask = self._full_mask(y_true, y_pred, mask)
        return self._reduce(values, *self._weigh(values.shape, sample_weight, mask))

    def _recorded(self, y_true, y_pred, sample_weight, mask):
        """The loss as one step of the tape."""
        value, gradient = self.value_and_gradient(
            value_of(y_true), y_pred.value, value_of(of(sample_weight)), mask
        )

        return y_pred.then(np.asarray(value, np.float32), _way_back(gradient))

    def _recorded_targets(self, y_true, y_pred, sample_weight, mask):
        """The same for targets of which the derivative is asked for too."""
        value = self(y_true.value, y_pred, sample_weight, mask)
        shape = y_true.shape
        t, p = self._inputs(y_true.value, value_of(y_pred), sample_weight, mask)
        advice = f"stop_gradient(y_true) makes targets of which {self.name!r} needs none"
        gradient = derivative_of_users(
            "y_true", repr(self.name), advice, lambda t: self.call(t, p), t
        )
        gradient, _ = self._scaled(gradient, t, p, value_of(of(sample_weight)), mask)
        gradient = gradient.reshape(shape)

        return value + y_true.then(np.zeros_like(value_of(value), np.float32), _way_back(gradient))

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
        gradient, value = self._scaled(
            gradient.reshape(y_pred.shape), y_true, y_pred, sample_weight, mask
        )
        return value, gradient.reshape(shape)

    def _scaled(self, gradient, y_true, y_pred, sample_weight, mask):
        """A gradient of the sum of the values made one of the reduced loss; and that loss."""
        values = np.asarray(self.call(y_true, y_pred))
        mask = self._full_mask(y_true, y_pred, mask)
        weights, scale = self._weigh(values.shape, sample_weight, mask)
        factor = np.float32(scale)
        if weights is not None:
            factor = weights * factor
            if values.ndim == 0:
                factor = np.sum(factor)
            elif values.ndim < gradient.ndim:
                factor = np.expand_dims(factor, getattr(self, "axis", -1))
        gradient = np.ascontiguousarray(gradient * factor, np.float32)
        return gradient, self._reduce(values, weights, scale)

    def fused(self, y_true, z, sample_weight=None, mask=None, gradient=True, y=None):
        """The reduced loss, y_pred = fused_activation(z), and the gradient with respect to z.

        y: an array that y_pred may be put in; the gradient may then take the place of z.

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
            y_true, y_pred = same_shape(y_true, y_pred, expand, self._broadcasts)
        return contiguous(y_true, np.float32), y_pred, y_pred.shape[:-1]

    def _smoothing(self, classes: int) -> tuple[float, float]:
        """Factor and offset of the targets."""
        return 1.0, 0.0

    def _run(self, y_true, y_pred, sample_weight, mask, activation, gradient, y=None):
        """-> reduced loss, activation of y_pred or None, gradient or None."""
        given = y_pred
        y_pred = contiguous(y_pred, np.float32)
        if y_pred.size == 1:  # of a single number it makes an array
            check_axes(given if np.ndim(given) == 0 else y_true, given)
        shape = y_pred.shape
        expand = _refers_to_steps(sample_weight, mask)
        mask = self._full_mask(y_true, y_pred, mask)
        y_true, y_pred, rows = self._kernel_inputs(np.asarray(y_true), y_pred, expand)
        weights, scale = self._weigh(rows, sample_weight, mask)
        if weights is not None:
            if weights.shape != rows:
                weights = np.broadcast_to(weights, rows)
            weights = contiguous(weights)
        columns = y_pred.shape[-1]
        if self._kernel != _engine.SOFTMAX_CROSSENTROPY:
            scale = scale / columns if columns else 0.0
        factor, offset = self._smoothing(columns)
        value, y, dy = _engine.fused_loss(
            self._kernel, y_pred, y_true, weights, scale, factor, offset, activation, gradient, y
        )
        if y_pred.shape != shape:
            y = None if y is None else y.reshape(shape)
            dy = None if dy is None else dy.reshape(shape)
        return value * scale, y, dy


def _way_back(gradient):
    """From the gradient of losses to that of what each of them came from."""
    return lambda g: gradient * np.reshape(g, (*g.shape, *(1,) * (gradient.ndim - g.ndim)))


def _refers_to_steps(sample_weight, mask) -> bool:
    """Whether weights have an axis beyond the samples."""
    if sample_weight is None and mask is None:
        return False
    return any(x is not None and np.ndim(x) > 1 for x in (sample_weight, mask))


class LossFunctionWrapper(Loss):
    """The loss of a function (y_true, y_pred, **options); see the module about its gradient."""

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **options,
    ):
        super().__init__(name or getattr(fn, "__name__", None), reduction)
        self.fn, self._fn_options = fn, options

    def call(self, y_true, y_pred):
        return self.fn(y_true, y_pred, **self._fn_options)

    def gradient(self, y_true, y_pred):
        if not hasattr(self.fn, "gradient"):
            way = f"attach {self.name}.gradient = lambda y_true, y_pred: ..."
            return self._derivative(way, y_true, y_pred)
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
    _broadcasts = True  # may axes of size 1 of the targets stand for all of the outputs'?
    _arguments: tuple[str, ...] = ()

    def __init__(
        self,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name or self._function.__name__, reduction)

    def check_shapes(self, targets, outputs):
        if targets in (outputs, (*outputs, 1)) or (*targets, 1) == outputs:
            return
        inner = outputs[1:-1] if outputs[-1:] == (1,) < outputs[1:] else outputs[1:]
        if self._broadcasts and any(broadcasts(targets[1:], s) for s in (outputs[1:], inner)):
            return
        hint = ""
        if targets in (outputs[:-1], (*outputs[:-1], 1)):
            hint = "; class numbers need to_categorical, or a loss sparse_categorical_crossentropy"
        raise ValueError(f"y: expected shape {outputs} as the outputs, received {targets}{hint}")

    def _inputs(self, y_true, y_pred, sample_weight, mask):
        y_true, y_pred = super()._inputs(y_true, y_pred, sample_weight, mask)
        axis = getattr(self, "axis", -1)
        if axis != -1:
            wanted = axis if isinstance(axis, tuple) else () if axis is None else (axis,)
            if any(not -y_pred.ndim <= i < y_pred.ndim for i in wanted):
                raise ValueError(
                    f"axis: expected an axis of y_pred of shape {y_pred.shape}, received {axis}"
                )
        elif self._function is not cosine_similarity:
            check_axes(y_true, y_pred)
        return y_true, y_pred

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
        self,
        delta: float = 1.0,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: Any = None,
    ):
        super().__init__(reduction, name)
        self.delta = checks.number("delta", delta)


class CosineSimilarity(_FunctionLoss):
    """Minus the cosine of the angle between y_true and y_pred along `axis` (-1)."""

    _function = staticmethod(cosine_similarity)
    _arguments = ("axis",)

    def __init__(
        self,
        axis: Whole = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name)
        self.axis = checks.axes("axis", axis)


class _Crossentropy(_FunctionLoss):
    """What the crossentropies share: `fused`, from the input of a sigmoid or softmax."""

    _broadcasts = False
    from_logits = False
    axis = -1

    def _runs_in_kernel(self):
        return self.from_logits and self.axis == -1

    @property
    def fused_activation(self):
        if self.axis != -1:
            return None
        return "softmax" if self._kernel == _engine.SOFTMAX_CROSSENTROPY else "sigmoid"

    def fused(self, y_true, z, sample_weight=None, mask=None, gradient=True, y=None):
        if self.from_logits:
            warnings.warn(
                f"from_logits: expected False for the loss {self.name!r} after a "
                f"{self.fused_activation}, received True; the input of the {self.fused_activation} "
                "is taken for the logits",
                stacklevel=2,
            )
        whole = self.reduction not in ("none", None)
        kept = y if whole else None
        value, y, dz = self._run(y_true, z, sample_weight, mask, True, gradient, kept)
        if not whole:
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
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: Axes = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.axis = checks.axes("axis", axis)
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
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: Axes = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.axis = checks.axes("axis", axis)
        self.label_smoothing = _fraction("label_smoothing", label_smoothing)

    def _kernel_inputs(self, y_true, y_pred, expand):
        warn_of_one_class(y_pred)
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
        from_logits: bool = False,
        ignore_class: SupportsIndex | None = None,
        reduction: Reduction = "sum_over_batch_size",
        axis: Axes = -1,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.axis = checks.axes("axis", axis)
        self.ignore_class = (
            None if ignore_class is None else checks.whole("ignore_class", ignore_class)
        )

    def check_shapes(self, targets, outputs):
        labels = outputs[:-1]
        if targets in (labels, (*labels, 1)):
            return
        hint = "; one-hot classes need a loss categorical_crossentropy" * (targets == outputs)
        raise ValueError(
            f"y: expected class numbers of shape {labels}, received shape {targets}{hint}"
        )

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

    _broadcasts = False
    _function = staticmethod(binary_focal_crossentropy)
    _arguments = (
        *("apply_class_balancing", "alpha", "gamma", "from_logits", "label_smoothing", "axis"),
    )

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: Axes = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name)
        self.apply_class_balancing = checks.flag("apply_class_balancing", apply_class_balancing)
        self.alpha, self.gamma = checks.number("alpha", alpha), checks.number("gamma", gamma)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.axis = checks.axes("axis", axis)
        self.label_smoothing = _fraction("label_smoothing", label_smoothing)

    @property
    def fused_activation(self):
        return None if self.from_logits else "sigmoid"

    def fused(self, y_true, z, sample_weight=None, mask=None, gradient=True, y=None):
        from_logits = type(self).from_config({**self.get_config(), "from_logits": True})
        y = sigmoid(z).astype(np.float32)
        if not gradient:
            return from_logits(y_true, z, sample_weight, mask), y, None
        value, dz = from_logits.value_and_gradient(y_true, z, sample_weight, mask)
        return value, y, dz


class CategoricalFocalCrossentropy(_FunctionLoss):
    """Categorical crossentropy that counts what is right already less; see the function.

    alpha 0.25 (or one for each class), gamma 2.0, from_logits False, label_smoothing 0.0.
    """

    _broadcasts = False
    _function = staticmethod(categorical_focal_crossentropy)
    _arguments = ("alpha", "gamma", "from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: Axes = -1,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(reduction, name)
        check = checks.numbers if np.ndim(alpha) else checks.number
        self.alpha = check("alpha", alpha)
        self.gamma = checks.number("gamma", gamma)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.axis = checks.axes("axis", axis)
        self.label_smoothing = _fraction("label_smoothing", label_smoothing)


class CRFLoss(Loss):
    """The loss of layers.CRF: the negative log-likelihood of whole paths of tags, a sum over the
    steps of each sequence and a mean over the sequences that have some left by the mask.

    Targets: class numbers (batch, timesteps) or (batch, timesteps, 1), or one-hot (batch,
    timesteps, tags); those of masked steps are not looked at. Sample weights: one a sequence.
    Errors: ValueError where the output is another than that of a CRF layer.
    Source: https://github.com/keras-team/keras-contrib/blob/master/keras_contrib/losses/crf_losses.py
    """

    fused_activation = "crf"

    def __init__(
        self,
        reduction: Reduction = "sum_over_batch_size",
        name: str | None = "crf_loss",
        dtype: Any = None,
    ):
        super().__init__(name, reduction)

    def check_shapes(self, targets, outputs):
        if targets not in (outputs, outputs[:-1], (*outputs[:-1], 1)):
            raise ValueError(
                f"y: expected class numbers of shape {outputs[:-1]} or {(*outputs[:-1], 1)}, or "
                f"one-hot targets of shape {outputs}, received {targets}"
            )

    def __call__(self, y_true, y_pred, sample_weight=None, mask=None):
        raise ValueError(
            f"loss {self.name!r}: expected the output of the model to be that of a layer CRF "
            "itself, without activity_regularizer and without another reader"
        )

    value_and_gradient = __call__

    def fused(self, y_true, z, sample_weight=None, mask=None, gradient=True, y=None):
        """z: what a CRF hands on, see its forward. y_pred is the path with the highest score."""
        y_true, tags = np.asarray(y_true), z.shape[-1]
        if y_true.ndim == 3 and y_true.shape[-1] == tags:
            labels = y_true.argmax(axis=-1)
        else:
            shape = *y_true.shape[:2], tags
            labels = class_labels(y_true, np.broadcast_to(np.float32(0), shape))
        batch, timesteps = labels.shape
        given = np.shape(sample_weight)
        if len(given) > 1 and given != (batch, 1):
            raise ValueError(
                f"sample_weight: expected one for each sequence, {(batch,)}, as a CRF's loss is "
                f"that of whole sequences, received shape {given}; class_weight gives one for each "
                "step"
            )
        some = None
        if mask is not None:
            mask = np.ascontiguousarray(mask)
            some = mask.any(axis=1)
        weights, scale = self._weigh((batch,), sample_weight, some)
        factors = None
        if gradient:
            factors = np.full(batch, scale, np.float32)
            if weights is not None:
                factors *= weights
        path = np.empty((batch, timesteps, tags), np.float32)
        dz = np.empty_like(z) if gradient else None
        values = _engine.crf_loss(z, batch, timesteps, labels, mask, factors, dz)
        _engine.crf_path(path, z, mask)
        return self._reduce(values, weights, scale), path, dz


def _fraction(name: str, value) -> float:
    return float(checks.number(name, value, "in [0, 1]"))


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
    "CRFLoss": CRFLoss,
    "crf": CRFLoss,
    "crf_loss": CRFLoss,
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
        f"loss: expected a name, a config dict, a function or a Loss, received {identifier!r}"
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
    config = serialize_object(loss, _TABLE, "keras.losses")
    if config and config["class_name"] == "function":
        config |= {"module": "builtins", "registered_name": "function"}
    return config


def deserialize(config, custom_objects: Mapping | None = None):
    """The inverse of `serialize`; `custom_objects` maps names to the user's own."""
    return deserialize_object(config, _TABLE, "loss", custom_objects)
