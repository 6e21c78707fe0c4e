"""Layers that give a sequence more time steps or fewer, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastrnn.layers.base import LACKS_AN_AXIS, Layer, check_size
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.temporal import Temporal

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, LayerOptions, Sizes, Unpack, UpSamplingOptions, Whole


def check_ends(name, value, *keys):
    """(before, after), whole numbers >= 0: one for both, two, or Keras 1's dict with these keys."""
    ends = value
    if keys and value and isinstance(value, Mapping) and set(value) <= set(keys):
        ends = [value.get(key, 0) for key in keys]
    elif hasattr(value, "__index__"):
        ends = [value, value]
    if not isinstance(ends, (list, tuple)) or len(ends) != 2 or not all(map(_is_count, ends)):
        raise ValueError(f"{name}: expected a whole number >= 0 or two of them, received {value!r}")
    return int(ends[0]), int(ends[1])


def _is_count(value):
    return hasattr(value, "__index__") and not isinstance(value, bool) and int(value) >= 0


class UpSampling1D(Layer):
    """Repeats each time step: (batch, timesteps, channels) -> (batch, timesteps * size, channels).

    Drops a mask. Source: https://keras.io/api/layers/reshaping_layers/up_sampling1d/
    """

    @old_spellings(length="size")
    def __init__(self, size: Whole = 2, **kwargs: Unpack[UpSamplingOptions]):
        super().__init__(**kwargs)
        self.size = check_size("size", size)

    def check_input_shape(self, shape):
        _check_rank(self, shape)

    def compute_output_shape(self, input_shape):
        batch, timesteps, channels = input_shape
        return (batch, None if timesteps is None else timesteps * self.size, channels)

    def forward(self, x, run, mask=None):
        y = run.empty(self, "y", (*x.shape[:2], self.size, x.shape[2]))
        y[...] = x[:, :, None]
        return y.reshape(self.compute_output_shape(x.shape))

    def backward(self, dy, run, need_dx=True):
        batch, timesteps, channels = dy.shape
        return dy.reshape(batch, timesteps // self.size, self.size, channels).sum(axis=2)

    def plan(self, x, steps, run):
        y = np.empty((*x.shape[:2], self.size, x.shape[2]), np.float32)
        steps.append(lambda: np.copyto(y, x[:, :, None]))
        return y.reshape(self.compute_output_shape(x.shape))

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class ZeroPadding1D(Temporal):
    """Time steps of zeros before and after: (batch, timesteps, channels) -> (batch, before +
    timesteps + after, channels).

    padding: a number for both ends, or (before, after). data_format "channels_first" swaps the last
    two axes. Drops a mask.
    Source: https://keras.io/api/layers/reshaping_layers/zero_padding1d/
    """

    def __init__(
        self,
        padding: Sizes | Mapping[str, SupportsIndex] = 1,
        data_format: DataFormat = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.padding = check_ends("padding", padding, "left_pad", "right_pad")

    def compute_output_shape(self, input_shape):
        timesteps, channels = self.steps_and_channels(input_shape)
        if timesteps is not None:
            timesteps += sum(self.padding)
        return self.shape_of(input_shape[0], timesteps, channels)

    def _inner(self, y):
        """The view of the output that the input fills."""
        steps = self.steps_second(y)
        return self.steps_second(steps[:, self.padding[0] : steps.shape[1] - self.padding[1]])

    def forward(self, x, run, mask=None):
        y = run.empty(self, "y", self.compute_output_shape(x.shape))
        y[...] = 0
        self._inner(y)[...] = x
        return y

    def backward(self, dy, run, need_dx=True):
        return np.ascontiguousarray(self._inner(dy))

    def plan(self, x, steps, run):
        y = np.zeros(self.compute_output_shape(x.shape), np.float32)
        inner = self._inner(y)
        steps.append(lambda: np.copyto(inner, x))
        return y

    def get_config(self):
        config = super().get_config()
        del config["data_format"]
        return {**config, "padding": self.padding, "data_format": self.data_format}


class Cropping1D(Layer):
    """Cuts time steps off: (batch, timesteps, channels) -> (batch, timesteps - before - after,
    channels), at least one.

    cropping: a number for both ends, or (before, after). Drops a mask.
    Source: https://keras.io/api/layers/reshaping_layers/cropping1d/
    """

    def __init__(self, cropping: Sizes = (1, 1), **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.cropping = check_ends("cropping", cropping)

    def check_input_shape(self, shape):
        _check_rank(self, shape)
        least = sum(self.cropping) + 1
        if shape[1] is not None and shape[1] < least:
            self.reject_shape(f"with at least {least} time steps", shape)

    def compute_output_shape(self, input_shape):
        batch, timesteps, channels = input_shape
        return (batch, None if timesteps is None else timesteps - sum(self.cropping), channels)

    def _kept(self, x):
        return x[:, self.cropping[0] : x.shape[1] - self.cropping[1]]

    def forward(self, x, run, mask=None):
        run.saved[self] = x.shape
        return np.ascontiguousarray(self._kept(x))

    def backward(self, dy, run, need_dx=True):
        dx = np.zeros(run.saved[self], np.float32)
        self._kept(dx)[...] = dy
        return dx

    def plan(self, x, steps, run):
        y, kept = np.empty(self.compute_output_shape(x.shape), np.float32), self._kept(x)
        steps.append(lambda: np.copyto(y, kept))
        return y

    def get_config(self):
        return {**super().get_config(), "cropping": self.cropping}


def _check_rank(layer, shape):
    if len(shape) != 3:
        hint = LACKS_AN_AXIS * (len(shape) == 2)
        layer.reject_shape("(batch, timesteps, channels)", shape, hint)
