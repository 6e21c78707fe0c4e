"""Conv1DTranspose: what Conv1D does to gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine
from fastrnn.layers.base import WeightOptions, check_size
from fastrnn.layers.dense import LINEAR
from fastrnn.layers.temporal import Windows
from fastrnn.layers.windowed import Windowed

if TYPE_CHECKING:
    from fastrnn._types import (
        DataFormat,
        Identifier,
        Initializer,
        Sizes,
        Unpack,
        Whole,
        WindowedOptions,
    )


class Conv1DTranspose(Windowed):
    """(batch, timesteps, channels) -> (batch, steps, filters), float32: each time step adds its
    products with the kernel to kernel_size steps, `strides` further on for each next one.

    padding: "valid" keeps all steps, "same" leaves timesteps * strides of them. output_padding,
    below strides: how many steps more than (timesteps - 1) * strides + kernel_size ("valid") or
    + kernel_size % 2 ("same"). data_format "channels_first" swaps the last two axes. strides and
    dilation_rate may not both exceed 1. Weights: kernel (kernel_size, filters, channels), bias
    (filters). Drops a mask.
    Source: https://keras.io/api/layers/convolution_layers/convolution1d_transpose/
    """

    _hidden_names = Windowed._hidden_names | {"ends"}
    kernel_initializer, kernel_regularizer, kernel_constraint = WeightOptions.properties("_kernel")

    def __init__(
        self,
        filters: Whole,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        output_padding: Sizes | None = None,
        data_format: DataFormat = None,
        dilation_rate: Sizes = 1,
        activation: Identifier = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        **kwargs: Unpack[WindowedOptions],
    ):
        super().__init__(
            kernel_size,
            strides,
            padding,
            dilation_rate,
            activation,
            use_bias,
            (bias_initializer, bias_regularizer, bias_constraint),
            data_format=data_format,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.filters = check_size("filters", filters)
        self.output_padding = _check_output_padding(output_padding, *self.strides)
        if self.strides[0] > 1 and self.dilation_rate[0] > 1:
            raise ValueError(
                "strides, dilation_rate: expected one of them to be 1, received "
                f"{strides!r} and {dilation_rate!r}"
            )
        self._kernel = WeightOptions(
            "kernel", kernel_initializer, kernel_regularizer, kernel_constraint
        )
        self._windows = _Transposed(self._windows, self.output_padding)
        self.kernel = None

    def ends(self):
        """What cuts and lengthens the whole of the windows: (steps of zeros at the end, steps cut
        from the start, from the end)."""
        return self._windows.ends()

    def _check_steps(self, timesteps, shape):
        if self._count(timesteps) < 1:
            self.reject_shape("with at least 2 time steps", shape)

    def create_weights(self, input_shape):
        channels = self.steps_and_channels(input_shape)[1]
        self.kernel = self._kernel.add_to(
            self, "kernel", (*self.kernel_size, self.filters, channels)
        )
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (self.filters,))

    def _count(self, timesteps):
        return self._windows.steps(timesteps)

    def _features(self, channels):
        return self.filters

    def _matrix(self):
        """The kernel as one matrix (channels, kernel_size * filters)."""
        size, filters, channels = self.kernel.shape
        return np.ascontiguousarray(self.kernel.value.reshape(size * filters, channels).T)

    def _pack(self, run):
        version = (self.kernel.version, _engine.isa())
        packed, current = run.packed(self, version, self._new_packed)
        if not current:
            packed.pack(self._matrix(), None, run.keeps)
            run.keep_packed(self, packed, version)
        return packed

    def _new_packed(self):
        size, filters, channels = self.kernel.shape
        return _engine.PackedDense(channels, size * filters)

    def forward(self, x, run, mask=None):
        x = np.ascontiguousarray(self.steps_second(x))
        batch, timesteps, _ = x.shape
        packed = self._pack(run)
        products = run.empty(
            self, "products", (batch, timesteps, self._windows.size * self.filters)
        )
        packed.forward(products, x, LINEAR)
        out = run.empty(self, "out", (batch, self._count(timesteps), self.filters))
        out[...] = 0 if self.bias is None else self.bias.value
        windows = products.reshape(batch, timesteps, *self.kernel_size, -1)
        for place, (steps, inside) in enumerate(self._windows.places(out.shape[1])):
            out[:, steps] += windows[:, inside, place]
        z, y = self._activate(out)
        if run.keeps:
            run.saved[self] = packed, x, z, y
        return y

    def backward(self, dy, run, need_dx=True):
        packed, x, z, y = run.saved[self]
        dz = self._before_activation(dy, z, y, run)
        products = run.empty(self, "products", (*x.shape[:2], self._windows.size * self.filters))
        windows = products.reshape(*x.shape[:2], *self.kernel_size, -1)
        for place, (steps, inside) in enumerate(self._windows.places(dz.shape[1])):
            windows[:, : inside.start, place] = 0
            windows[:, inside, place] = dz[:, steps]
            windows[:, inside.stop :, place] = 0
        dx = run.empty(self, "dx", x.shape) if need_dx else None
        dmatrix = run.empty(self, "dmatrix", (x.shape[2], products.shape[2]))
        packed.backward(dx, dmatrix, None, products, x, products, LINEAR)
        dkernel = self.gradient_array(self.kernel, run)
        dkernel.reshape(-1, x.shape[2])[...] = dmatrix.T
        return np.ascontiguousarray(self.steps_second(dx)) if need_dx else None

    def get_config(self):
        return self._config(
            self._kernel,
            first={"filters": self.filters},
            output_padding={"output_padding": self.output_padding},
        )


class _Transposed(Windows):
    """Windows of the steps that come out, one for each step that goes in."""

    def __init__(self, windows, output_padding):
        super().__init__(windows.size, windows.stride, windows.padding, windows.dilation)
        if self.padding == "valid":
            more = max(self.stride - self.reach, 0) if output_padding is None else output_padding[0]
            self.last = self.reach + more
        elif output_padding is None:
            self.last = self.stride
        else:
            self.last = self.reach % 2 + output_padding[0]

    def ends(self):
        more = self.last - self.reach
        return max(more, 0), max(-more, 0) // 2, max(-more, 0) - max(-more, 0) // 2

    def steps(self, count):
        """How many steps come out of `count` steps; None for an unknown number."""
        return None if count is None else (count - 1) * self.stride + self.last

    def count(self, timesteps):
        return (timesteps - self.last) // self.stride + 1


def _check_output_padding(value, stride):
    """None, or a tuple of one whole number from 0 to below the stride."""
    if value is None:
        return None
    one = value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value
    if isinstance(one, bool) or not hasattr(one, "__index__") or not 0 <= int(one) < stride:
        raise ValueError(
            f"output_padding: expected None or a whole number from 0, below strides, {stride}, "
            f"received {value!r}"
        )
    return (int(one),)
