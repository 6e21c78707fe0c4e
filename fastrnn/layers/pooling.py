"""Pooling over time steps: of windows, or of the whole sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.layers.base import check_flag
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.temporal import Temporal, Windows, check_padding, check_single

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, LayerOptions, PoolingOptions, Sizes, Unpack


class _Pooling(Temporal):
    _hidden_names = Temporal._hidden_names | {"pool", "spread"}

    @old_spellings(
        pool_length="pool_size", stride="strides", subsample_length="strides", border_mode="padding"
    )
    def __init__(
        self,
        pool_size: Sizes = 2,
        strides: Sizes = None,
        padding: str = "valid",
        data_format: DataFormat = None,
        **kwargs: Unpack[PoolingOptions],
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.pool_size = check_single("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else check_single("strides", strides)
        self.padding = check_padding(padding, ("valid", "same"))
        self._windows = Windows(*self.pool_size, *self.strides, self.padding)

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        timesteps, _ = self.steps_and_channels(shape)
        if timesteps is not None and self._windows.count(timesteps) < 1:
            self.reject_shape(f"with at least {self._windows.reach} time steps", shape)

    def compute_output_shape(self, input_shape):
        timesteps, channels = self.steps_and_channels(input_shape)
        return self.shape_of(input_shape[0], self._windows.count(timesteps), channels)

    def forward(self, x, run, mask=None):
        x = self.steps_second(x)
        shape = (x.shape[0], self._windows.count(x.shape[1]), x.shape[2])
        y = self.pool(x, run.empty(self, "y", shape))
        run.saved[self] = x, y
        return np.ascontiguousarray(self.steps_second(y))

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        x, y = run.saved[self]
        dx = run.empty(self, "dx", x.shape)
        dx[...] = 0
        self.spread(dx, self.steps_second(dy), x, y)
        return np.ascontiguousarray(self.steps_second(dx))

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "padding": self.padding,
            "strides": self.strides,
        }


class MaxPooling1D(_Pooling):
    """The largest value of each window: (batch, timesteps, channels) -> (batch, windows, channels).

    strides: default pool_size. padding: "valid" or "same". data_format "channels_first" swaps the
    last two axes. Of equal values the first gets the gradient. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/max_pooling1d/
    """

    def pool(self, x, y):
        y[...] = -np.inf
        for steps, windows in self._windows.places_on_steps(x.shape[1]):
            np.maximum(y[:, windows], x[:, steps], out=y[:, windows])
        return y

    def spread(self, dx, dy, x, y):
        left = dy.copy()  # the gradient that no place of its window has taken yet
        for steps, windows in self._windows.places_on_steps(x.shape[1]):
            taken = left[:, windows] * (x[:, steps] == y[:, windows])
            dx[:, steps] += taken
            left[:, windows] -= taken


class AveragePooling1D(_Pooling):
    """The mean of each window: (batch, timesteps, channels) -> (batch, windows, channels).

    Arguments as in MaxPooling1D. Places beyond the ends do not count. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/average_pooling1d/
    """

    def _share(self, timesteps):
        """One over the number of steps in each window, (windows, 1)."""
        number = np.zeros((self._windows.count(timesteps), 1), np.float32)
        for _, windows in self._windows.places_on_steps(timesteps):
            number[windows] += 1
        return 1 / number

    def pool(self, x, y):
        y[...] = 0
        for steps, windows in self._windows.places_on_steps(x.shape[1]):
            y[:, windows] += x[:, steps]
        y *= self._share(x.shape[1])
        return y

    def spread(self, dx, dy, x, y):
        share = dy * self._share(x.shape[1])
        for steps, windows in self._windows.places_on_steps(x.shape[1]):
            dx[:, steps] += share[:, windows]


class _GlobalPooling(Temporal):
    _hidden_names = Temporal._hidden_names | {"without_steps"}

    def __init__(
        self, data_format: DataFormat = None, keepdims: bool = False, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.keepdims = check_flag("keepdims", keepdims)

    def compute_output_shape(self, input_shape):
        batch, channels = input_shape[0], self.steps_and_channels(input_shape)[1]
        return self.shape_of(batch, 1, channels) if self.keepdims else (batch, channels)

    def without_steps(self, y):
        """y (batch, channels) in the shape of the output."""
        return self.steps_second(y[:, None]) if self.keepdims else y

    def get_config(self):
        return {**super().get_config(), "keepdims": self.keepdims}


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean over time: (batch, timesteps, channels) -> (batch, channels).

    keepdims: keep the time axis, of size 1. A mask leaves its steps out, and ends here; a sequence
    wholly masked gives NaN, as in Keras.
    Source: https://keras.io/api/layers/pooling_layers/global_average_pooling1d/
    """

    supports_masking = True
    _positional = ("mask",)

    def compute_mask(self, inputs, mask=None):
        return None

    def forward(self, x, run, mask=None):
        steps = self.steps_second(x)
        if mask is None:
            share = np.float32(1 / steps.shape[1])
            y = steps.mean(axis=1)
        else:
            kept = mask[:, :, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                share = kept / kept.sum(axis=1, keepdims=True, dtype=np.float32)
                y = np.where(kept, steps, 0).sum(axis=1) / kept.sum(axis=1, dtype=np.float32)
        run.saved[self] = steps.shape, share
        return np.ascontiguousarray(self.without_steps(y))

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        shape, share = run.saved[self]
        dx = run.empty(self, "dx", shape)
        np.multiply(dy.reshape(shape[0], 1, shape[2]), share, out=dx)
        return np.ascontiguousarray(self.steps_second(dx))


class GlobalMaxPooling1D(_GlobalPooling):
    """The largest value over time: (batch, timesteps, channels) -> (batch, channels).

    keepdims: keep the time axis, of size 1. Equal values share the gradient. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/global_max_pooling1d/
    """

    def forward(self, x, run, mask=None):
        steps = self.steps_second(x)
        y = steps.max(axis=1)
        run.saved[self] = steps, y
        return np.ascontiguousarray(self.without_steps(y))

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        x, y = run.saved[self]
        largest = x == y[:, None]
        share = dy.reshape(y.shape) / largest.sum(axis=1, dtype=np.float32)
        dx = run.empty(self, "dx", x.shape)
        np.multiply(largest, share[:, None], out=dx)
        return np.ascontiguousarray(self.steps_second(dx))
