"""Pooling of windows over any axes; over time steps, of windows or of the whole sequence."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.layers.base import check_flag
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.temporal import OfWindows, Temporal, Windows, check_padding, check_single

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, LayerOptions, PoolingOptions, Sizes, Unpack


class WindowPooling(OfWindows):
    """Base of pooling of windows over any number of axes. Subclasses take the arguments."""

    _hidden_names = OfWindows._hidden_names | {"pool", "spread"}

    def _configure(self, pool_size, strides, padding):
        """Take sizes, tuples of as many numbers as there are axes, and the padding."""
        self.pool_size, self.strides = pool_size, strides
        self.padding = check_padding(padding, ("valid", "same"))
        sizes = zip(pool_size, strides, strict=True)
        self._windows = [Windows(size, step, self.padding) for size, step in sizes]

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        self._check_counts(self.sizes_and_channels(shape)[0], shape)

    def _places(self, shape):
        """For each place within a window, in order, (index of what lies there, index of windows) of
        arrays of this shape with the channels at the end."""
        axes = zip(self._windows, shape[1:-1], strict=True)
        for pairs in itertools.product(*(w.places_on_steps(size) for w, size in axes)):
            inputs, windows = zip(*pairs, strict=True)
            yield (slice(None), *inputs), (slice(None), *windows)

    def compute_output_shape(self, input_shape):
        sizes, channels = self.sizes_and_channels(input_shape)
        return self.with_sizes(input_shape[0], self._counts(sizes), channels)

    def forward(self, x, run, mask=None):
        x = self.channels_at_end(x)
        shape = (x.shape[0], *self._counts(x.shape[1:-1]), x.shape[-1])
        y = run.empty(self, "y", shape)
        self.pool(x, y)
        run.saved[self] = x, y
        return np.ascontiguousarray(self.own_order(y))

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        x, y = run.saved[self]
        dx = run.empty(self, "dx", x.shape)
        dx[...] = 0
        self.spread(dx, self.channels_at_end(dy), x, y)
        return np.ascontiguousarray(self.own_order(dx))

    def get_config(self):
        config = super().get_config()
        data_format = config.pop("data_format")
        return {
            **config,
            "pool_size": self.pool_size,
            "padding": self.padding,
            "strides": self.strides,
            "data_format": data_format,
        }


class Largest(WindowPooling):
    """The largest value of each window."""

    def pool(self, x, y):
        y[...] = -np.inf
        for inputs, windows in self._places(x.shape):
            np.maximum(y[windows], x[inputs], out=y[windows])

    def spread(self, dx, dy, x, y):
        left = dy.copy()  # the gradient that no place of its window has taken yet
        for inputs, windows in self._places(x.shape):
            taken = left[windows] * (x[inputs] == y[windows])
            dx[inputs] += taken
            left[windows] -= taken


class Mean(WindowPooling):
    """The mean of each window, of the places within the edges."""

    def _share(self, shape):
        """One over the number of places in each window, (1, windows ..., 1)."""
        number = np.zeros((1, *self._counts(shape[1:-1]), 1), np.float32)
        for _, windows in self._places(shape):
            number[windows] += 1
        return 1 / number

    def pool(self, x, y):
        y[...] = 0
        for inputs, windows in self._places(x.shape):
            y[windows] += x[inputs]
        y *= self._share(x.shape)

    def spread(self, dx, dy, x, y):
        share = dy * self._share(x.shape)
        for inputs, windows in self._places(x.shape):
            dx[inputs] += share[windows]


class _OverTime(WindowPooling, Temporal):
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
        pool_size = check_single("pool_size", pool_size)
        strides = pool_size if strides is None else check_single("strides", strides)
        self._configure(pool_size, strides, padding)


class MaxPooling1D(Largest, _OverTime):
    """The largest value of each window: (batch, timesteps, channels) -> (batch, windows, channels).

    strides: default pool_size. padding: "valid" or "same". data_format "channels_first" swaps the
    last two axes. Of equal values the first gets the gradient. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/max_pooling1d/
    """


class AveragePooling1D(Mean, _OverTime):
    """The mean of each window: (batch, timesteps, channels) -> (batch, windows, channels).

    Arguments as in MaxPooling1D. Places beyond the ends do not count. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/average_pooling1d/
    """


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
