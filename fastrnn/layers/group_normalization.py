"""GroupNormalization: Wu & He 2018."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn.checks import number
from fastrnn.layers.base import Layer, WeightOptions, check_flag, check_size

if TYPE_CHECKING:
    from fastrnn._types import Identifier, Initializer, LayerOptions, Unpack, Whole


class GroupNormalization(Layer):
    """Normalises the channels, on `axis`, in `groups` of as many each: over all of a sample's
    elements in a group, (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    groups: -1 makes each channel a group. Weights (channels): gamma (if scale), beta (if center).
    Passes a mask on, and does not regard it.
    Source: https://keras.io/api/layers/normalization_layers/group_normalization/
    """

    supports_masking = True

    beta_initializer, beta_regularizer, beta_constraint = WeightOptions.properties("_beta")
    gamma_initializer, gamma_regularizer, gamma_constraint = WeightOptions.properties("_gamma")

    def __init__(
        self,
        groups: Whole = 32,
        axis: Whole = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Initializer = "zeros",
        gamma_initializer: Initializer = "ones",
        beta_regularizer: Identifier = None,
        gamma_regularizer: Identifier = None,
        beta_constraint: Identifier = None,
        gamma_constraint: Identifier = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        each = hasattr(groups, "__index__") and int(groups) == -1
        self.groups = -1 if each else check_size("groups", groups)
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            raise ValueError(f"axis: expected a whole number, received {axis!r}")
        self.axis = int(axis)
        self.epsilon = float(number("epsilon", epsilon, ">= 0"))
        self.center, self.scale = check_flag("center", center), check_flag("scale", scale)
        self._beta = WeightOptions("beta", beta_initializer, beta_regularizer, beta_constraint)
        self._gamma = WeightOptions("gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.gamma = self.beta = None

    @property
    def fixed_axes(self):
        return (self.axis,)

    def check_input_shape(self, shape):
        rank = len(shape)
        axis = self.axis % rank if -rank <= self.axis < rank else 0
        if axis == 0 or shape[axis] is None:
            self.reject_shape(f"with a known size on axis {self.axis}, after the batch", shape)
        if self.groups != -1 and shape[axis] % self.groups:
            self.reject_shape(f"with a multiple of {self.groups} channels on axis {axis}", shape)

    def create_weights(self, input_shape):
        channels = input_shape[self.axis]
        if self.groups == -1:
            self.groups = channels  # as Keras
        if self.scale:
            self.gamma = self._gamma.add_to(self, "gamma", (channels,))
        if self.center:
            self.beta = self._beta.add_to(self, "beta", (channels,))

    def _channels_second(self, x):
        """x as (batch, channels, n)."""
        moved = np.ascontiguousarray(np.moveaxis(x, self.axis, 1))
        return moved.reshape(*moved.shape[:2], -1)

    def _back(self, y, shape):
        """The inverse of _channels_second."""
        axis = self.axis % len(shape)
        rest = [size for n, size in enumerate(shape) if n not in (0, axis)]
        return np.ascontiguousarray(np.moveaxis(y.reshape(*y.shape[:2], *rest), 1, axis))

    def forward(self, x, run, mask=None):
        channels = self._channels_second(x)
        rows = channels.reshape(len(x) * self.groups, -1)
        normal = run.empty(self, "normal", rows.shape)
        np.subtract(rows, rows.mean(axis=1, keepdims=True), out=normal)
        variance = np.einsum("ij,ij->i", normal, normal) / np.float32(rows.shape[1])
        inverse = (1 / np.sqrt(variance + np.float32(self.epsilon)))[:, None]
        normal *= inverse
        run.saved[self] = normal, inverse
        y = run.empty(self, "y", channels.shape)
        gamma = 1 if self.gamma is None else self.gamma.value[:, None]
        np.multiply(normal.reshape(channels.shape), gamma, out=y)
        if self.beta is not None:
            y += self.beta.value[:, None]
        return self._back(y, x.shape)

    def backward(self, dy, run, need_dx=True):
        normal, inverse = run.saved[self]
        shape, dy = dy.shape, self._channels_second(dy)
        if self.gamma is not None:
            sums = (dy * normal.reshape(dy.shape)).sum(axis=2)
            sums.sum(axis=0, out=self.gradient_array(self.gamma, run))
        if self.beta is not None:
            dy.sum(axis=2).sum(axis=0, out=self.gradient_array(self.beta, run))
        if not need_dx:
            return None
        dx = run.empty(self, "dx", dy.shape)
        np.multiply(dy, 1 if self.gamma is None else self.gamma.value[:, None], out=dx)
        dx = dx.reshape(normal.shape)
        along = np.einsum("ij,ij->i", dx, normal)[:, None] / np.float32(dx.shape[1])
        dx -= dx.mean(axis=1, keepdims=True)
        dx -= normal * along
        dx *= inverse
        return self._back(dx.reshape(dy.shape), shape)

    def get_config(self):
        return {
            **super().get_config(),
            "groups": self.groups,
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **self._beta.config(),
            **self._gamma.config(),
        }
