"""Layers without arithmetic of their own: inputs, shapes, masks, activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from fastrnn import activations, regularizers
from fastrnn.checks import number
from fastrnn.layers.base import (
    Layer,
    activated_shape,
    check_activation,
    check_shape,
    check_size,
    checked_sizes,
)
from fastrnn.layers.operation import OPERATIONS
from fastrnn.layers.spatial import check_data_format
from fastrnn.layers.symbolic import Symbolic, source

if TYPE_CHECKING:
    from fastrnn._types import (
        DataFormat,
        Identifier,
        InputLayerOptions,
        LayerOptions,
        Options,
        Shape,
        TensorOptions,
        Unpack,
        Whole,
    )


class InputLayer(Layer):
    """Says the shape of a Sequential's inputs; `shape` is without the batch.

    Source: https://keras.io/api/layers/core_layers/input/
    """

    supports_masking = True

    def __init__(
        self,
        shape: Shape | None = None,
        batch_size: SupportsIndex | None = None,
        dtype: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        batch_shape: Sequence[SupportsIndex | None] | None = None,
        input_shape: Shape | None = None,
        name: str | None = None,
        **kwargs: Unpack[InputLayerOptions],
    ):
        if sparse or ragged:
            raise ValueError("sparse and ragged inputs are not supported: expected False")
        shape = shape if shape is not None else input_shape
        if batch_shape is None:
            batch_shape = kwargs.pop("batch_input_shape", None)
        if (shape is None) == (batch_shape is None):
            raise ValueError(
                "expected one of shape and batch_shape, received "
                f"shape={shape!r} and batch_shape={batch_shape!r}"
            )
        if batch_size is not None and shape is None:
            raise ValueError(
                "batch_size: expected None beside batch_shape, which has it, received "
                f"{batch_size!r}"
            )
        kwargs.pop("optional", None)
        super().__init__(name=name, **kwargs)
        is_text = dtype in (str, bytes, object, np.object_)  # which scripts' tf.string is
        self.dtype = "string" if is_text else dtype or "float32"
        if batch_shape is None:
            batch_shape = (batch_size, *(shape if isinstance(shape, (tuple, list)) else (shape,)))
        self.batch_input_shape = check_shape("shape", batch_shape)
        self.build(self.batch_input_shape)

    @property
    def batch_shape(self):
        return self.batch_input_shape

    @property
    def output_dtype(self):
        return "string" if self.dtype == "string" else "float32"

    def forward(self, x, run, mask=None):
        return x

    def backward(self, dy, run, need_dx=True):
        return dy

    def get_config(self):
        return {
            "batch_shape": self.batch_input_shape,
            "dtype": self.dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
        }


def Input(
    shape: Shape | None = None,
    batch_size: SupportsIndex | None = None,
    dtype: Any = None,
    batch_shape: Sequence[SupportsIndex | None] | None = None,
    name: str | None = None,
    **kwargs: Unpack[TensorOptions],
):
    """What a model gets: its shape, without the batch. The first entry of a Sequential, or the
    inputs of a Model, on which the first layer is called.

    Source: https://keras.io/api/layers/core_layers/input/
    """
    layer = InputLayer(shape, batch_size, dtype, batch_shape=batch_shape, name=name, **kwargs)
    return source(layer, layer.batch_shape)


class Activation(Layer):
    """Applies an activation function. Source: https://keras.io/api/layers/core_layers/activation/"""

    supports_masking = True

    def __init__(self, activation: Identifier, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.activation = check_activation("activation", activation)

    def compute_output_shape(self, input_shape):
        return activated_shape(self.activation, input_shape)

    def forward(self, x, run, mask=None):
        if self in run.logits_of:
            return x
        y = np.ascontiguousarray(self.activation(x), np.float32)
        run.saved[self] = x, y
        return y

    def backward(self, dy, run, need_dx=True):
        if self in run.logits_of:
            return dy
        x, y = run.saved[self]
        gradient = activations.gradient_of(self.activation)(x, y, dy)
        return np.ascontiguousarray(gradient, np.float32)

    def get_config(self):
        return {**super().get_config(), "activation": activations.serialize(self.activation)}


class Identity(Layer):
    """Passes its inputs on. Source: https://keras.io/api/layers/core_layers/identity/"""

    supports_masking = True

    def __init__(self, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)

    def forward(self, x, run, mask=None):
        return x

    def backward(self, dy, run, need_dx=True):
        return dy

    def plan(self, x, steps, run):
        return x


class _Reshaping(Layer):
    """A layer that only gives the same numbers another shape."""

    def forward(self, x, run, mask=None):
        run.saved[self] = x.shape
        return x.reshape(x.shape[0], *self.compute_output_shape(x.shape)[1:])

    def backward(self, dy, run, need_dx=True):
        return dy.reshape(run.saved[self])

    def plan(self, x, steps, run):
        return x.reshape(self.compute_output_shape(x.shape))


class Flatten(_Reshaping):
    """(batch, ...) -> (batch, n); with data_format "channels_first" the channels, on axis 1, come
    last in the order of the numbers.

    Source: https://keras.io/api/layers/reshaping_layers/flatten/
    """

    def __init__(self, data_format: DataFormat = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.data_format = check_data_format(data_format)

    def compute_output_shape(self, input_shape):
        rest = input_shape[1:]
        return (input_shape[0], None if None in rest else math.prod(rest))

    def forward(self, x, run, mask=None):
        if self.data_format == "channels_last" or x.ndim < 3:
            return super().forward(x, run, mask)
        return super().forward(np.ascontiguousarray(np.moveaxis(x, 1, -1)), run, mask)

    def backward(self, dy, run, need_dx=True):
        dx = super().backward(dy, run, need_dx)
        if self.data_format == "channels_last" or dx.ndim < 3:
            return dx
        return np.ascontiguousarray(np.moveaxis(dx, -1, 1))

    def plan(self, x, steps, run):
        if self.data_format == "channels_last" or x.ndim < 3:
            return super().plan(x, steps, run)
        return Layer.plan(self, x, steps, run)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(_Reshaping):
    """(batch, ...) -> (batch, *target_shape), one size of which may be -1.

    Source: https://keras.io/api/layers/reshaping_layers/reshape/
    """

    def __init__(self, target_shape: Sequence[SupportsIndex], **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        target_shape = checked_sizes("target_shape", target_shape)
        if any(size < 1 and size != -1 for size in target_shape) or target_shape.count(-1) > 1:
            raise ValueError(
                f"target_shape: expected sizes >= 1 and at most one -1, received {target_shape}"
            )
        self.target_shape = target_shape

    def compute_output_shape(self, input_shape):
        known = math.prod(size for size in self.target_shape if size != -1)
        if None in input_shape[1:]:
            free = None
        else:
            total = math.prod(input_shape[1:])
            if total % known or (-1 not in self.target_shape and total != known):
                raise ValueError(
                    f"target_shape: {self.target_shape} does not fit input of shape "
                    f"{tuple(input_shape)}"
                )
            free = total // known
        return (input_shape[0], *(free if size == -1 else size for size in self.target_shape))

    def get_config(self):
        return {**super().get_config(), "target_shape": self.target_shape}


class Permute(Layer):
    """Puts the axes after the batch, counted from 1, into the order `dims`.

    Source: https://keras.io/api/layers/reshaping_layers/permute/
    """

    def __init__(self, dims: Sequence[SupportsIndex], **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.dims = checked_sizes("dims", dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"dims: expected a permutation of 1, 2, ..., received {dims!r}")

    def check_input_shape(self, shape):
        if len(shape) != len(self.dims) + 1:
            self.reject_shape(f"with {len(self.dims) + 1} axes", shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(input_shape[axis] for axis in self.dims))

    def forward(self, x, run, mask=None):
        return np.ascontiguousarray(x.transpose(0, *self.dims))

    def backward(self, dy, run, need_dx=True):
        return np.ascontiguousarray(dy.transpose(np.argsort((0, *self.dims))))

    def get_config(self):
        return {**super().get_config(), "dims": self.dims}


class ActivityRegularization(Layer):
    """Passes its inputs on and adds l1 * sum(abs(x)) + l2 * sum(x ** 2), per sample, to the loss.

    Source: https://keras.io/api/layers/regularization_layers/activity_regularization/
    """

    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Unpack[Options]):
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = self.activity_regularizer.l1, self.activity_regularizer.l2

    def forward(self, x, run, mask=None):
        return x

    def backward(self, dy, run, need_dx=True):
        return dy

    def plan(self, x, steps, run):
        return x

    def get_config(self):
        config = super().get_config()
        del config["activity_regularizer"]
        return {**config, "l1": self.l1, "l2": self.l2}


class RepeatVector(Layer):
    """(batch, n) -> (batch, times, n).

    Source: https://keras.io/api/layers/reshaping_layers/repeat_vector/
    """

    def __init__(self, n: Whole, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.n = check_size("n", n)

    def check_input_shape(self, shape):
        if len(shape) != 2:
            self.reject_shape("(batch, features)", shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.n, input_shape[1])

    def forward(self, x, run, mask=None):
        y = run.empty(self, "y", (x.shape[0], self.n, x.shape[1]))
        y[...] = x[:, None]
        return y

    def backward(self, dy, run, need_dx=True):
        return dy.sum(axis=1)

    def get_config(self):
        return {**super().get_config(), "n": self.n}


class Masking(Layer):
    """Masks the time steps whose features all equal mask_value, and sets them to zero.

    Source: https://keras.io/api/layers/core_layers/masking/
    """

    _makes_mask = True
    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        self.mask_value = float(number("mask_value", mask_value))

    def check_input_shape(self, shape):
        if len(shape) < 2:
            self.reject_shape("(batch, timesteps, ...)", shape)

    def compute_mask(self, inputs, mask=None):
        if isinstance(inputs, Symbolic):
            return OPERATIONS["Any"](axis=-1)(inputs != self.mask_value)
        x, value = np.asarray(inputs), np.float32(self.mask_value)
        kept = np.asarray(x[..., 0] != value)
        doubtful = np.flatnonzero(~kept)  # for most steps the first feature tells
        steps = x.reshape(-1, x.shape[-1]).take(doubtful, axis=0)
        kept.reshape(-1)[doubtful] = (steps != value).any(axis=-1)
        return kept

    def forward(self, x, run, mask=None):
        run.saved[self] = x
        if self.mask_value == 0:
            return x  # masked steps are zero already
        y = run.empty(self, "y", x.shape)
        np.multiply(x, self.compute_mask(x)[..., None], out=y)
        return y

    def backward(self, dy, run, need_dx=True):
        return dy * self.compute_mask(run.saved[self])[..., None]

    def get_config(self):
        return {**super().get_config(), "mask_value": self.mask_value}
