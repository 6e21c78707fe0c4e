"""Dense: y = activation(x W + b) on the last axis."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine, activations, regularizers
from fastrnn.layers import legacy
from fastrnn.layers.base import (
    Layer,
    WeightOptions,
    activated_shape,
    check_activation,
    check_flag,
    check_size,
    engine_activation,
)

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, Unpack, WeightedOptions, Whole


LINEAR = _engine.ACTIVATIONS["linear"]


class Dense(Layer):
    """(batch, ..., n) -> (batch, ..., units), float32. Weights: kernel (n, units), bias (units).

    Source: https://keras.io/api/layers/core_layers/dense/
    """

    supports_masking = True
    fixed_axes = (-1,)

    kernel_initializer, kernel_regularizer, kernel_constraint = WeightOptions.properties("_kernel")
    bias_initializer, bias_regularizer, bias_constraint = WeightOptions.properties("_bias")

    @legacy.old_spellings(output_dim="units", **legacy.WEIGHTS)
    def __init__(
        self,
        units: Whole,
        activation: Identifier = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        **kwargs: Unpack[WeightedOptions],
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = check_size("units", units)
        self.activation = check_activation("activation", activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self._kernel = WeightOptions(
            "kernel", kernel_initializer, kernel_regularizer, kernel_constraint
        )
        self._bias = WeightOptions("bias", bias_initializer, bias_regularizer, bias_constraint)
        self._packed = None
        self.kernel = self.bias = None

    def check_input_shape(self, shape):
        if len(shape) < 2 or shape[-1] is None:
            self.reject_shape("(batch, ..., features) with a known last size", shape)

    def create_weights(self, input_shape):
        self.kernel = self._kernel.add_to(self, "kernel", (input_shape[-1], self.units))
        if self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (self.units,))

    def compute_output_shape(self, input_shape):
        return activated_shape(self.activation, (*input_shape[:-1], self.units))

    def _pack(self, run):
        bias = self.bias
        version = (self.kernel.version, None if bias is None else bias.version, _engine.isa())
        packed, current = run.packed(self, version, self._new_packed)
        if not current:
            packed.pack(self.kernel.value, None if bias is None else bias.value, run.keeps)
            run.keep_packed(self, packed, version)
        return packed

    def _new_packed(self):
        return _engine.PackedDense(*self.kernel.shape)

    def forward(self, x, run, mask=None):
        packed = self._pack(run)
        shape = (*x.shape[:-1], self.units)
        y = run.empty(self, "y", shape)
        code = LINEAR if self in run.logits_of else engine_activation(self.activation)
        z = None
        if code is None and self.activation is activations.softmax:
            _forward_softmax(packed, y, x)
        elif code is None:
            z = run.empty(self, "z", shape)
            packed.forward(z, x, LINEAR)
            y = np.ascontiguousarray(self.activation(z), np.float32)
        else:
            packed.forward(y, x, code)
        if run.keeps:
            run.saved[self] = packed, x, y, z, code
        return y

    def backward(self, dy, run, need_dx=True):
        packed, x, y, z, code = run.saved[self]
        if code is None:
            dy = activations.gradient_of(self.activation)(z, y, dy)
            dy = y = np.ascontiguousarray(dy, np.float32)  # LINEAR reads no y
            code = LINEAR
        dx = run.empty(self, "dx", x.shape) if need_dx else None
        dkernel = run.gradient_array(self, self.kernel)
        dbias = run.gradient_array(self, self.bias) if self.use_bias else None
        packed.backward(dx, dkernel, dbias, dy, x, y, code)
        return dx

    def plan(self, x, steps, run):
        code = engine_activation(self.activation)
        packed = self._pack(run)
        y = run.rooms.new(self.compute_output_shape(x.shape))
        if code is not None:
            steps.append(functools.partial(packed.forward, y, x, code))
        elif self.activation is activations.softmax:
            steps.append(functools.partial(_forward_softmax, packed, y, x))
        else:
            return super().plan(x, steps, run)
        return y

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **self._kernel.config(),
            **self._bias.config(),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
        }


def _forward_softmax(packed, y, x):
    packed.forward(y, x, LINEAR)
    _engine.softmax(y)
