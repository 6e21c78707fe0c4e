"""Activation functions with options, or weights, as layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from fastrnn import activations
from fastrnn.layers.base import Layer, WeightOptions, is_number
from fastrnn.layers.legacy import old_spellings

if TYPE_CHECKING:
    from fastrnn._types import (
        Axes,
        Identifier,
        Initializer,
        LayerOptions,
        LeakyOptions,
        PReLUOptions,
        Unpack,
    )


def check_least(name, value, least=0.0):
    """`value` as a float; raise unless it is a number >= least."""
    if not is_number(value) or not least <= value < math.inf:
        raise ValueError(f"{name}: expected a number >= {least}, received {value!r}")
    return float(value)


class _Function(Layer):
    """`function` with keyword arguments `options`, which are also the layer's config."""

    supports_masking = True
    _hidden_names = Layer._hidden_names | {"function", "options"}

    @property
    def options(self) -> dict:
        return {name: getattr(self, name) for name in self._option_names}

    @options.setter
    def options(self, options):
        self._option_names = tuple(options)
        vars(self).update(options)

    def forward(self, x, run, mask=None):
        y = np.ascontiguousarray(type(self).function(x, **self.options), np.float32)
        run.saved[self] = x, y
        return y

    def backward(self, dy, run, need_dx=True):
        gradient = activations.gradient_of(type(self).function)
        return np.ascontiguousarray(gradient(*run.saved[self], dy, **self.options), np.float32)

    def get_config(self):
        return {**super().get_config(), **self.options}


class ReLU(_Function):
    """x above `threshold`, cut at `max_value`; negative_slope * (x - threshold) below.

    Source: https://keras.io/api/layers/activation_layers/relu/
    """

    function = activations.relu

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        self.options = {
            "max_value": None if max_value is None else check_least("max_value", max_value),
            "negative_slope": check_least("negative_slope", negative_slope),
            "threshold": check_least("threshold", threshold),
        }


class LeakyReLU(_Function):
    """x where positive, negative_slope * x elsewhere.

    Source: https://keras.io/api/layers/activation_layers/leaky_relu/
    """

    function = activations.leaky_relu

    @old_spellings(alpha="negative_slope")
    def __init__(self, negative_slope: float = 0.3, **kwargs: Unpack[LeakyOptions]):
        super().__init__(**kwargs)
        self.options = {"negative_slope": check_least("negative_slope", negative_slope)}


class ELU(_Function):
    """x where positive, alpha * (exp(x) - 1) elsewhere; Clevert et al., 2016.

    Source: https://keras.io/api/layers/activation_layers/elu/
    """

    function = activations.elu

    def __init__(self, alpha: float = 1.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.options = {"alpha": check_least("alpha", alpha, -np.inf)}


class Softmax(_Function):
    """exp(x) over its sum along `axis`, a number or a list of several.

    A mask, of as many axes as the inputs or fewer, leaves elements out (as Keras, which refuses
    that of time steps where it does not fit the last axes).
    Source: https://keras.io/api/layers/activation_layers/softmax/
    """

    function = activations.softmax
    _positional = ("mask",)

    def check_mask(self, mask, shape):
        """Any that broadcasts will do (see forward)."""

    def __init__(self, axis: Axes = -1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        if not axes or any(isinstance(a, bool) or not hasattr(a, "__index__") for a in axes):
            raise ValueError(f"axis: expected a whole number or several, received {axis!r}")
        self.options = {"axis": axes if isinstance(axis, (list, tuple)) else axis}

    @property
    def _axis(self):
        axis = self.options["axis"]
        return tuple(axis) if isinstance(axis, list) else axis

    def check_input_shape(self, shape):
        axes = np.atleast_1d(self.options["axis"])
        if any(not -len(shape) <= axis < len(shape) for axis in axes):
            self.reject_shape(f"with an axis {self.options['axis']}", shape)

    def forward(self, x, run, mask=None):
        if mask is not None:
            try:
                mask = np.broadcast_to(mask, x.shape)
            except ValueError:
                raise ValueError(
                    f"mask: expected a shape that broadcasts to {x.shape}, received {mask.shape}"
                ) from None
            x = np.where(mask, x, np.float32(-1e9))
        y = np.ascontiguousarray(activations.softmax(x, self._axis), np.float32)
        if mask is not None:
            y = np.where(mask, y, np.float32(0))  # else equal parts where all is left out
        run.saved[self] = mask, y
        return y

    def backward(self, dy, run, need_dx=True):
        mask, y = run.saved[self]
        dx = activations.gradient_of(activations.softmax)(None, y, dy, self._axis)
        return np.ascontiguousarray(dx if mask is None else np.where(mask, dx, 0), np.float32)


class PReLU(Layer):
    """x where positive, alpha * x elsewhere, alpha being learned; He et al., 2015.

    Weight: alpha, of the shape of one sample, 1 on the axes in `shared_axes` (the first is 1).
    Source: https://keras.io/api/layers/activation_layers/prelu/
    """

    supports_masking = True

    alpha_initializer, alpha_regularizer, alpha_constraint = WeightOptions.properties("_alpha")

    @old_spellings(init="alpha_initializer")
    def __init__(
        self,
        alpha_initializer: Initializer = "zeros",
        alpha_regularizer: Identifier = None,
        alpha_constraint: Identifier = None,
        shared_axes: Sequence[SupportsIndex] | None = None,
        **kwargs: Unpack[PReLUOptions],
    ):
        super().__init__(**kwargs)
        self._alpha = WeightOptions("alpha", alpha_initializer, alpha_regularizer, alpha_constraint)
        if shared_axes is not None:
            shared_axes = shared_axes if isinstance(shared_axes, (list, tuple)) else [shared_axes]
            shared_axes = list(shared_axes)
            if any(not hasattr(axis, "__index__") or axis < 1 for axis in shared_axes):
                raise ValueError(f"shared_axes: expected numbers >= 1, received {shared_axes}")
        self.shared_axes = shared_axes
        self.alpha = None

    @property
    def fixed_axes(self):
        rank = len(self.input_shape)
        return [axis for axis in range(1, rank) if axis not in (self.shared_axes or ())]

    def check_input_shape(self, shape):
        shared = self.shared_axes or []
        if any(size is None and a not in shared for a, size in enumerate(shape[1:], 1)):
            self.reject_shape(f"with known sizes on all axes but {[0, *shared]}", shape)
        if any(axis >= len(shape) for axis in shared):
            self.reject_shape(f"with the axes {shared}, which are shared", shape)

    def create_weights(self, input_shape):
        shared = self.shared_axes or ()
        shape = (1 if axis in shared else n for axis, n in enumerate(input_shape[1:], 1))
        self.alpha = self._alpha.add_to(self, "alpha", tuple(shape))

    def forward(self, x, run, mask=None):
        run.saved[self] = x
        return np.maximum(x, 0) + self.alpha.value * np.minimum(x, 0)

    def backward(self, dy, run, need_dx=True):
        x = run.saved[self]
        axes = (0, *(self.shared_axes or ()))
        dalpha = (dy * np.minimum(x, 0)).sum(axis=axes)
        self.gradient_array(self.alpha, run)[...] = dalpha.reshape(self.alpha.shape)
        if not need_dx:
            return None
        return np.where(x > 0, dy, np.where(x < 0, self.alpha.value * dy, 0))

    def get_config(self):
        return {**super().get_config(), **self._alpha.config(), "shared_axes": self.shared_axes}
