"""What Conv1D's relatives share: the windows, the bias, and an activation outside the kernels."""

from __future__ import annotations

import numpy as np

from fastrnn import _engine, activations
from fastrnn.layers.base import (
    WeightOptions,
    activated_shape,
    check_activation,
    check_flag,
    config_of_weights,
    engine_activation,
)
from fastrnn.layers.dense import LINEAR
from fastrnn.layers.temporal import Temporal, Windows, check_padding, check_single


class Windowed(Temporal):
    """Base of layers that weight windows of time steps.

    bias: the arguments bias_initializer, bias_regularizer and bias_constraint."""

    bias_initializer, bias_regularizer, bias_constraint = WeightOptions.properties("_bias")
    _paddings: tuple[str, ...] = ("valid", "same")

    def __init__(
        self, kernel_size, strides, padding, dilation_rate, activation, use_bias, bias, **kwargs
    ):
        super().__init__(**kwargs)
        self.kernel_size = check_single("kernel_size", kernel_size)
        self.strides = check_single("strides", strides)
        self.padding = check_padding(padding, self._paddings)
        self.dilation_rate = check_single("dilation_rate", dilation_rate)
        self.activation = check_activation("activation", activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self._bias = WeightOptions("bias", *bias)
        self._windows = Windows(*self.kernel_size, *self.strides, self.padding, *self.dilation_rate)
        self._packed = None
        self.bias = None

    def _legacy_input_shape(self, kwargs):
        channels, length = kwargs.pop("input_dim", None), kwargs.pop("input_length", None)
        return None if channels is None else self.shape_of(None, length, channels)[1:]

    @property
    def fixed_axes(self):
        return (-1,) if self.data_format == "channels_last" else (1,)

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        timesteps, channels = self.steps_and_channels(shape)
        if channels is None:
            self.reject_shape("with a known number of channels", shape)
        if timesteps is not None:
            self._check_steps(timesteps, shape)

    def _check_steps(self, timesteps, shape):
        if self._windows.count(timesteps) < 1:
            self.reject_shape(f"with at least {self._windows.reach} time steps", shape)

    def compute_output_shape(self, input_shape):
        timesteps, channels = self.steps_and_channels(input_shape)
        if timesteps is not None:
            self._check_steps(timesteps, input_shape)
        shape = self.shape_of(input_shape[0], self._count(timesteps), self._features(channels))
        return activated_shape(self.activation, shape)

    def _count(self, timesteps):
        """How many time steps come out."""
        return self._windows.count(timesteps)

    def _activate(self, out):
        """(what the activation got and made) of an array with the time steps second."""
        z = np.ascontiguousarray(self.steps_second(out))
        if self.activation is activations.linear:
            return z, z
        return z, np.ascontiguousarray(self.activation(z), np.float32)

    def _before_activation(self, dy, z, y, run):
        """The gradient before the activation, with the time steps second; fills the bias's."""
        code = engine_activation(self.activation)
        if code is None:
            dy, code = activations.gradient_of(self.activation)(z, y, dy), LINEAR
        dz = np.ascontiguousarray(self.steps_second(dy), np.float32)
        if code == LINEAR and self.bias is None:
            return dz
        # To the kernels it is a dense layer, of an input that is always 1.
        batch, steps, units = dz.shape
        ones = run.empty(self, "ones", (batch, steps, 1))
        ones[...] = 1
        dones = run.empty(self, "dones", (1, units))
        dbias = None if self.bias is None else self.gradient_array(self.bias, run)
        y = np.ascontiguousarray(self.steps_second(y))
        _engine.PackedDense(1, units).backward(None, dones, dbias, dz, ones, y, code)
        return dz

    def _config(self, *weights, first, output_padding=None):
        """The config in Keras's order: `first`, the options of all, then those of the weights."""
        config = super().get_config()
        data_format = config.pop("data_format")
        return {
            **config,
            **first,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            **(output_padding or {}),
            "data_format": data_format,
            "dilation_rate": self.dilation_rate,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **config_of_weights(self, *weights, self._bias),
        }
