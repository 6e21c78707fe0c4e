"""UnitNormalization; RMSNormalization: Zhang & Sennrich 2019."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastrnn import _engine
from fastrnn.checks import number
from fastrnn.layers.base import Layer

if TYPE_CHECKING:
    from fastrnn._types import Axes, LayerOptions, Unpack

_GREATEST = np.float32(1e12)  # what a short vector is multiplied by, at most


class _Normalization(Layer):
    """Base of layers that normalise over `axis`, a number or several, but not the batch."""

    _hidden_names = Layer._hidden_names | {"axes"}

    def __init__(self, axis: Axes = -1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        axes = self._listed()
        if not axes or any(isinstance(a, bool) or not hasattr(a, "__index__") for a in axes):
            raise TypeError(f"axis: expected a whole number or several, received {axis!r}")

    def _listed(self):
        return self.axis if isinstance(self.axis, list) else [self.axis]

    def axes(self, rank):
        """The axes counted from the front, in order."""
        return tuple(sorted(axis % rank for axis in self._listed()))

    def check_input_shape(self, shape):
        rank = len(shape)
        if any(not -rank <= axis < rank or axis % rank == 0 for axis in self._listed()):
            self.reject_shape(f"with axis {self.axis} after the batch", shape)
        if len(set(self.axes(rank))) < len(self._listed()):
            raise ValueError(f"axis: expected each once, received {self.axis} for shape {shape}")

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}


class UnitNormalization(_Normalization):
    """Divides by the L2 norm over `axis`, a number or several; a norm below 1e-12 counts as that.

    Passes a mask on.
    Source: https://keras.io/api/layers/normalization_layers/unit_normalization/
    """

    supports_masking = True

    def forward(self, x, run, mask=None):
        square = np.square(x).sum(axis=self.axes(x.ndim), keepdims=True)
        with np.errstate(divide="ignore"):
            inverse = np.minimum(1 / np.sqrt(square), _GREATEST)
        y = run.empty(self, "y", x.shape)
        np.multiply(x, inverse, out=y)
        run.saved[self] = y, inverse
        return y

    def backward(self, dy, run, need_dx=True):
        if not need_dx:
            return None
        y, inverse = run.saved[self]
        along = (dy * y).sum(axis=self.axes(dy.ndim), keepdims=True)
        along *= inverse < _GREATEST
        return (dy - y * along) * inverse


class RMSNormalization(_Normalization):
    """x / sqrt(mean(x ** 2) + epsilon) * scale over `axis`, the last or several last ones.

    Weights, of the sizes of these axes: scale. Drops a mask.
    Source: https://keras.io/api/layers/normalization_layers/rms_normalization/
    """

    def __init__(self, axis: Axes = -1, epsilon: float = 1e-6, **kwargs: Unpack[LayerOptions]):
        super().__init__(axis, **kwargs)
        self.epsilon = float(number("epsilon", epsilon, ">= 0"))
        self.scale = None

    @property
    def fixed_axes(self):
        return self._listed()

    def check_input_shape(self, shape):
        super().check_input_shape(shape)
        axes = self.axes(len(shape))
        if axes[0] != len(shape) - len(axes):
            raise ValueError(
                f"axis: expected the last of the axes, or several last ones, received {self.axis} "
                f"for shape {shape}"
            )
        if None in shape[axes[0] :]:
            self.reject_shape(f"with known sizes on axis {self.axis}", shape)

    def create_weights(self, input_shape):
        self.axis = sorted(self._listed())  # as Keras
        self.scale = self._new_weight("scale", input_shape[-len(self.axis) :], "ones")

    def forward(self, x, run, mask=None):
        rows = x.reshape(-1, self.scale.value.size)
        square = np.einsum("ij,ij->i", rows, rows) / np.float32(rows.shape[1])
        inverse = (1 / np.sqrt(square + np.float32(self.epsilon)))[:, None]
        normal = np.multiply(rows, inverse, out=run.empty(self, "normal", rows.shape))
        run.saved[self] = normal, inverse
        y = run.empty(self, "y", rows.shape)
        return np.multiply(normal, self.scale.value.ravel(), out=y).reshape(x.shape)

    def backward(self, dy, run, need_dx=True):
        normal, inverse = run.saved[self]
        rows = dy.reshape(normal.shape)
        dscale = self.gradient_array(self.scale, run).reshape(-1)
        mean, inverse_deviation = np.zeros_like(rows[0]), np.ones_like(rows[0])
        _engine.batch_norm_backward(None, dscale, None, rows, normal, mean, inverse_deviation)
        if not need_dx:
            return None
        dx = np.multiply(rows, self.scale.value.ravel(), out=run.empty(self, "dx", rows.shape))
        along = np.einsum("ij,ij->i", dx, normal)[:, None] / np.float32(rows.shape[1])
        dx -= normal * along
        dx *= inverse
        return dx.reshape(dy.shape)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
