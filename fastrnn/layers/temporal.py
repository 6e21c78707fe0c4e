"""What pooling and convolution over time share: the order of the axes, and windows of steps."""

from __future__ import annotations

from fastrnn.layers.base import LACKS_AN_AXIS, check_size
from fastrnn.layers.spatial import Spatial


class Temporal(Spatial):
    """Base of layers over (batch, timesteps, channels), or (batch, channels, timesteps) where
    data_format is "channels_first"."""

    _hidden_names = Spatial._hidden_names | {"shape_of", "steps_and_channels", "steps_second"}

    def steps_second(self, array):
        """A view with the time steps on axis 1, or from there back to the layer's own order."""
        if self.data_format == "channels_last" or array.ndim < 3:
            return array
        return array.swapaxes(1, 2)

    def check_mask(self, mask, shape):
        if len(shape) == 3:
            shape = (shape[0], *self.steps_and_channels(shape))
        super().check_mask(mask, shape)

    def steps_and_channels(self, shape):
        """The two sizes of an input shape."""
        return shape[1:] if self.data_format == "channels_last" else shape[:0:-1]

    def shape_of(self, batch, timesteps, channels):
        """The shape with these sizes in the layer's own order."""
        return self.with_sizes(batch, (timesteps,), channels)

    def check_input_shape(self, shape):
        if len(shape) != 3:
            self.reject_shape(
                self.shape_of("batch", "timesteps", "channels"), shape,
                LACKS_AN_AXIS * (len(shape) == 2),
            )  # fmt: skip

    def at_least(self, sizes):
        return f"with at least {sizes[0]} time steps"


def check_single(name, value):
    """A whole number >= 1, or a tuple or list of one, as Keras's tuple of one."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ValueError(f"{name}: expected one whole number, received {value!r}")
        value = value[0]
    return (check_size(name, value),)


def check_padding(value, allowed):
    """`value` in lower case; raise unless it is among `allowed`."""
    if not isinstance(value, str) or value.lower() not in allowed:
        raise ValueError(f"padding: expected one of {allowed}, received {value!r}")
    return value.lower()


class Windows:
    """Windows of `size` steps, `dilation` apart, one window each `stride` steps.

    padding: "valid" keeps within the steps; "same" and "causal" give a window for each stride,
    reaching beyond both ends or before the start only. "same" has the odd place at the end.
    """

    def __init__(self, size, stride, padding, dilation=1):
        self.size, self.stride, self.padding, self.dilation = size, stride, padding, dilation
        self.reach = (size - 1) * dilation + 1

    def count(self, timesteps):
        """The number of windows; None for an unknown number of steps."""
        if timesteps is None:
            return None
        if self.padding == "valid":
            return (timesteps - self.reach) // self.stride + 1
        return -(-timesteps // self.stride)

    def places(self, timesteps):
        """For each place within a window, (slice of steps, slice of windows): the windows in which
        the place lies on a step, and these steps."""
        return self._pairs(timesteps, range(self.size))

    def places_on_steps(self, timesteps):
        """Those of `places` that lie on a step in any window: a window may be far larger."""
        count, before = self.count(timesteps), self.before(timesteps)
        first = max(0, -((before - (count - 1) * self.stride) // -self.dilation))
        end = min(self.size, (timesteps - 1 + before) // self.dilation + 1)
        return self._pairs(timesteps, range(first, end))

    def before(self, timesteps):
        """How many steps the first window begins before the first step."""
        if self.padding == "causal":
            return self.reach - 1
        if self.padding == "same":
            span = (self.count(timesteps) - 1) * self.stride + self.reach
            return max(span - timesteps, 0) // 2
        return 0

    def _pairs(self, timesteps, places):
        count, before = self.count(timesteps), self.before(timesteps)
        pairs = []
        for place in places:
            offset = place * self.dilation - before
            first = max(0, -(offset // self.stride))
            end = min(count, (timesteps - 1 - offset) // self.stride + 1)
            if first >= end:
                pairs.append((slice(0, 0), slice(0, 0)))
                continue
            start = first * self.stride + offset
            stop = (end - 1) * self.stride + offset + 1
            pairs.append((slice(start, stop, self.stride), slice(first, end)))
        return pairs


class OfWindows(Spatial):
    """Base of layers that give a value for each window: `_windows` has those along each axis."""

    _windows: list[Windows]

    def _counts(self, sizes):
        """The number of windows along each axis."""
        return [w.count(size) for w, size in zip(self._windows, sizes, strict=True)]

    def _check_counts(self, sizes, shape):
        """Raise unless there is a window along each axis whose size is known."""
        if any(count is not None and count < 1 for count in self._counts(sizes)):
            self.reject_shape(self.at_least([w.reach for w in self._windows]), shape)
