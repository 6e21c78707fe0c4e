"""LSTM: Hochreiter & Schmidhuber 1997, with forget gates (Gers et al. 2000)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn.layers.base import check_flag
from fastrnn.layers.legacy import old_spellings
from fastrnn.layers.recurrence import LSTMRecurrence
from fastrnn.layers.recurrent import OLD_SPELLINGS_OF_GATES, OneCell, check_cudnn_options, given

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, RecurrentOptions, Unpack, Whole


def with_forget_bias(unit_forget_bias, kwargs):
    """unit_forget_bias, or what Keras 1's forget_bias_init says, which is taken out of kwargs."""
    forget = kwargs.pop("forget_bias_init", None)
    if forget not in (None, "one"):
        warnings.warn(
            f"forget_bias_init: expected 'one', received {forget!r}, which is ignored; "
            "unit_forget_bias says whether the bias of the forget gate starts at 1",
            stacklevel=4,
        )
    return check_flag("unit_forget_bias", unit_forget_bias) or forget == "one"


class LSTM(OneCell):
    """(batch, timesteps, features) -> (batch, units), or (batch, timesteps, units) with
    return_sequences; float32. Weights, gates in the order i, f, c, o: kernel (features, 4 units),
    recurrent_kernel (units, 4 units), bias (4 units).

    Arguments and defaults are Keras's; unroll, use_cudnn and implementation are accepted and
    change nothing. dropout and recurrent_dropout draw one mask per sequence; with recurrent_dropout
    each gate has its own. The activations of fastrnn._engine.ACTIVATIONS run in the fused kernel,
    others and recurrent_dropout in NumPy. With return_state the outputs are the list [output, h,
    c]; no layer may follow. Source: https://keras.io/api/layers/recurrent_layers/lstm/
    """

    cell = "lstm"
    gates = 4
    states_of = ("h", "c")
    recurrence = LSTMRecurrence

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
        unroll: bool = False,
        use_cudnn: Any = "auto",
        **kwargs: Unpack[RecurrentOptions],
    ):
        unit_forget_bias = with_forget_bias(unit_forget_bias, kwargs)
        super().__init__(**given(locals(), "unit_forget_bias"))
        self.unit_forget_bias = unit_forget_bias

    def _initial_bias(self, shape, dtype="float32"):
        initial, units = self._bias.initializer, self.units
        if not self.unit_forget_bias:
            return initial(shape, dtype=dtype)
        parts = [initial((units,), dtype=dtype), np.ones(units, dtype)]
        return np.concatenate([*parts, initial((2 * units,), dtype=dtype)])

    def get_config(self):
        return {**super().get_config(), "unit_forget_bias": self.unit_forget_bias}


def CuDNNLSTM(units: Whole, **options: Any) -> LSTM:
    """An LSTM with the activations tanh and sigmoid, a bias and no dropout, as Keras 2 had it.

    Errors: TypeError for the arguments that choose these.
    """
    check_cudnn_options("CuDNNLSTM", options)
    return LSTM(units, **options)
