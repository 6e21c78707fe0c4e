"""Pooling of images: of windows, or of the whole image."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.layers.base import check_flag
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.spatial import Images, check_pair
from fastrnn.layers.temporal import Windows, check_padding

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, Pooling2DOptions, Sizes, SpatialOptions, Unpack


class _Pooling2D(Images):
    _hidden_names = Images._hidden_names | {"pool", "spread"}

    @old_spellings(border_mode="padding")
    def __init__(
        self,
        pool_size: Sizes = (2, 2),
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: DataFormat = None,
        **kwargs: Unpack[Pooling2DOptions],
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.pool_size = check_pair("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else check_pair("strides", strides)
        self.padding = check_padding(padding, ("valid", "same"))
        sizes = zip(self.pool_size, self.strides, strict=True)
        self._windows = [Windows(size, step, self.padding) for size, step in sizes]

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        sizes, _ = self.sizes_and_channels(shape)
        if any(count is not None and count < 1 for count in self._counts(sizes)):
            self.reject_shape(self.at_least(self.pool_size), shape)

    def _counts(self, sizes):
        """The number of windows along each axis."""
        return [w.count(size) for w, size in zip(self._windows, sizes, strict=True)]

    def _places(self, shape):
        """For each place within a window, by row, (index of pixels, index of windows) of images of
        this shape."""
        axes = zip(self._windows, shape[1:3], strict=True)
        for pairs in itertools.product(*(w.places_on_steps(size) for w, size in axes)):
            pixels, windows = zip(*pairs, strict=True)
            yield (slice(None), *pixels), (slice(None), *windows)

    def compute_output_shape(self, input_shape):
        sizes, channels = self.sizes_and_channels(input_shape)
        return self.with_sizes(input_shape[0], self._counts(sizes), channels)

    def forward(self, x, run, mask=None):
        x = self.channels_at_end(x)
        shape = (x.shape[0], *self._counts(x.shape[1:3]), x.shape[3])
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


class MaxPooling2D(_Pooling2D):
    """The largest value of each window: (batch, height, width, channels) -> (batch, rows, columns,
    channels).

    pool_size, strides: one number for both axes, or (height, width); strides: default pool_size.
    padding: "valid" or "same". data_format "channels_first" puts the channels before the height. Of
    equal values the first by row gets the gradient. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/max_pooling2d/
    """

    def pool(self, x, y):
        y[...] = -np.inf
        for pixels, windows in self._places(x.shape):
            np.maximum(y[windows], x[pixels], out=y[windows])

    def spread(self, dx, dy, x, y):
        left = dy.copy()  # the gradient that no place of its window has taken yet
        for pixels, windows in self._places(x.shape):
            taken = left[windows] * (x[pixels] == y[windows])
            dx[pixels] += taken
            left[windows] -= taken


class AveragePooling2D(_Pooling2D):
    """The mean of each window: (batch, height, width, channels) -> (batch, rows, columns,
    channels).

    Arguments as in MaxPooling2D. Places beyond the edges do not count. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/average_pooling2d/
    """

    def _share(self, shape):
        """One over the number of pixels in each window, (rows, columns, 1)."""
        number = np.zeros((1, *self._counts(shape[1:3]), 1), np.float32)
        for _, windows in self._places(shape):
            number[windows] += 1
        return 1 / number

    def pool(self, x, y):
        y[...] = 0
        for pixels, windows in self._places(x.shape):
            y[windows] += x[pixels]
        y *= self._share(x.shape)

    def spread(self, dx, dy, x, y):
        share = dy * self._share(x.shape)
        for pixels, windows in self._places(x.shape):
            dx[pixels] += share[windows]


class _GlobalPooling2D(Images):
    def __init__(
        self,
        data_format: DataFormat = None,
        keepdims: bool = False,
        **kwargs: Unpack[SpatialOptions],
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.keepdims = check_flag("keepdims", keepdims)

    def compute_output_shape(self, input_shape):
        batch, channels = input_shape[0], self.sizes_and_channels(input_shape)[1]
        return self.with_sizes(batch, (1, 1), channels) if self.keepdims else (batch, channels)

    def _axes(self):
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def _spread(self, array):
        """An array of the output's size in the input's order of axes."""
        batch, channels = len(array), array.size // len(array)
        return array.reshape(self.with_sizes(batch, (1, 1), channels))

    def get_config(self):
        return {**super().get_config(), "keepdims": self.keepdims}


class GlobalAveragePooling2D(_GlobalPooling2D):
    """The mean of each image: (batch, height, width, channels) -> (batch, channels).

    keepdims: keep the height and width, of size 1. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/global_average_pooling2d/
    """

    def forward(self, x, run, mask=None):
        run.saved[self] = x.shape
        return x.mean(axis=self._axes(), keepdims=self.keepdims)

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        shape = run.saved[self]
        dx = run.empty(self, "dx", shape)
        share = np.float32(1 / math.prod(self.sizes_and_channels(shape)[0]))
        np.multiply(self._spread(dy), share, out=dx)
        return dx


class GlobalMaxPooling2D(_GlobalPooling2D):
    """The largest value of each image: (batch, height, width, channels) -> (batch, channels).

    keepdims: keep the height and width, of size 1. Equal values share the gradient. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/global_max_pooling2d/
    """

    def forward(self, x, run, mask=None):
        y = x.max(axis=self._axes(), keepdims=self.keepdims)
        run.saved[self] = x, y
        return y

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        x, y = run.saved[self]
        largest = x == self._spread(y)
        number = largest.sum(axis=self._axes(), keepdims=True, dtype=np.float32)
        dx = run.empty(self, "dx", x.shape)
        np.multiply(largest, self._spread(dy) / number, out=dx)
        return dx
