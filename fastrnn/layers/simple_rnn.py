"""SimpleRNN: Elman 1990."""

from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.recurrence import SimpleRecurrence
from fastrnn.layers.recurrent import OLD_SPELLINGS, Recurrent, given


class SimpleRNN(Recurrent):
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
        units,
        activation="tanh",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(**given(locals()))
