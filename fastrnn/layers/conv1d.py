"""Conv1D: a dense layer over windows of time steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import activations
from fastrnn.layers import legacy
from fastrnn.layers.base import WeightOptions, engine_activation
from fastrnn.layers.convolution import Convolution
from fastrnn.layers.dense import LINEAR
from fastrnn.layers.temporal import Temporal, check_padding, check_single

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


class Conv1D(Convolution, Temporal):
    """(batch, timesteps, channels) -> (batch, windows, filters), float32; no flipped kernel.

    padding: "valid", "same" or "causal" (output t sees no step after t). data_format
    "channels_first" swaps the last two axes. strides and dilation_rate may not both exceed 1.
    groups: each of so many parts of the channels makes its part of the filters alone.
    Weights: kernel (kernel_size, channels / groups, filters), bias (filters). Drops a mask.
    Source: https://keras.io/api/layers/convolution_layers/convolution1d/
    """

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
        self._configure(
            filters,
            check_single("kernel_size", kernel_size),
            check_single("strides", strides),
            check_padding(padding, ("valid", "same", "causal")),
            check_single("dilation_rate", dilation_rate),
            groups,
            activation,
            use_bias,
            WeightOptions("kernel", kernel_initializer, kernel_regularizer, kernel_constraint),
            WeightOptions("bias", bias_initializer, bias_regularizer, bias_constraint),
        )

    def _legacy_input_shape(self, kwargs):
        channels, length = kwargs.pop("input_dim", None), kwargs.pop("input_length", None)
        return None if channels is None else self.shape_of(None, length, channels)[1:]

    def forward(self, x, run, mask=None):
        x = self.steps_second(x)
        batch, timesteps, channels = x.shape
        (windows_of,) = self._windows
        rows = run.empty(
            self, "windows", (batch, windows_of.count(timesteps), windows_of.size, channels)
        )
        for place, (steps, windows) in enumerate(windows_of.places(timesteps)):
            rows[:, : windows.start, place] = 0
            rows[:, windows, place] = x[:, steps]
            rows[:, windows.stop :, place] = 0
        rows = rows.reshape(*rows.shape[:2], -1)
        packed, code = self._pack(run), engine_activation(self.activation)
        out = run.empty(self, "out", (*rows.shape[:2], self.filters))
        packed.forward(out, rows, LINEAR if code is None else code)
        y = z = np.ascontiguousarray(self.steps_second(out))
        if code is None:
            y = np.ascontiguousarray(self.activation(z), np.float32)
        if run.keeps:
            run.saved[self] = packed, x.shape, rows, out, z, y, code
        return y

    def backward(self, dy, run, need_dx=True):
        packed, shape, rows, out, z, y, code = run.saved[self]
        if code is None:
            dy, code = activations.gradient_of(self.activation)(z, y, dy), LINEAR
        dy = np.ascontiguousarray(self.steps_second(dy), np.float32)
        drows = run.empty(self, "dwindows", rows.shape) if need_dx else None
        dmatrix, dbias, dkernel = self._gradients(run)
        packed.backward(drows, dmatrix, dbias, dy, rows, out, code)
        self._take_blocks(dmatrix, dkernel)
        if not need_dx:
            return None
        drows = drows.reshape(*rows.shape[:2], *self.kernel_size, shape[2])
        dx = run.empty(self, "dx", shape)
        dx[...] = 0
        for place, (steps, windows) in enumerate(self._windows[0].places(shape[1])):
            dx[:, steps] += drows[:, windows, place]
        return np.ascontiguousarray(self.steps_second(dx))
