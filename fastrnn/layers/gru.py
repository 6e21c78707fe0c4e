"""GRU: Cho et al. 2014."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

from fastrnn.layers.base import check_flag
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.recurrence import GRURecurrence
from fastrnn.layers.recurrent import OLD_SPELLINGS_OF_GATES, OneCell, check_cudnn_options, given

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, RecurrentOptions, Unpack, Whole


class GRU(OneCell):
    """(batch, timesteps, features) -> (batch, units), or (batch, timesteps, units) with
    return_sequences; float32. Weights, gates in the order z, r, h: kernel (features, 3 units),
    recurrent_kernel (units, 3 units), bias (2, 3 units), of the inputs and of the state.

    reset_after (default True): the reset gate multiplies the product with recurrent_kernel. False:
    it multiplies the state before that product, and the bias is (3 units).
    Other arguments and defaults are Keras's; see LSTM for dropout, activations and return_state.
    Source: https://keras.io/api/layers/recurrent_layers/gru/
    """

    gates = 3
    recurrence = GRURecurrence

    @old_spellings(**OLD_SPELLINGS_OF_GATES)
    def __init__(
        self,
        units: Whole,
        activation: Identifier = "tanh",
        recurrent_activation: Identifier = "sigmoid",
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
        seed: SupportsIndex | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        **kwargs: Unpack[RecurrentOptions],
    ):
        super().__init__(**given(locals(), "reset_after"))
        self.reset_after = check_flag("reset_after", reset_after)

    def _bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    @property
    def cell(self):
        return "gru" if self.reset_after else "gru_reset_before"

    def get_config(self):
        return {**super().get_config(), "reset_after": self.reset_after}


def CuDNNGRU(units: Whole, **options: Any) -> GRU:
    """A GRU with reset_after, the activations tanh and sigmoid, a bias and no dropout, as Keras 2
    had it. Errors: TypeError for the arguments that choose these."""
    check_cudnn_options("CuDNNGRU", options)
    return GRU(units, **options)
