"""Conv1D: a dense layer over windows of time steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine, activations, regularizers
from fastrnn.layers import legacy
from fastrnn.layers.base import (
    WeightOptions,
    activated_shape,
    check_activation,
    check_flag,
    check_size,
    engine_activation,
)
from fastrnn.layers.dense import LINEAR
from fastrnn.layers.temporal import Temporal, Windows, check_padding, check_single

if TYPE_CHECKING:
    from fastrnn._types import (
        ConvolutionOptions,
        DataFormat,
        Identifier,
        Initializer,
        Sizes,
        Unpack,
        Whole,
    )


class Conv1D(Temporal):
    """(batch, timesteps, channels) -> (batch, windows, filters), float32; no flipped kernel.

    padding: "valid", "same" or "causal" (output t sees no step after t). data_format
    "channels_first" swaps the last two axes. strides and dilation_rate may not both exceed 1.
    groups: each of so many parts of the channels makes its part of the filters alone.
    Weights: kernel (kernel_size, channels / groups, filters), bias (filters). Drops a mask.
    Source: https://keras.io/api/layers/convolution_layers/convolution1d/
    """

    kernel_initializer, kernel_regularizer, kernel_constraint = WeightOptions.properties("_kernel")
    bias_initializer, bias_regularizer, bias_constraint = WeightOptions.properties("_bias")

    @legacy.old_spellings(
        nb_filter="filters",
        filter_length="kernel_size",
        border_mode="padding",
        subsample_length="strides",
        **legacy.WEIGHTS,
    )
    def __init__(
        self,
        filters: Whole,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: DataFormat = None,
        dilation_rate: Sizes = 1,
        groups: Whole = 1,
        activation: Identifier = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        **kwargs: Unpack[ConvolutionOptions],
    ):
        super().__init__(
            data_format=data_format, activity_regularizer=activity_regularizer, **kwargs
        )
        self.filters = check_size("filters", filters)
        self.kernel_size = check_single("kernel_size", kernel_size)
        self.strides = check_single("strides", strides)
        self.padding = check_padding(padding, ("valid", "same", "causal"))
        self.dilation_rate = check_single("dilation_rate", dilation_rate)
        self.groups = check_size("groups", groups)
        if self.strides[0] > 1 and self.dilation_rate[0] > 1:
            raise ValueError(
                "strides, dilation_rate: expected one of them to be 1, received "
                f"{strides!r} and {dilation_rate!r}"
            )
        if self.filters % self.groups:
            raise ValueError(
                f"filters: expected a multiple of groups, {self.groups}, received {self.filters}"
            )
        self.activation = check_activation("activation", activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self._kernel = WeightOptions(
            "kernel", kernel_initializer, kernel_regularizer, kernel_constraint
        )
        self._bias = WeightOptions("bias", bias_initializer, bias_regularizer, bias_constraint)
        self._windows = Windows(*self.kernel_size, *self.strides, self.padding, *self.dilation_rate)
        self._packed = None
        self.kernel = self.bias = None

    def _legacy_input_shape(self, kwargs):
        channels, length = kwargs.pop("input_dim", None), kwargs.pop("input_length", None)
        return None if channels is None else self.shape_of(None, length, channels)[1:]

    @property
    def fixed_axes(self):
        return (-1,) if self.data_format == "channels_last" else (1,)

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        timesteps, channels = self.steps_and_channels(shape)
        if channels is None or channels % self.groups:
            self.reject_shape(
                f"with a known number of channels, a multiple of {self.groups}", shape
            )
        if timesteps is not None and self._windows.count(timesteps) < 1:
            self.reject_shape(f"with at least {self._windows.reach} time steps", shape)

    def create_weights(self, input_shape):
        channels = self.steps_and_channels(input_shape)[1]
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self._kernel.add_to(self, "kernel", shape)
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (self.filters,))

    def compute_output_shape(self, input_shape):
        timesteps = self.steps_and_channels(input_shape)[0]
        shape = self.shape_of(input_shape[0], self._windows.count(timesteps), self.filters)
        return activated_shape(self.activation, shape)

    def _blocks(self, whole):
        """Each group's block of an array of shape (kernel_size, channels, filters)."""
        channels, filters = (size // self.groups for size in whole.shape[1:])
        for g in range(self.groups):
            part = slice(g * filters, (g + 1) * filters)
            yield whole[:, g * channels : (g + 1) * channels, part], part

    def _matrix(self):
        """The kernel as one matrix (kernel_size * channels, filters), zero between the groups."""
        size, channels, filters = self.kernel.shape
        if self.groups == 1:
            return self.kernel.value.reshape(size * channels, filters)
        whole = np.zeros((size, channels * self.groups, filters), np.float32)
        for block, part in self._blocks(whole):
            block[...] = self.kernel.value[:, :, part]
        return whole.reshape(-1, filters)

    def _pack(self, run):
        bias = self.bias
        version = (self.kernel.version, bias and bias.version, _engine.isa())
        packed, current = run.packed(self, version, self._new_packed)
        if not current:
            packed.pack(self._matrix(), bias and bias.value, run.training)
            run.keep_packed(self, packed, version)
        return packed

    def _new_packed(self):
        size, channels, filters = self.kernel.shape
        return _engine.PackedDense(size * channels * self.groups, filters)

    def forward(self, x, run, mask=None):
        x = self.steps_second(x)
        batch, timesteps, channels = x.shape
        count = self._windows.count(timesteps)
        packed = self._pack(run)
        rows = run.empty(self, "windows", (batch, count, self._windows.size, channels))
        for place, (steps, windows) in enumerate(self._windows.places(timesteps)):
            rows[:, : windows.start, place] = 0
            rows[:, windows, place] = x[:, steps]
            rows[:, windows.stop :, place] = 0
        rows = rows.reshape(batch, count, -1)
        code = engine_activation(self.activation)
        out = run.empty(self, "out", (batch, count, self.filters))
        packed.forward(out, rows, LINEAR if code is None else code)
        y = z = np.ascontiguousarray(self.steps_second(out))
        if code is None:
            y = np.ascontiguousarray(self.activation(z), np.float32)
        if run.training:
            run.saved[self] = packed, x.shape, rows, out, z, y, code
        return y

    def backward(self, dy, run, need_dx=True):
        packed, shape, rows, out, z, y, code = run.saved[self]
        if code is None:
            dy, code = activations.gradient_of(self.activation)(z, y, dy), LINEAR
        dy = np.ascontiguousarray(self.steps_second(dy), np.float32)
        drows = run.empty(self, "dwindows", rows.shape) if need_dx else None
        dkernel = self.gradient_array(self.kernel, run)
        dbias = self.gradient_array(self.bias, run) if self.use_bias else None
        dmatrix = dkernel.reshape(-1, self.filters)
        if self.groups > 1:
            dmatrix = run.empty(self, "dmatrix", (rows.shape[-1], self.filters))
        packed.backward(drows, dmatrix, dbias, dy, rows, out, code)
        if self.groups > 1:
            whole = dmatrix.reshape(self._windows.size, -1, self.filters)
            for block, part in self._blocks(whole):
                dkernel[:, :, part] = block
        if not need_dx:
            return None
        drows = drows.reshape(*rows.shape[:2], self._windows.size, shape[2])
        dx = run.empty(self, "dx", shape)
        dx[...] = 0
        for place, (steps, windows) in enumerate(self._windows.places(shape[1])):
            dx[:, steps] += drows[:, windows, place]
        return np.ascontiguousarray(self.steps_second(dx))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **self._kernel.config(),
            **self._bias.config(),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
        }
