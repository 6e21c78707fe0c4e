"""What convolutions over time and over images share: arguments, weights, and the kernel as a matrix
that windows are multiplied by."""

from __future__ import annotations

import math

import numpy as np

from fastrnn import _engine, activations
from fastrnn.layers.base import (
    WeightOptions,
    activated_shape,
    check_activation,
    check_flag,
    check_size,
    config_of_weights,
)
from fastrnn.layers.temporal import OfWindows, Windows


class Convolution(OfWindows):
    """Weights: kernel (*kernel_size, channels / groups, filters), bias (filters)."""

    kernel_initializer, kernel_regularizer, kernel_constraint = WeightOptions.properties("_kernel")
    bias_initializer, bias_regularizer, bias_constraint = WeightOptions.properties("_bias")

    def _configure(
        self, filters, kernel_size, strides, padding, dilation_rate, groups, activation, use_bias,
        kernel, bias,
    ):  # fmt: skip
        """Take the arguments that all have; sizes are tuples already, kernel and bias the
        WeightOptions."""
        self.filters = check_size("filters", filters)
        self.kernel_size, self.strides, self.padding = kernel_size, strides, padding
        self.dilation_rate = dilation_rate
        self.groups = check_size("groups", groups)
        if max(strides) > 1 and max(dilation_rate) > 1:
            one = len(strides) == 1
            raise ValueError(
                "strides, dilation_rate: expected one of them to be 1, received "
                f"{strides[0] if one else strides} and {dilation_rate[0] if one else dilation_rate}"
            )
        if self.filters % self.groups:
            raise ValueError(
                f"filters: expected a multiple of groups, {self.groups}, received {self.filters}"
            )
        self.activation = check_activation("activation", activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self._kernel, self._bias = kernel, bias
        sizes = zip(kernel_size, strides, dilation_rate, strict=True)
        self._windows = [Windows(size, step, padding, apart) for size, step, apart in sizes]
        self._packed = None
        self.kernel = self.bias = None

    @property
    def fixed_axes(self):
        return (-1,) if self.data_format == "channels_last" else (1,)

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        sizes, channels = self.sizes_and_channels(shape)
        if channels is None or channels % self.groups:
            self.reject_shape(
                f"with a known number of channels, a multiple of {self.groups}", shape
            )
        self._check_counts(sizes, shape)

    def create_weights(self, input_shape):
        channels = self.sizes_and_channels(input_shape)[1]
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.kernel = self._kernel.add_to(self, "kernel", shape)
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (self.filters,))

    def compute_output_shape(self, input_shape):
        sizes = self.sizes_and_channels(input_shape)[0]
        self._check_counts(sizes, input_shape)
        shape = self.with_sizes(input_shape[0], self._counts(sizes), self.filters)
        return activated_shape(self.activation, shape)

    def _blocks(self, whole):
        """Each group's block of an array of shape (places, channels, filters), and its filters."""
        channels, filters = (size // self.groups for size in whole.shape[1:])
        for g in range(self.groups):
            part = slice(g * filters, (g + 1) * filters)
            yield whole[:, g * channels : (g + 1) * channels, part], part

    def _matrix(self):
        """The kernel as one matrix (places * channels, filters), zero between the groups."""
        *_, channels, filters = self.kernel.shape
        kernel = self.kernel.value.reshape(-1, channels, filters)
        if self.groups == 1:
            return kernel.reshape(-1, filters)
        whole = np.zeros((len(kernel), channels * self.groups, filters), np.float32)
        for block, part in self._blocks(whole):
            block[...] = kernel[:, :, part]
        return whole.reshape(-1, filters)

    def _pack(self, run):
        bias = self.bias
        version = (self.kernel.version, None if bias is None else bias.version, _engine.isa())
        packed, current = run.packed(self, version, self._new_packed)
        if not current:
            packed.pack(self._matrix(), None if bias is None else bias.value, run.keeps)
            run.keep_packed(self, packed, version)
        return packed

    def _new_packed(self):
        *sizes, channels, filters = self.kernel.shape
        return _engine.PackedDense(math.prod(sizes) * channels * self.groups, filters)

    def _gradients(self, run):
        """Where backward writes: the gradient of the matrix, of the bias (or None), and of the
        kernel."""
        dkernel = self.gradient_array(self.kernel, run)
        dbias = self.gradient_array(self.bias, run) if self.use_bias else None
        dmatrix = dkernel.reshape(-1, self.filters)
        if self.groups > 1:
            dmatrix = run.empty(self, "dmatrix", (self.groups * len(dmatrix), self.filters))
        return dmatrix, dbias, dkernel

    def _take_blocks(self, dmatrix, dkernel):
        """Take the gradient of the kernel out of that of the matrix, if they are not the same."""
        if self.groups == 1:
            return
        *_, channels, filters = dkernel.shape
        parts = dkernel.reshape(-1, channels, filters)
        for block, part in self._blocks(dmatrix.reshape(len(parts), -1, filters)):
            parts[:, :, part] = block

    def get_config(self):
        config = super().get_config()
        data_format = config.pop("data_format")
        return {
            **config,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **config_of_weights(self, self._kernel, self._bias),
        }
