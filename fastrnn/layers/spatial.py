"""What layers over time and over images share: the order of the axes, and pairs of sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.layers.base import Layer, check_size

if TYPE_CHECKING:
    from fastrnn._types import DataFormat, LayerOptions, SpatialOptions, Unpack

# What users of arrays (images, height, width) or (height, width, channels) look for.
LACKS_CHANNELS = "; x[..., None] gives each pixel one channel, x[None] is one image"


def check_data_format(value):
    """ "channels_last" or "channels_first", by default the first; raise for anything else."""
    if value not in (None, "channels_last", "channels_first"):
        raise ValueError(
            f"data_format: expected 'channels_last' or 'channels_first', received {value!r}"
        )
    return value or "channels_last"


class Spatial(Layer):
    """Base of layers over (batch, *sizes, channels), or (batch, channels, *sizes) where data_format
    is "channels_first"."""

    _hidden_names = Layer._hidden_names | {
        *("at_least", "channels_at_end", "own_order", "sizes_and_channels", "with_sizes"),
    }

    def __init__(self, data_format: DataFormat = None, **kwargs: Unpack[LayerOptions]):
        self.data_format = check_data_format(data_format)
        super().__init__(**kwargs)

    def sizes_and_channels(self, shape):
        """The sizes of an input shape without batch and channels, and the channels."""
        if self.data_format == "channels_last":
            return tuple(shape[1:-1]), shape[-1]
        return tuple(shape[2:]), shape[1]

    def with_sizes(self, batch, sizes, channels):
        """The shape with these sizes in the layer's own order."""
        if self.data_format == "channels_last":
            return (batch, *sizes, channels)
        return (batch, channels, *sizes)

    def channels_at_end(self, array):
        """A view of an array in the layer's own order."""
        return array if self.data_format == "channels_last" else np.moveaxis(array, 1, -1)

    def own_order(self, array):
        """The view that `channels_at_end` would give of it back."""
        return array if self.data_format == "channels_last" else np.moveaxis(array, -1, 1)

    def at_least(self, sizes):
        """For errors: inputs that are large enough."""
        return f"with images of at least {' x '.join(map(str, sizes))}"

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


class Images(Spatial):
    """Base of layers over (batch, height, width, channels), or (batch, channels, height, width)
    where data_format is "channels_first". dim_ordering is Keras 1's name of data_format, "tf" or
    "th" its values."""

    def __init__(self, data_format: DataFormat = None, **kwargs: Unpack[SpatialOptions]):
        super().__init__(data_format=data_format_of(data_format, kwargs), **kwargs)

    def check_input_shape(self, shape):
        if len(shape) != 4:
            self.reject_shape(
                self.with_sizes("batch", ("height", "width"), "channels"), shape,
                LACKS_CHANNELS * (len(shape) == 3),
            )  # fmt: skip


def data_format_of(value, kwargs):
    """data_format, or what Keras 1's dim_ordering among the arguments says."""
    orders = {"tf": "channels_last", "th": "channels_first", "default": None}
    if "dim_ordering" not in kwargs:
        return value
    order = kwargs.pop("dim_ordering")
    if value is not None or order not in orders:
        raise ValueError(
            f"dim_ordering: expected one of {tuple(orders)}, and no data_format beside it, "
            f"received {order!r}"
        )
    return orders[order]


def check_pair(name, value):
    """Two whole numbers >= 1 from one for both, or a tuple or list of two."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name}: expected one whole number or two, received {value!r}")
        return tuple(check_size(name, size) for size in value)
    return (check_size(name, value),) * 2
