"""Convolutional LSTMs: Shi et al. 2015, without what they let the gates see of the cell state."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, SupportsIndex

import numpy as np

from fastrnn import _engine, activations
from fastrnn.layers import legacy
from fastrnn.layers.base import check_size, config_of_weights
from fastrnn.layers.conv_recurrence import ConvRecurrence, Records
from fastrnn.layers.lstm import LSTM, with_forget_bias
from fastrnn.layers.recurrent import OLD_SPELLINGS_OF_GATES, OneCell, given
from fastrnn.layers.spatial import check_pair, data_format_of
from fastrnn.layers.temporal import OfWindows, Windows, check_padding, check_single
from fastrnn.utils import unknown_arguments

if TYPE_CHECKING:
    from fastrnn._types import (
        ConvLSTM2DOptions,
        ConvLSTMOptions,
        DataFormat,
        Identifier,
        Initializer,
        Sizes,
        Unpack,
        Whole,
    )

OLD_SPELLINGS = {
    **OLD_SPELLINGS_OF_GATES,
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
}
del OLD_SPELLINGS["output_dim"]


class ConvLSTM(OneCell, OfWindows):
    """Base of LSTMs whose products with x and with the state are convolutions, over sequences of
    images (batch, timesteps, *sizes, channels), or (batch, timesteps, channels, *sizes)."""

    gates = 4
    states_of = ("h", "c")
    masks_each_gate = True
    rank = 0
    _axes: ClassVar[tuple[str, ...]] = ()
    _hidden_names = (
        OneCell._hidden_names
        | OfWindows._hidden_names
        | {"as_images", "own_axes", "packed_of", "rank", "records", "step_codes", "units"}
    )

    def __init__(
        self, filters, kernel_size, strides, padding, data_format, dilation_rate, unit_forget_bias,
        unroll=False, units=None, **kwargs,
    ):  # fmt: skip
        if units is not None:
            raise ValueError(unknown_arguments(type(self), {"units": units}))
        forget = with_forget_bias(unit_forget_bias, kwargs)
        self.filters = check_size("filters", filters)
        super().__init__(self.filters, data_format=data_format, unroll=unroll, **kwargs)
        check_sizes = check_single if self.rank == 1 else check_pair
        self.kernel_size = check_sizes("kernel_size", kernel_size)
        self.strides = check_sizes("strides", strides)
        self.padding = check_padding(padding, ("valid", "same"))
        self.dilation_rate = check_sizes("dilation_rate", dilation_rate)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "strides, dilation_rate: expected one of them to be 1, received "
                f"{self.strides} and {self.dilation_rate}"
            )
        self.unit_forget_bias = forget
        sizes = zip(self.kernel_size, self.strides, self.dilation_rate, strict=True)
        self._windows = [Windows(size, step, self.padding, apart) for size, step, apart in sizes]

    # --- shapes ---

    @property
    def _rank_of_x(self):
        return self.rank + 3

    @property
    def fixed_axes(self):
        return range(2, self.rank + 3)

    def _legacy_input_shape(self, kwargs):
        kwargs.pop("input_length", None)
        return None

    def sizes_and_channels(self, shape):
        """Those of an input shape without batch, time steps and channels, and the channels."""
        return super().sizes_and_channels((shape[0], *shape[2:]))

    def check_input_shape(self, shape):
        sizes = self._axes
        expected = ("batch", "timesteps", *self.with_sizes("", sizes, "channels")[1:])
        if len(shape) != self.rank + 3:
            hint = "; x[..., None] gives each pixel one channel, x[None] is one sequence"
            self.reject_shape(expected, shape, hint * (len(shape) == self.rank + 2))
        if None in shape[2:]:
            self.reject_shape(f"{expected} with all but the first two known", shape)
        self._state_sizes(shape)

    def _state_sizes(self, shape):
        """The sizes of the states for an input shape."""
        sizes = self.sizes_and_channels(shape)[0]
        self._check_counts(sizes, shape)
        return self._counts(sizes)

    def state_shape(self, batch):
        return self.shapes_of_states((batch, *self.input_shape[1:]))[0]

    def shapes_of_states(self, input_shape):
        shape = self.with_sizes(input_shape[0], self._state_sizes(input_shape), self.filters)
        return [shape] * len(self.states_of)

    def states_beside(self, shape):
        return self.shapes_of_states((None, *shape[1:]))

    def shape_of_y(self, input_shape):
        batch, *state = self.shapes_of_states(input_shape)[0]
        return (batch, input_shape[1], *state) if self.return_sequences else (batch, *state)

    @property
    def size_of_y(self):
        return self.state_shape(None)[-1]

    def check_mask(self, mask, shape):
        """A pass through time checks it, against the states."""

    # --- computing ---

    def create_weights(self, input_shape, holder=None):
        super().create_weights(input_shape, holder)
        self.step_codes, self._codes = self._codes, None  # no kernel takes the whole sequence

    def _kernel_shapes(self, input_shape):
        channels, columns = self.sizes_and_channels(input_shape)[1], self.gates * self.filters
        return [(*self.kernel_size, size, columns) for size in (channels, self.filters)]

    _initial_bias = LSTM._initial_bias

    def as_images(self, array, axes):
        """A view of an array with so many axes before an image's, as (..., height, width,
        channels)."""
        if self.data_format == "channels_first":
            array = np.moveaxis(array, axes, -1)
        return np.expand_dims(array, axes) if self.rank == 1 else array

    def own_axes(self, images, axes=1):
        """The view that `as_images` would give of it back."""
        if self.rank == 1:
            images = images.squeeze(axes)
        return images if self.data_format == "channels_last" else np.moveaxis(images, -1, axes)

    def records(self, sizes, channels, h_copies, x_copies):
        windows = [Windows(1, 1, "valid")] * (2 - self.rank) + self._windows
        return Records(*windows, sizes, channels, self.filters, h_copies, x_copies)

    def new_recurrence(self, run, input_masks, recurrent_masks):
        return ConvRecurrence(self, run, input_masks, recurrent_masks)

    def packed_of(self, records, run):
        """The weights as the kernels take them for these records."""
        copies, bias = (records.h_copies, records.x_copies), self.bias
        key, version = (self, copies) if run.keeps else self, (*self._version(), copies)
        packed, current = run.packed(
            key, version, lambda: _engine.PackedRNN(records.features, self.filters, "lstm")
        )
        if not current:
            matrix = records.matrix(self.kernel.value, self.recurrent_kernel.value)
            zeros = np.zeros((self.filters, self.gates * self.filters), np.float32)
            packed.pack(matrix, zeros, None if bias is None else bias.value, run.keeps, run.keeps)
            run.keep_packed(key, packed, version)
        return packed

    def get_config(self):
        config = super(OneCell, self).get_config()
        data_format = config.pop("data_format")
        weights = config_of_weights(self, self._kernel, self._recurrent, self._bias)
        names = [*weights]
        at = names.index("bias_initializer") + 1
        return {
            **config,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": data_format,
            "dilation_rate": self.dilation_rate,
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            **{name: weights[name] for name in names[:at]},
            "unit_forget_bias": self.unit_forget_bias,
            **{name: weights[name] for name in names[at:]},
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }


class ConvLSTM1D(ConvLSTM):
    """(batch, timesteps, width, channels) -> (batch, new width, filters), or (batch, timesteps, new
    width, filters) with return_sequences; float32.

    Windows of x are as Conv1D's with strides, padding ("valid" or "same") and dilation_rate; those
    of the state have none of them, and padding "same". data_format "channels_first" puts the
    channels before the width. dropout and recurrent_dropout draw one mask per sequence and gate;
    unroll changes nothing. A mask (batch, timesteps), or (batch, timesteps, new width), makes steps
    keep the states. With return_state the outputs are [output, h, c], states (batch, new width,
    filters).

    Weights, gates in the order i, f, c, o: kernel (size, channels, 4 filters), recurrent_kernel
    (size, filters, 4 filters), bias (4 filters).
    Source: https://keras.io/api/layers/recurrent_layers/conv_lstm1d/
    """

    rank = 1
    _axes = ("width",)

    @legacy.old_spellings(**OLD_SPELLINGS)
    def __init__(
        self,
        filters: Whole,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: DataFormat = None,
        dilation_rate: Sizes = 1,
        activation: Identifier = "tanh",
        recurrent_activation: Identifier = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Identifier = None,
        recurrent_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        recurrent_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: SupportsIndex | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Unpack[ConvLSTMOptions],
    ):
        super().__init__(**given(locals()))


class ConvLSTM2D(ConvLSTM):
    """(batch, timesteps, height, width, channels) -> (batch, new height, new width, filters), or
    (batch, timesteps, new height, new width, filters) with return_sequences; float32.

    Windows of x are as Conv2D's with strides, padding ("valid" or "same") and dilation_rate, each
    one number for both axes, or (height, width); those of the state have none of them, and padding
    "same". data_format "channels_first" puts the channels before the height. dropout and
    recurrent_dropout draw one mask per sequence and gate; unroll changes nothing. A mask (batch,
    timesteps), or with new height and width too, makes steps keep the states. With return_state the
    outputs are [output, h, c], states (batch, new height, new width, filters).

    Weights, gates in the order i, f, c, o: kernel (*kernel_size, channels, 4 filters),
    recurrent_kernel (*kernel_size, filters, 4 filters), bias (4 filters).
    Source: https://keras.io/api/layers/recurrent_layers/conv_lstm2d/
    """

    rank = 2
    _axes = ("height", "width")

    @legacy.rows_and_columns
    @legacy.old_spellings(**OLD_SPELLINGS)
    def __init__(
        self,
        filters: Whole,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: DataFormat = None,
        dilation_rate: Sizes = 1,
        activation: Identifier = "tanh",
        recurrent_activation: Identifier = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Identifier = None,
        recurrent_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        recurrent_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: SupportsIndex | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Unpack[ConvLSTM2DOptions],
    ):
        data_format = data_format_of(data_format, kwargs)
        super().__init__(**given(locals()))
