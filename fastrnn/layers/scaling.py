"""Layers that scale their inputs by numbers that are given or measured, not trained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.checks import axes, count, number
from fastrnn.layers.base import Layer, as_numbers, check_flag
from fastrnn.variable import Array, Change

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn._types import Axes, LayerOptions, Unpack, Whole


_DTYPES = {
    "float16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
}  # fmt: skip


def check_numbers(name, value) -> np.ndarray:
    """A number, or several in any number of axes, as float32; raise unless all are finite."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return np.array(number(name, value), np.float32)
    try:
        array = np.asarray(value)
        with np.errstate(over="ignore"):
            finite = array.dtype.kind in "iuf" and np.isfinite(array.astype(np.float32)).all()
    except ValueError:
        finite = False  # lists of different lengths
    if not finite or not array.size:
        raise ValueError(f"{name}: expected finite numbers, received {value!r}")
    return array.astype(np.float32)


def written(value):
    """A number, a list or an array as Keras writes it into a config."""
    if isinstance(value, np.ndarray):
        config = {"value": value.tolist(), "dtype": value.dtype.name}
        return {"class_name": "__numpy__", "config": config}
    if isinstance(value, (list, tuple)):
        return type(value)(map(written, value))
    return value.item() if isinstance(value, np.generic) else value


def read(value):
    """The inverse of `written`; anything else as it is."""
    if not isinstance(value, Mapping) or value.get("class_name") != "__numpy__":
        return value
    array, dtype = np.asarray(value["config"]["value"]), value["config"]["dtype"]
    return array.astype(dtype) if dtype in _DTYPES else array


class Rescaling(Layer):
    """x * scale + offset, in training and in inference.

    scale, offset: numbers, or arrays of them that fit the inputs' last axes. Passes a mask on.
    Source: https://keras.io/api/layers/preprocessing_layers/image_preprocessing/rescaling/
    """

    supports_masking = True
    _hidden_names = Layer._hidden_names | {"scale_and_offset"}

    def __init__(self, scale: ArrayLike, offset: ArrayLike = 0.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.scale, self.offset = read(scale), read(offset)
        self._scale = check_numbers("scale", self.scale)
        self._offset = check_numbers("offset", self.offset)
        try:
            self._shape = np.broadcast_shapes(self._scale.shape, self._offset.shape)
        except ValueError:
            raise ValueError(
                f"scale, offset: expected shapes that fit, received {self._scale.shape} and "
                f"{self._offset.shape}"
            ) from None

    @property
    def fixed_axes(self):
        return [n - len(self._shape) for n, size in enumerate(self._shape) if size > 1]

    def check_input_shape(self, shape):
        last = shape[max(1, len(shape) - len(self._shape)) :]
        if len(last) < len(self._shape) or any(
            size not in (1, given) and given is not None
            for size, given in zip(self._shape, last, strict=True)
        ):
            self.reject_shape(f"whose last axes fit scale and offset, {self._shape}", shape)

    def scale_and_offset(self):
        """What each of the last axis is multiplied by, and what is then added, if that is all."""
        if np.prod(self._shape[:-1]) != 1:
            return None
        size = self.input_shape[-1:]
        return tuple(np.broadcast_to(a.ravel(), size) for a in (self._scale, self._offset))

    def forward(self, x, run, mask=None):
        y = run.empty(self, "y", x.shape)
        np.multiply(x, self._scale, out=y)
        y += self._offset
        return y

    def backward(self, dy, run, need_dx=True):
        return dy * self._scale if need_dx else None

    def get_config(self):
        config = super().get_config()
        return {**config, "scale": written(self.scale), "offset": written(self.offset)}


class Normalization(Layer):
    """(x - mean) / sqrt(variance), or with `invert` the way back, x * sqrt(variance) + mean.

    axis: those that have a mean and a variance for each of their places; None has one for all. mean
    and variance are given, numbers or arrays that fit these axes, or what `adapt` finds in data: 0
    and 1 before. Weights in the second case, of the sizes of these axes and not trained: mean,
    variance, count (always 0). A standard deviation below 1e-7 counts as that. Passes a mask on.
    Source: https://keras.io/api/layers/preprocessing_layers/numerical/normalization/
    """

    supports_masking = True
    _hidden_names = Layer._hidden_names | {"kept", "mean_and_deviation", "scale_and_offset"}

    def __init__(
        self,
        axis: Axes | None = -1,
        mean: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        invert: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        axis = axes("axis", axis)
        self.axis = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
        self.input_mean, self.input_variance = mean, variance
        self.invert = check_flag("invert", invert)
        self.kept = None  # the axes, counted from the end
        self._given = None
        self.adapt_mean = self.adapt_variance = self.count = None
        if (mean is None) != (variance is None):
            raise ValueError(
                f"mean, variance: expected both or none, received {mean!r} and {variance!r}"
            )
        if mean is not None:
            self._given = check_numbers("mean", mean), check_numbers("variance", variance)
            mean, variance = self._given
            if mean.shape != variance.shape or mean.ndim > len(self.axis):
                raise ValueError(
                    f"mean, variance: expected one shape, of at most {len(self.axis)} axes for "
                    f"axis {self.axis}, received {mean.shape} and {variance.shape}"
                )
            if variance.min() < 0:
                raise ValueError(f"variance: expected numbers >= 0, received {variance}")

    @property
    def fixed_axes(self):
        return self.kept or ()

    @property
    def mean(self) -> Array | None:
        """What is subtracted, in the shape that fits the inputs; None before the layer is built."""
        return self._moment(0)

    @property
    def variance(self) -> Array | None:
        """The square of what divides, as `mean`."""
        return self._moment(1)

    def _moment(self, place):
        if self.kept is None:
            return None
        return self._moments(len(self.input_shape))[place].copy().view(Array)

    def build(self, input_shape):
        if self.built:  # by adapt perhaps, for data of other axes
            self.check_input_shape(input_shape)
            self.input_shape = self.output_shape = tuple(input_shape)
        super().build(input_shape)

    def check_input_shape(self, shape):
        rank = len(shape)
        if self.kept is not None:
            expected = [None] * max(rank, 1 - min(self.kept, default=0))
            for axis, size in zip(self.kept, self._sizes, strict=True):
                expected[axis] = size
            if len(expected) > rank or any(
                size not in (None, given) and given is not None
                for size, given in zip(expected, shape, strict=True)
            ):
                self.reject_shape(tuple(expected), shape)
            return
        if any(not -rank <= axis < rank or axis % rank == 0 for axis in self.axis):
            hint = "; axis=None takes one mean of all" * (rank == 1)
            self.reject_shape(f"with axis {self.axis} after the batch", shape, hint)
        kept = self._from_the_end(rank)
        if len(set(kept)) < len(kept):
            raise ValueError(f"axis: expected each once, received {self.axis} for shape {shape}")
        sizes = tuple(shape[axis] for axis in kept)
        if None in sizes:
            self.reject_shape(f"with known sizes on axis {self.axis}", shape)
        given = () if self._given is None else self._given[0].shape
        if any(n not in (1, size) for n, size in zip(given[::-1], sizes[::-1], strict=False)):
            self.reject_shape(f"that fits a mean of shape {given} on axis {self.axis}", shape)

    def _from_the_end(self, rank):
        return tuple(sorted(axis % rank - rank for axis in self.axis))

    def create_weights(self, input_shape):
        self.kept = self._from_the_end(len(input_shape))
        self._sizes = tuple(input_shape[axis] for axis in self.kept)
        if self._given is None:
            sizes = self._sizes
            self.adapt_mean = self._new_weight("mean", sizes, "zeros", trainable=False)
            self.adapt_variance = self._new_weight("variance", sizes, "ones", trainable=False)
            self.count = self._new_weight("count", (), "zeros", trainable=False)

    def adapt(self, data: Any, batch_size: Whole | None = None, steps: Whole | None = None) -> None:
        """Take mean and variance of `data`: an array, or batches, each an array or a tuple that
        begins with one. steps: of how many batches at most; batch_size is Keras 2's and unused.

        Errors: ValueError for data that has no elements, is not finite or does not fit the layer,
        and for a layer with a given mean."""
        if self._given is not None:
            raise ValueError(
                f"layer {self.name!r}: expected no mean and variance in the constructor for adapt"
            )
        samples, mean, variance = 0, 0.0, 0.0
        for batch in _batches(data, steps):
            if not batch.size:
                continue
            shape = (None, *batch.shape[1:])
            self.check_input_shape(shape) if self.built else self.build(shape)
            reduced = tuple(n for n in range(batch.ndim) if n - batch.ndim not in self.kept)
            more = batch.size // math.prod(self._sizes)
            share = more / (samples + more)
            step = batch.mean(axis=reduced, dtype=np.float64) - mean
            spread = batch.var(axis=reduced, dtype=np.float64) - variance
            mean = mean + share * step
            variance = variance + share * (spread + (1 - share) * step**2)
            samples += more
        if not samples or not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            what = "finite numbers" if samples else "at least one element"
            raise ValueError(f"data: expected {what} for layer {self.name!r}")
        with Change([self.adapt_mean, self.adapt_variance]):
            self.adapt_mean.assign(mean)
            self.adapt_variance.assign(variance)

    def finalize_state(self) -> None:
        """Nothing: what the weights are assigned takes effect at once."""

    def _moments(self, rank):
        """mean and variance in the shape that fits inputs of so many axes."""
        shape = [1] * rank
        for axis, size in zip(self.kept, self._sizes, strict=True):
            shape[axis] = size
        pair = self._given
        if pair is None:
            pair = self.adapt_mean.value, self.adapt_variance.value
        return [np.broadcast_to(array, self._sizes).reshape(shape) for array in pair]

    def mean_and_deviation(self, rank):
        """What inputs of so many axes are reduced by, and then divided by, as arrays that fit."""
        mean, variance = self._moments(rank)
        return mean, np.maximum(np.sqrt(variance), np.float32(1e-7))

    def scale_and_offset(self):
        """What each of the last axis is multiplied by, and what is then added, if that is all."""
        if not set(self.kept) <= {-1}:
            return None
        mean, deviation = self.mean_and_deviation(1)
        pair = (deviation, mean) if self.invert else (1 / deviation, -mean / deviation)
        return tuple(np.broadcast_to(array, self.input_shape[-1:]) for array in pair)

    def _compute(self, x, mean, deviation, y):
        if self.invert:
            np.multiply(x, deviation, out=y)
            y += mean
        else:
            np.subtract(x, mean, out=y)
            y /= deviation
        return y

    def forward(self, x, run, mask=None):
        y = run.empty(self, "y", x.shape)
        return self._compute(x, *self.mean_and_deviation(x.ndim), y)

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        deviation = self.mean_and_deviation(dy.ndim)[1]
        return dy * deviation if self.invert else dy / deviation

    def plan(self, x, steps, run):
        y, pair = np.empty(x.shape, np.float32), self.mean_and_deviation(x.ndim)
        steps.append(lambda: self._compute(x, *pair, y))
        return y

    def get_config(self):
        mean, variance = (
            None if given is None else np.asarray(given).tolist()
            for given in (self.input_mean, self.input_variance)
        )
        return {
            **super().get_config(),
            "axis": self.axis,
            "invert": self.invert,
            "mean": mean,
            "variance": variance,
        }


def _batches(data, steps):
    """The arrays in what `adapt` was given."""
    listed = isinstance(data, (list, tuple))
    if hasattr(data, "__array__") or (listed and not any(map(_is_batch, data))):
        batches = [data]
    elif hasattr(data, "__getitem__") and not isinstance(data, (list, tuple, str, Mapping)):
        length = len(data) if hasattr(data, "__len__") else data.num_batches
        batches = (data[place] for place in range(length))
    elif hasattr(data, "__iter__") and not isinstance(data, (str, Mapping)):
        batches = data
    else:
        raise ValueError(f"data: expected an array or batches of arrays, received {data!r}")
    for batch in itertools.islice(batches, count("steps", steps, 1)):
        array = as_numbers(batch[0] if isinstance(batch, tuple) else batch, "data")
        if not array.ndim:
            raise ValueError(f"data: expected an array or batches of arrays, received {batch!r}")
        yield array


def _is_batch(part):
    return hasattr(part, "shape") or isinstance(part, tuple)
