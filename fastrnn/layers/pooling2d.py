"""Pooling of images: of windows, or of the whole image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.layers.base import check_flag
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.pooling import Largest, Mean, WindowPooling
from fastrnn.layers.spatial import Images, check_pair

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, Pooling2DOptions, Sizes, SpatialOptions, Unpack


class _OverImages(WindowPooling, Images):
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
        pool_size = check_pair("pool_size", pool_size)
        strides = pool_size if strides is None else check_pair("strides", strides)
        self._configure(pool_size, strides, padding)


class MaxPooling2D(Largest, _OverImages):
    """The largest value of each window: (batch, height, width, channels) -> (batch, rows, columns,
    channels).

    pool_size, strides: one number for both axes, or (height, width); strides: default pool_size.
    padding: "valid" or "same". data_format "channels_first" puts the channels before the height. Of
    equal values the first by row gets the gradient. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/max_pooling2d/
    """


class AveragePooling2D(Mean, _OverImages):
    """The mean of each window: (batch, height, width, channels) -> (batch, rows, columns,
    channels).

    Arguments as in MaxPooling2D. Places beyond the edges do not count. Drops a mask.
    Source: https://keras.io/api/layers/pooling_layers/average_pooling2d/
    """


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
