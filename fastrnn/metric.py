"""What all metrics are made of, and means of a function's values."""

import functools
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from . import checks, initializers, losses
from .loss_functions import class_labels, fit_weights, match_ranks
from .tape import not_recording
from .tensors import State, tensor
from .utils import Configurable, snake_case
from .variable import undoing


class Metric(Configurable):
    """Base class: override update_state(y_true, y_pred, sample_weight=None), result() and
    reset_state(), which sets what add_weight made to zero by itself.

    uses_mask: whether update_state takes a `mask` (bool, False leaves a value out) as well; as in
    Keras those metrics do that are means of a function's values.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "update_state" in vars(cls):
            cls.update_state = _apart(vars(cls)["update_state"])

    uses_mask = False
    _options: tuple[str, ...] = ("name", "dtype")
    _hidden_names = frozenset({"uses_mask"})

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = checks.text("name", name) or snake_case(type(self).__name__)
        self.dtype = "float32"

    _counted: tuple[str, ...] = ()  # attributes that are the metric's state

    def add_weight(self, shape=(), initializer=None, dtype=None, name: str | None = None) -> State:
        """A variable of the metric, zeros or as the initializer has it, which reset_state sets to
        zero: shape () and name, in Keras 2 the first argument."""
        if isinstance(shape, str):
            shape, name = (), shape
        kind = np.dtype(dtype or "float32")
        make = initializers.get("zeros" if initializer is None else initializer)
        weights = self.__dict__.setdefault("_weights", [])
        name = name or ("variable" if not weights else f"variable_{len(weights)}")
        value = np.array(make(shape, dtype=kind.name), kind)
        weights.append(State.of(value, name, f"{self.name}/{name}"))
        return weights[-1]

    def add_variable(
        self, shape=(), initializer=None, dtype=None, aggregation: Any = None, name=None
    ) -> State:
        """As `add_weight`."""
        return self.add_weight(shape, initializer, dtype, name)

    @property
    def variables(self) -> list[State]:
        """The metric's state, as variables that can be read and assigned to."""
        counted = [self._variable(name) for name in self._counted]
        return counted + self.__dict__.get("_weights", [])

    def _variable(self, name):
        def assigned(value):
            value = np.array(value, np.float64)
            setattr(self, name, value if value.ndim else float(value))

        value = np.array(getattr(self, name), np.float32)
        return State.of(value, name, f"{self.name}/{name}", assigned)

    def update_state(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} must define update_state")

    def result(self):
        raise NotImplementedError(f"{type(self).__name__} must define result")

    def reset_state(self):
        weights = self.__dict__.get("_weights")
        if weights is None:
            raise NotImplementedError(f"{type(self).__name__} must define reset_state")
        for weight in weights:
            weight.assign(np.zeros(weight.shape))

    def reset_states(self):
        """reset_state under its name in Keras 2."""
        self.reset_state()

    def __call__(self, *args, **kwargs):
        """Take in more values and return the result so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self):
        return f"<{type(self).__name__} name={self.name}>"


def _apart(update):
    """A method update_state that leaves no steps on the tape, and nothing behind where shapes are
    found out."""

    @functools.wraps(update)
    def update_state(self, *args, **kwargs):
        if undoing():
            return None
        with not_recording():
            return update(self, *args, **kwargs)

    return update_state


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

    _counted = ("total",)

    def __init__(self, name: str | None = "sum", dtype: Any = None):
        super().__init__(dtype, name)
        self.reset_state()

    def update_state(self, values, sample_weight=None):
        values, _ = _samplewise(np.asarray(values, np.float32), sample_weight, np.sum)
        self.total += _sum(values)

    @tensor
    def result(self):
        return self.total

    def reset_state(self):
        self.total = 0.0


class Mean(Metric):
    """The mean of all values, weighted by sample_weight; 0 before the first."""

    _counted = ("total", "count")

    def __init__(self, name: str | None = "mean", dtype: Any = None):
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

    @tensor
    def result(self):
        return self.total / self.count if self.count else 0.0

    def reset_state(self):
        self.total = self.count = 0.0


class MeanMetricWrapper(Mean):
    """The mean of what a function (y_true, y_pred, **options) returns."""

    uses_mask = True

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **options
    ):
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self._fn, self._fn_options = fn, options

    def update_state(self, y_true, y_pred, sample_weight=None, mask=None):
        if sample_weight is None and mask is None:
            if not self._count_all(y_true, y_pred):
                super().update_state(self._values(y_true, y_pred))
            return
        sample_weight = self._without_ignored(y_true, y_pred, sample_weight)
        if mask is not None:
            mask = np.asarray(mask, np.float32)
            if sample_weight is not None:
                mask = mask * fit_weights(np.asarray(sample_weight, np.float32), mask.shape)
            sample_weight = mask
            if mask.ndim > 1:
                y_true, y_pred = match_ranks(np.asarray(y_true), np.asarray(y_pred), expand=True)
        super().update_state(self._values(y_true, y_pred), sample_weight)

    def _without_ignored(self, y_true, y_pred, sample_weight):
        """Sample weights, 0 for labels of an ignore_class: without weights these count, as in
        Keras."""
        ignored = self._fn_options.get("ignore_class")
        if sample_weight is None or ignored is None:
            return sample_weight
        valid = class_labels(y_true, np.asarray(y_pred)) != ignored
        weights = np.asarray(sample_weight, np.float32)
        return fit_weights(weights, valid.shape) * valid

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
