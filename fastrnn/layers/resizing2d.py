"""Layers that make images larger or smaller, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastrnn.layers.resizing import check_ends
from fastrnn.layers.spatial import Images, check_pair

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, Edges, Sizes, SpatialOptions, Unpack

EDGES = ("top_pad", "bottom_pad", "left_pad", "right_pad")


def check_edges(name, value):
    """((top, bottom), (left, right)), whole numbers >= 0, from one for all, (height, width), two
    pairs, or Keras 1's dict."""
    edges = value
    if isinstance(value, Mapping) and value and set(value) <= set(EDGES):
        numbers = [value.get(key, 0) for key in EDGES]
        edges = numbers[:2], numbers[2:]
    elif hasattr(value, "__index__"):
        edges = value, value
    try:
        height, width = edges
        if isinstance(edges, (str, Mapping)):
            raise ValueError
        return check_ends(name, height), check_ends(name, width)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: expected a whole number >= 0, two of them or ((top, bottom), (left, right)), "
            f"received {value!r}"
        ) from None


class UpSampling2D(Images):
    """Repeats rows and columns: (batch, height, width, channels) -> (batch, height * size[0],
    width * size[1], channels).

    size: one number for both axes, or (height, width). interpolation: "nearest" alone. data_format
    "channels_first" puts the channels before the height. Drops a mask.
    Source: https://keras.io/api/layers/reshaping_layers/up_sampling2d/
    """

    def __init__(
        self,
        size: Sizes = (2, 2),
        data_format: DataFormat = None,
        interpolation: str = "nearest",
        **kwargs: Unpack[SpatialOptions],
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.size = check_pair("size", size)
        if not isinstance(interpolation, str) or interpolation.lower() != "nearest":
            raise ValueError(f"interpolation: expected 'nearest', received {interpolation!r}")
        self.interpolation = "nearest"

    def compute_output_shape(self, input_shape):
        sizes, channels = self.sizes_and_channels(input_shape)
        sizes = [n and n * times for n, times in zip(sizes, self.size, strict=True)]
        return self.with_sizes(input_shape[0], sizes, channels)

    def forward(self, x, run, mask=None):
        x = self.channels_at_end(x)
        batch, height, width, channels = x.shape
        down, across = self.size
        y = run.empty(self, "y", (batch, height, down, width, across, channels))
        y[...] = x[:, :, None, :, None]
        y = y.reshape(batch, height * down, width * across, channels)
        return np.ascontiguousarray(self.own_order(y))

    def backward(self, dy, run, need_dx=True):
        dy = self.channels_at_end(dy)
        batch, height, width, channels = dy.shape
        down, across = self.size
        dx = dy.reshape(batch, height // down, down, width // across, across, channels)
        return np.ascontiguousarray(self.own_order(dx.sum(axis=(2, 4))))

    def get_config(self):
        config = super().get_config()
        data_format = config.pop("data_format")
        return {
            **config,
            "size": self.size,
            "data_format": data_format,
            "interpolation": self.interpolation,
        }


class ZeroPadding2D(Images):
    """Rows and columns of zeros around images: (batch, height, width, channels) -> (batch, top +
    height + bottom, left + width + right, channels).

    padding: a number for all edges, (height, width), or ((top, bottom), (left, right)). data_format
    "channels_first" puts the channels before the height. Drops a mask.
    Source: https://keras.io/api/layers/reshaping_layers/zero_padding2d/
    """

    def __init__(
        self,
        padding: Edges | Mapping[str, SupportsIndex] = (1, 1),
        data_format: DataFormat = None,
        **kwargs: Unpack[SpatialOptions],
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.padding = check_edges("padding", padding)

    def compute_output_shape(self, input_shape):
        sizes, channels = self.sizes_and_channels(input_shape)
        sizes = [
            None if n is None else n + sum(ends)
            for n, ends in zip(sizes, self.padding, strict=True)
        ]
        return self.with_sizes(input_shape[0], sizes, channels)

    def forward(self, x, run, mask=None):
        y = run.empty(self, "y", self.compute_output_shape(x.shape))
        y[...] = 0
        _inner(self, y, self.padding)[...] = self.channels_at_end(x)
        return y

    def backward(self, dy, run, need_dx=True):
        return np.ascontiguousarray(self.own_order(_inner(self, dy, self.padding)))

    def get_config(self):
        return _with_edges(super().get_config(), "padding", self.padding)


class Cropping2D(Images):
    """Cuts rows and columns off images: (batch, height, width, channels) -> (batch, height - top -
    bottom, width - left - right, channels), at least one each.

    cropping: a number for all edges, (height, width), or ((top, bottom), (left, right)).
    data_format "channels_first" puts the channels before the height. Drops a mask.
    Source: https://keras.io/api/layers/reshaping_layers/cropping2d/
    """

    def __init__(
        self,
        cropping: Edges = ((0, 0), (0, 0)),
        data_format: DataFormat = None,
        **kwargs: Unpack[SpatialOptions],
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.cropping = check_edges("cropping", cropping)

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        least = [sum(ends) + 1 for ends in self.cropping]
        sizes, _ = self.sizes_and_channels(shape)
        if any(n is not None and n < low for n, low in zip(sizes, least, strict=True)):
            self.reject_shape(self.at_least(least), shape)

    def compute_output_shape(self, input_shape):
        sizes, channels = self.sizes_and_channels(input_shape)
        sizes = [
            None if n is None else n - sum(ends)
            for n, ends in zip(sizes, self.cropping, strict=True)
        ]
        return self.with_sizes(input_shape[0], sizes, channels)

    def forward(self, x, run, mask=None):
        run.saved[self] = x.shape
        return np.ascontiguousarray(self.own_order(_inner(self, x, self.cropping)))

    def backward(self, dy, run, need_dx=True):
        dx = np.zeros(run.saved[self], np.float32)
        _inner(self, dx, self.cropping)[...] = self.channels_at_end(dy)
        return dx

    def get_config(self):
        return _with_edges(super().get_config(), "cropping", self.cropping)


def _inner(layer, array, edges):
    """The view, channels last, of images without their edges."""
    (top, bottom), (left, right) = edges
    images = layer.channels_at_end(array)
    return images[:, top : images.shape[1] - bottom, left : images.shape[2] - right]


def _with_edges(config, name, edges):
    data_format = config.pop("data_format")
    return {**config, name: edges, "data_format": data_format}
