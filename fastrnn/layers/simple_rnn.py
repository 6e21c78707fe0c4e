"""SimpleRNN: Elman 1990."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.recurrence import SimpleRecurrence
from fastrnn.layers.recurrent import OLD_SPELLINGS, OneCell, given

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, RecurrentOptions, Unpack, Whole


class SimpleRNN(OneCell):
    """(batch, timesteps, features) -> (batch, units), or (batch, timesteps, units) with
    return_sequences; float32. h = activation(x kernel + h recurrent_kernel + bias), with kernel
    (features, units), recurrent_kernel (units, units), bias (units).

    Arguments and defaults are Keras's; see LSTM for dropout, activations and return_state.
    Source: https://keras.io/api/layers/recurrent_layers/simple_rnn/
    """

    cell = "simple_rnn"
    gates = 1
    recurrence = SimpleRecurrence

    @old_spellings(**OLD_SPELLINGS)
    def __init__(
        self,
        units: Whole,
        activation: Identifier = "tanh",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        recurrent_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        activity_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        recurrent_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: SupportsIndex | None = None,
        **kwargs: Unpack[RecurrentOptions],
    ):
        super().__init__(**given(locals()))
