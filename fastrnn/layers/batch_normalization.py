"""BatchNormalization: Ioffe & Szegedy 2015."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine, initializers
from fastrnn.checks import number
from fastrnn.layers.base import Layer, WeightOptions, check_flag, get_named
from fastrnn.layers.legacy import old_spellings

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, NormalizationOptions, Unpack, Whole


class BatchNormalization(Layer):
    """Normalises each channel over the batch in training, by moving averages otherwise.

    Weights (channels): gamma, beta, then moving_mean, moving_variance, which training moves by
    `momentum` and the optimizer leaves alone. A mask keeps its steps out of the statistics.
    Source: https://keras.io/api/layers/normalization_layers/batch_normalization/
    """

    supports_masking = True
    batch_dependent = True
    _hidden_names = Layer._hidden_names | {"scale_and_offset"}

    beta_initializer, beta_regularizer, beta_constraint = WeightOptions.properties("_beta")
    gamma_initializer, gamma_regularizer, gamma_constraint = WeightOptions.properties("_gamma")

    @old_spellings(beta_init="beta_initializer", gamma_init="gamma_initializer")
    def __init__(
        self,
        axis: Whole = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Initializer = "zeros",
        gamma_initializer: Initializer = "ones",
        moving_mean_initializer: Initializer = "zeros",
        moving_variance_initializer: Initializer = "ones",
        beta_regularizer: Identifier = None,
        gamma_regularizer: Identifier = None,
        beta_constraint: Identifier = None,
        gamma_constraint: Identifier = None,
        synchronized: bool = False,
        **kwargs: Unpack[NormalizationOptions],
    ):
        for unused in ("renorm_clipping", "renorm_momentum", "fused"):
            kwargs.pop(unused, None)
        if kwargs.pop("renorm", False):
            raise ValueError("renorm: batch renormalisation is not supported: expected False")
        if mode := kwargs.pop("mode", 0):  # of Keras 1
            raise ValueError(f"mode: expected 0, which normalises by channel, received {mode!r}")
        super().__init__(**kwargs)
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            raise ValueError(f"axis: expected a whole number, received {axis!r}")
        self.axis = int(axis)
        self.momentum = float(number("momentum", momentum, "in [0, 1]"))
        self.epsilon = float(number("epsilon", epsilon, ">= 0"))
        self.center, self.scale = check_flag("center", center), check_flag("scale", scale)
        self._beta = WeightOptions("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._gamma = WeightOptions("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.moving_mean_initializer = get_named(
            initializers, "moving_mean_initializer", moving_mean_initializer
        )
        self.moving_variance_initializer = get_named(
            initializers, "moving_variance_initializer", moving_variance_initializer
        )
        self.synchronized = check_flag("synchronized", synchronized)
        self.gamma = self.beta = self.moving_mean = self.moving_variance = None

    @property
    def fixed_axes(self):
        return (self.axis,)

    def check_input_shape(self, shape):
        if len(shape) < 2 or not -len(shape) <= self.axis < len(shape) or shape[self.axis] is None:
            self.reject_shape(f"with a known size on axis {self.axis}", shape)

    def create_weights(self, input_shape):
        shape = (input_shape[self.axis],)
        if self.scale:
            self.gamma = self._gamma.add_to(self, "gamma", shape)
        if self.center:
            self.beta = self._beta.add_to(self, "beta", shape)
        self.moving_mean = self._new_weight(
            "moving_mean", shape, self.moving_mean_initializer, trainable=False
        )
        self.moving_variance = self._new_weight(
            "moving_variance", shape, self.moving_variance_initializer, trainable=False
        )

    def _channels_last(self, x):
        if self.axis in (-1, x.ndim - 1):
            return x
        return np.ascontiguousarray(np.moveaxis(x, self.axis, -1))

    def _channels_back(self, y):
        if self.axis in (-1, y.ndim - 1):
            return y
        return np.ascontiguousarray(np.moveaxis(y, -1, self.axis))

    def _affine(self, mean, variance):
        inverse = 1 / np.sqrt(variance + np.float32(self.epsilon))
        scale = inverse * self.gamma.value if self.scale else inverse
        offset = -mean * scale
        if self.center:
            offset += self.beta.value
        return inverse, scale, offset

    def scale_and_offset(self):
        """What inference multiplies each channel by, and what it then adds: (channels) each."""
        return self._affine(self.moving_mean.value, self.moving_variance.value)[1:]

    def forward(self, x, run, mask=None):
        x = self._channels_last(x)
        training = run.training and self.trainable
        if training:
            used = None
            if mask is not None and mask.shape == x.shape[:-1]:
                used = np.ascontiguousarray(mask)
            mean = run.empty(self, "mean", self.moving_mean.shape)
            variance = run.empty(self, "variance", self.moving_mean.shape)
            _engine.batch_norm_moments(mean, variance, x, used)
            moved = np.float32(1 - self.momentum)
            run.updates.append((self.moving_mean, moved, mean.copy()))
            run.updates.append((self.moving_variance, moved, variance.copy()))
        else:
            mean, variance, used = self.moving_mean.value, self.moving_variance.value, None
        inverse, scale, offset = self._affine(mean, variance)
        y = run.empty(self, "y", x.shape)
        _engine.batch_norm_forward(y, x, scale, offset)
        if run.keeps:
            run.saved[self] = x, mean, inverse, used, training
        return self._channels_back(y)

    def backward(self, dy, run, need_dx=True):
        x, mean, inverse, used, training = run.saved[self]
        dy = self._channels_last(dy)
        dgamma = self.gradient_array(self.gamma, run) if self.scale else None
        dbeta = self.gradient_array(self.beta, run) if self.center else None
        gamma = self.gamma.value if self.scale else None
        dx = run.empty(self, "dx", x.shape) if need_dx and training else None
        _engine.batch_norm_backward(dx, dgamma, dbeta, dy, x, mean, inverse, gamma, used)
        if need_dx and not training:
            dx = dy * (inverse * gamma if self.scale else inverse)
        return self._channels_back(dx) if need_dx else None

    def get_config(self):
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **self._gamma.config(),
            **self._beta.config(),
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
            "synchronized": self.synchronized,
        }
