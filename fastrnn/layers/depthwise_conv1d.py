"""DepthwiseConv1D and SeparableConv1D: windows of each channel alone, and then their mixture."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine, activations
from fastrnn.layers.base import WeightOptions, check_size, engine_activation
from fastrnn.layers.dense import LINEAR
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


class _Depthwise(Windowed):
    """The windows of each channel, for DepthwiseConv1D and SeparableConv1D."""

    depthwise_initializer, depthwise_regularizer, depthwise_constraint = WeightOptions.properties(
        "_depthwise"
    )

    def __init__(self, depth_multiplier, depthwise, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.depth_multiplier = check_size("depth_multiplier", depth_multiplier)
        self._depthwise = WeightOptions("depthwise", *depthwise)

    def _add_depthwise(self, name, channels):
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        return self._depthwise.add_to(self, name, shape)

    def _channels(self, x, run):
        """x with the time steps second, each channel as often as it has kernels."""
        x = self.steps_second(x)
        if self.depth_multiplier == 1:
            return np.ascontiguousarray(x)
        batch, timesteps, channels = x.shape
        repeated = run.empty(self, "channels", (batch, timesteps, channels * self.depth_multiplier))
        for place in range(self.depth_multiplier):  # far faster than numpy.repeat
            repeated[:, :, place :: self.depth_multiplier] = x
        return repeated

    def _places(self, x, run):
        """For each place within a window that lies on a step: (its number, steps, windows, room for
        the weights and for the products of all of them)."""
        batch, timesteps, channels = x.shape
        count = self._windows.count(timesteps)
        weights = run.empty(self, "weights of steps", (count, channels))
        products = run.empty(self, "products", (batch, count, channels))
        for place, (steps, windows) in enumerate(self._windows.places(timesteps)):
            n = windows.stop - windows.start
            yield place, steps, windows, weights[:n], products[:, :n]

    def _add_products(self, out, x, kernel, run):
        """Add the weighted windows of x, which `_channels` gave, to out."""
        rows = kernel.value.reshape(len(kernel.value), -1)
        for place, steps, windows, weights, products in self._places(x, run):
            weights[...] = rows[place]  # contiguous, and so several times as fast as rows[place]
            np.multiply(x[:, steps], weights, out=products)
            out[:, windows] += products

    def _products_backward(self, dout, x, kernel, run, need_dx):
        """Fill the kernel's gradient; return that of the layer's input, or None."""
        rows = kernel.value.reshape(len(kernel.value), -1)
        drows = self.gradient_array(kernel, run).reshape(rows.shape)
        dx = run.empty(self, "dchannels", x.shape) if need_dx else None
        if need_dx:
            dx[...] = 0
        for place, steps, windows, weights, products in self._places(x, run):
            np.multiply(x[:, steps], dout[:, windows], out=products)
            drows[place] = products.sum(axis=0).sum(axis=0)
            if need_dx:
                weights[...] = rows[place]
                np.multiply(dout[:, windows], weights, out=products)
                dx[:, steps] += products
        if not need_dx:
            return None
        if self.depth_multiplier > 1:
            places = [dx[:, :, n :: self.depth_multiplier] for n in range(self.depth_multiplier)]
            dx = functools.reduce(np.add, places)
        return np.ascontiguousarray(self.steps_second(dx))


class DepthwiseConv1D(_Depthwise):
    """(batch, timesteps, channels) -> (batch, windows, channels * depth_multiplier), float32: each
    channel is weighted by depth_multiplier kernels of its own.

    padding: "valid" or "same". data_format "channels_first" swaps the last two axes. Weights:
    kernel (kernel_size, channels, depth_multiplier), bias (channels * depth_multiplier). Drops a
    mask. Source: https://keras.io/api/layers/convolution_layers/depthwise_convolution1d/
    """

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        depth_multiplier: Whole = 1,
        data_format: DataFormat = None,
        dilation_rate: Sizes = 1,
        activation: Identifier = None,
        use_bias: bool = True,
        depthwise_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        depthwise_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        depthwise_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        **kwargs: Unpack[WindowedOptions],
    ):
        super().__init__(
            depth_multiplier,
            (depthwise_initializer, depthwise_regularizer, depthwise_constraint),
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
        self.kernel = None

    def create_weights(self, input_shape):
        channels = self.steps_and_channels(input_shape)[1]
        self.kernel = self._add_depthwise("kernel", channels)
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (self._features(channels),))

    def _features(self, channels):
        return channels * self.depth_multiplier

    def forward(self, x, run, mask=None):
        x = self._channels(x, run)
        batch, timesteps, channels = x.shape
        out = run.empty(self, "out", (batch, self._count(timesteps), channels))
        out[...] = 0 if self.bias is None else self.bias.value
        self._add_products(out, x, self.kernel, run)
        z, y = self._activate(out)
        if run.keeps:
            run.saved[self] = x, z, y
        return y

    def backward(self, dy, run, need_dx=True):
        x, z, y = run.saved[self]
        dz = self._before_activation(dy, z, y, run)
        return self._products_backward(dz, x, self.kernel, run, need_dx)

    def get_config(self):
        return self._config(self._depthwise, first={"depth_multiplier": self.depth_multiplier})


class SeparableConv1D(_Depthwise):
    """(batch, timesteps, channels) -> (batch, windows, filters), float32: DepthwiseConv1D without a
    bias, then a dense layer over the channels of each window.

    padding: "valid" or "same", and Keras 2's "causal". data_format "channels_first" swaps the last
    two axes. Weights: depthwise_kernel (kernel_size, channels, depth_multiplier), pointwise_kernel
    (1, channels * depth_multiplier, filters), bias (filters). Drops a mask.
    Source: https://keras.io/api/layers/convolution_layers/separable_convolution1d/
    """

    pointwise_initializer, pointwise_regularizer, pointwise_constraint = WeightOptions.properties(
        "_pointwise"
    )
    _paddings = ("valid", "same", "causal")

    def __init__(
        self,
        filters: Whole,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: DataFormat = None,
        dilation_rate: Sizes = 1,
        depth_multiplier: Whole = 1,
        activation: Identifier = None,
        use_bias: bool = True,
        depthwise_initializer: Initializer = "glorot_uniform",
        pointwise_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        depthwise_regularizer: Identifier = None,
        pointwise_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        depthwise_constraint: Identifier = None,
        pointwise_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        **kwargs: Unpack[WindowedOptions],
    ):
        super().__init__(
            depth_multiplier,
            (depthwise_initializer, depthwise_regularizer, depthwise_constraint),
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
        self._pointwise = WeightOptions(
            "pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint
        )
        self.depthwise_kernel = self.pointwise_kernel = None

    def create_weights(self, input_shape):
        channels = self.steps_and_channels(input_shape)[1]
        self.depthwise_kernel = self._add_depthwise("depthwise_kernel", channels)
        self.pointwise_kernel = self._pointwise.add_to(
            self, "pointwise_kernel", (1, channels * self.depth_multiplier, self.filters)
        )
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (self.filters,))

    def _features(self, channels):
        return self.filters

    def _pack(self, run):
        kernel, bias = self.pointwise_kernel, self.bias
        version = (kernel.version, None if bias is None else bias.version, _engine.isa())
        packed, current = run.packed(self, version, self._new_packed)
        if not current:
            packed.pack(kernel.value[0], None if bias is None else bias.value, run.keeps)
            run.keep_packed(self, packed, version)
        return packed

    def _new_packed(self):
        return _engine.PackedDense(*self.pointwise_kernel.shape[1:])

    def forward(self, x, run, mask=None):
        x = self._channels(x, run)
        batch, timesteps, channels = x.shape
        packed = self._pack(run)
        inner = run.empty(self, "inner", (batch, self._count(timesteps), channels))
        inner[...] = 0
        self._add_products(inner, x, self.depthwise_kernel, run)
        code = engine_activation(self.activation)
        out = run.empty(self, "out", (*inner.shape[:2], self.filters))
        packed.forward(out, inner, LINEAR if code is None else code)
        y = z = np.ascontiguousarray(self.steps_second(out))
        if code is None:
            y = np.ascontiguousarray(self.activation(z), np.float32)
        if run.keeps:
            run.saved[self] = packed, x, inner, out, z, y, code
        return y

    def backward(self, dy, run, need_dx=True):
        packed, x, inner, out, z, y, code = run.saved[self]
        if code is None:
            dy, code = activations.gradient_of(self.activation)(z, y, dy), LINEAR
        dy = np.ascontiguousarray(self.steps_second(dy), np.float32)
        dinner = run.empty(self, "dinner", inner.shape)
        dpointwise = self.gradient_array(self.pointwise_kernel, run)[0]
        dbias = None if self.bias is None else self.gradient_array(self.bias, run)
        packed.backward(dinner, dpointwise, dbias, dy, inner, out, code)
        return self._products_backward(dinner, x, self.depthwise_kernel, run, need_dx)

    def get_config(self):
        return self._config(
            self._depthwise,
            self._pointwise,
            first={"depth_multiplier": self.depth_multiplier, "filters": self.filters},
        )
