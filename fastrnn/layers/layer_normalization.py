"""LayerNormalization: Ba et al. 2016."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine
from fastrnn.checks import number
from fastrnn.layers.base import Layer, WeightOptions, check_flag

if TYPE_CHECKING:
    from fastrnn._types import Axes, Identifier, Initializer, LayerOptions, Unpack


class LayerNormalization(Layer):
    """Normalises each sample over `axis` (a number or several): (x - mean) / sqrt(variance +
    epsilon) * gamma + beta.

    Weights, of the sizes of these axes: gamma (if scale), beta (if center). rms_scaling, deprecated
    in Keras, divides x itself by that root, with a gamma and without beta. Passes a mask on.
    Source: https://keras.io/api/layers/normalization_layers/layer_normalization/
    """

    supports_masking = True

    beta_initializer, beta_regularizer, beta_constraint = WeightOptions.properties("_beta")
    gamma_initializer, gamma_regularizer, gamma_constraint = WeightOptions.properties("_gamma")

    def __init__(
        self,
        axis: Axes = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Initializer = "zeros",
        gamma_initializer: Initializer = "ones",
        beta_regularizer: Identifier = None,
        gamma_regularizer: Identifier = None,
        beta_constraint: Identifier = None,
        gamma_constraint: Identifier = None,
        rms_scaling: bool = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        if not axes or any(isinstance(a, bool) or not hasattr(a, "__index__") for a in axes):
            raise TypeError(f"axis: expected a whole number or several, received {axis!r}")
        self.axis = axes if isinstance(axis, (list, tuple)) else axis
        self.fixed_axes = sorted(axes)
        self.epsilon = float(number("epsilon", epsilon, ">= 0"))
        self.center, self.scale = check_flag("center", center), check_flag("scale", scale)
        self.rms_scaling = check_flag("rms_scaling", rms_scaling)
        self._beta = WeightOptions("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._gamma = WeightOptions("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.gamma = self.beta = None

    def check_input_shape(self, shape):
        rank, axes = len(shape), self.fixed_axes
        if any(not -rank <= axis < rank or shape[axis] is None for axis in axes):
            self.reject_shape(f"with known sizes on axis {self.axis}", shape)
        if len({axis % rank for axis in axes}) < len(axes):
            raise ValueError(f"axis: expected each once, received {self.axis} for shape {shape}")

    def create_weights(self, input_shape):
        shape = tuple(input_shape[axis] for axis in self.fixed_axes)
        if self.scale or self.rms_scaling:
            self.gamma = self._gamma.add_to(self, "gamma", shape)
        if self.center and not self.rms_scaling:
            self.beta = self._beta.add_to(self, "beta", shape)

    def _axes(self, rank):
        """The normalised axes, counted from the front, and where they go to be the last."""
        axes = sorted(axis % rank for axis in self.fixed_axes)
        return axes, range(rank - len(axes), rank)

    def _rows(self, x):
        """x as (rows, n), the normalised axes being the columns."""
        axes, last = self._axes(x.ndim)
        n = math.prod(x.shape[axis] for axis in axes)
        return np.ascontiguousarray(np.moveaxis(x, axes, last)).reshape(-1, n)

    def _back(self, rows, shape):
        """The inverse of _rows."""
        axes, last = self._axes(len(shape))
        kept = [size for axis, size in enumerate(shape) if axis not in axes]
        moved = rows.reshape(*kept, *(shape[axis] for axis in axes))
        return np.ascontiguousarray(np.moveaxis(moved, last, axes))

    def forward(self, x, run, mask=None):
        rows = self._rows(x)
        n = np.float32(rows.shape[1])
        centered = run.empty(self, "centered", rows.shape)
        np.subtract(rows, rows.mean(axis=1, keepdims=True), out=centered)
        variance = np.einsum("ij,ij->i", centered, centered) / n
        inverse = (1 / np.sqrt(variance + np.float32(self.epsilon)))[:, None]
        centered *= inverse
        scaled = centered
        if self.rms_scaling:
            scaled = np.multiply(rows, inverse, out=run.empty(self, "scaled", rows.shape))
        y = run.empty(self, "y", rows.shape)
        np.multiply(scaled, 1 if self.gamma is None else self.gamma.value.ravel(), out=y)
        if self.beta is not None:
            y += self.beta.value.ravel()
        run.saved[self] = centered, scaled, inverse
        return self._back(y, x.shape)

    def backward(self, dy, run, need_dx=True):
        centered, scaled, inverse = run.saved[self]
        shape, dy = dy.shape, self._rows(dy)
        if self.gamma is not None or self.beta is not None:
            sums = [
                None if weight is None else self.gradient_array(weight, run).reshape(-1)
                for weight in (self.gamma, self.beta)
            ]
            mean, inverse_deviation = np.zeros_like(dy[0]), np.ones_like(dy[0])
            _engine.batch_norm_backward(None, *sums, dy, scaled, mean, inverse_deviation)
        if not need_dx:
            return None
        dx = run.empty(self, "dx", dy.shape)
        np.multiply(dy, 1 if self.gamma is None else self.gamma.value.ravel(), out=dx)
        n = np.float32(dy.shape[1])
        along = np.einsum("ij,ij->i", dx, scaled)[:, None] / n
        if not self.rms_scaling:
            dx -= dx.mean(axis=1, keepdims=True)
        dx -= centered * along
        dx *= inverse
        return self._back(dx, shape)

    def get_config(self):
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "rms_scaling": self.rms_scaling,
            **self._beta.config(),
            **self._gamma.config(),
        }
