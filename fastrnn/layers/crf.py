"""CRF: a linear-chain conditional random field, which tags sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine, activations
from fastrnn.layers.base import WeightOptions, check_flag, check_size
from fastrnn.layers.dense import Dense
from fastrnn.layers.recurrent import OfSequences

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, LayerOptions, Unpack, Whole


class CRF(OfSequences):
    """(batch, timesteps, features) -> (batch, timesteps, units), float32: the path of tags with the
    highest score, one-hot (`test_mode="viterbi"`, the default), or the probability of each tag in
    each step ("marginal").

    The score of a path is the sum of activation(x kernel + bias) of its tags, of chain_kernel[i, j]
    where tag j follows tag i, of left_boundary of the first tag and right_boundary of the last.
    Masked steps take no part, wherever they are: the chain goes on behind them, and the path has
    the first tag there. Weights: kernel (features, units), chain_kernel (units, units), bias,
    left_boundary and right_boundary (units); use_kernel=False: the inputs are the scores.

    A model that ends in it is compiled with its loss and metric,

        model.compile("adam", loss=crf.loss, metrics=[crf.accuracy])

    or "crf" and "accuracy", and trained with class numbers, (batch, timesteps) or (batch,
    timesteps, 1), or one-hot targets. sparse_target says nothing more and unroll does nothing.

    Errors: ValueError for learn_mode="marginal", and in training with other losses.
    Source: https://github.com/keras-team/keras-contrib/blob/master/keras_contrib/layers/crf.py
    """

    supports_masking = True
    fixed_axes = (-1,)
    loss = loss_function = "crf_loss"
    accuracy = viterbi_acc = "crf_viterbi_accuracy"

    kernel_initializer, kernel_regularizer, kernel_constraint = WeightOptions.properties("_kernel")
    chain_initializer, chain_regularizer, chain_constraint = WeightOptions.properties("_chain")
    bias_initializer, bias_regularizer, bias_constraint = WeightOptions.properties("_bias")
    boundary_initializer, boundary_regularizer, boundary_constraint = WeightOptions.properties(
        "_boundary"
    )

    def __init__(
        self,
        units: Whole,
        learn_mode: str = "join",
        test_mode: str | None = None,
        sparse_target: bool = False,
        use_boundary: bool = True,
        use_bias: bool = True,
        activation: Identifier = "linear",
        kernel_initializer: Initializer = "glorot_uniform",
        chain_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        boundary_initializer: Initializer = "zeros",
        kernel_regularizer: Identifier = None,
        chain_regularizer: Identifier = None,
        boundary_regularizer: Identifier = None,
        bias_regularizer: Identifier = None,
        kernel_constraint: Identifier = None,
        chain_constraint: Identifier = None,
        boundary_constraint: Identifier = None,
        bias_constraint: Identifier = None,
        use_kernel: bool = True,
        unroll: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.units = check_size("units", units)
        if learn_mode != "join":
            raise ValueError(
                f"learn_mode: expected 'join', the likelihood of whole paths, received "
                f"{learn_mode!r}"
            )
        if test_mode not in (None, "viterbi", "marginal"):
            raise ValueError(f"test_mode: expected 'viterbi' or 'marginal', received {test_mode!r}")
        self.learn_mode, self.test_mode = learn_mode, test_mode or "viterbi"
        self.sparse_target = check_flag("sparse_target", sparse_target)
        self.use_boundary = check_flag("use_boundary", use_boundary)
        self.use_bias = check_flag("use_bias", use_bias)
        self.use_kernel = check_flag("use_kernel", use_kernel)
        self.unroll = check_flag("unroll", unroll)
        self._kernel = WeightOptions(
            "kernel", kernel_initializer, kernel_regularizer, kernel_constraint
        )
        self._chain = WeightOptions("chain", chain_initializer, chain_regularizer, chain_constraint)
        self._bias = WeightOptions("bias", bias_initializer, bias_regularizer, bias_constraint)
        self._boundary = WeightOptions(
            "boundary", boundary_initializer, boundary_regularizer, boundary_constraint
        )
        self._dense = Dense(self.units, activation, self.use_bias, name=f"{self.name}_scores")
        self.activation = self._dense.activation
        self.kernel = self.chain_kernel = self.bias = None
        self.left_boundary = self.right_boundary = None

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        if not self.use_kernel and shape[2] != self.units:
            self.reject_shape(f"(batch, timesteps, {self.units}), the scores", shape)

    def create_weights(self, input_shape):
        tags, dense = self.units, self._dense
        if self.use_kernel:
            self.kernel = self._kernel.add_to(self, "kernel", (input_shape[-1], tags))
        self.chain_kernel = self._chain.add_to(self, "chain_kernel", (tags, tags))
        if self.use_kernel and self.use_bias:
            self.bias = self._bias.add_to(self, "bias", (tags,))
        if self.use_boundary:
            self.left_boundary = self._boundary.add_to(self, "left_boundary", (tags,))
            self.right_boundary = self._boundary.add_to(self, "right_boundary", (tags,))
        dense.kernel, dense.bias = self.kernel, self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.units)

    def forward(self, x, run, mask=None):
        """The path or the probabilities; for the loss, in run.logits_of, all that they depend on:
        rows of the scores of all steps, then those of chain_kernel, left and right boundary."""
        steps, tags = x.shape[0] * x.shape[1], self.units
        z = run.empty(self, "z", (steps + tags + 2, tags))
        scores = self._dense.forward(x, run) if self.use_kernel else x
        z[:steps] = scores.reshape(steps, tags)
        z[steps:-2] = self.chain_kernel.value
        z[-2] = self.left_boundary.value if self.use_boundary else 0
        z[-1] = self.right_boundary.value if self.use_boundary else 0
        fused = self in run.logits_of
        run.saved[self] = x.shape if fused else None
        if fused:
            return z
        y = run.empty(self, "y", (*x.shape[:2], tags))
        if mask is not None:
            mask = np.ascontiguousarray(mask)
        if self.test_mode == "viterbi":
            _engine.crf_path(y, z, mask)
            return y
        dz = run.empty(self, "probabilities", z.shape)
        _engine.crf_loss(z, *x.shape[:2], mask=mask, dz=dz)
        return dz[:steps].reshape(y.shape)

    def backward(self, dz, run, need_dx=True):
        shape = run.saved[self]
        if shape is None:
            raise ValueError(
                f"layer {self.name!r} (CRF): expected a model that ends in it to be trained with "
                "loss='crf', found that another loss or layer depends on its path of tags, which "
                "has no gradient"
            )
        steps = shape[0] * shape[1]
        self.gradient_array(self.chain_kernel, run)[...] = dz[steps:-2]
        if self.use_boundary:
            self.gradient_array(self.left_boundary, run)[...] = dz[-2]
            self.gradient_array(self.right_boundary, run)[...] = dz[-1]
        dy = dz[:steps].reshape(*shape[:2], self.units)
        if not self.use_kernel:
            return dy if need_dx else None
        return self._dense.backward(dy, run, need_dx)

    def get_config(self):
        config = {
            **super().get_config(),
            "units": self.units,
            "learn_mode": self.learn_mode,
            "test_mode": self.test_mode,
            "use_boundary": self.use_boundary,
            "use_bias": self.use_bias,
            "sparse_target": self.sparse_target,
            "use_kernel": self.use_kernel,
            "activation": activations.serialize(self.activation),
        }
        for options in (self._kernel, self._chain, self._bias, self._boundary):
            config |= options.config()
        return config
